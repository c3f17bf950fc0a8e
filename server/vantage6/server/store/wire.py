"""Signals as text for NOTIFY, which takes less than 8,000 bytes at a time: longer messages go in parts.

A part is `<replica>+<text>`, the last one `<replica>.<text>`. The parts of a message are sent by one statement, and
PostgreSQL keeps them together, so a reader needs one buffer for each replica.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable

from google.protobuf.message import DecodeError

from vantage6.api.v1 import event_pb2
from vantage6.server.domain.bus import (
    Attempt,
    Connected,
    CutOff,
    Deadline,
    Happened,
    Resync,
    RightsChanged,
    Signal,
    Stop,
    Wake,
)

PART = 7_900
MAX_PARTS = 4_096
_FORM = re.compile(r"(?P<replica>[0-9]{1,10})(?P<end>[+.])(?P<text>.*)", re.DOTALL)

_PLAIN: dict[str, type[Wake | Stop | Deadline | Connected | CutOff | RightsChanged | Attempt | Resync]] = {
    kind.__name__: kind for kind in (Wake, Stop, Deadline, Connected, CutOff, RightsChanged, Attempt, Resync)
}


class NoMessageError(Exception):
    """A notification that is not ours, or of another version."""


def encode(replica: int, signals: Iterable[Signal]) -> list[str]:
    """The parts of one message; there is one for no signals, too."""
    message = json.dumps([_fields(signal) for signal in signals], separators=(",", ":"))
    room = PART - len(f"{replica}+")
    parts = [message[start : start + room] for start in range(0, len(message), room)]
    return [f"{replica}{'.' if i == len(parts) else '+'}{part}" for i, part in enumerate(parts, start=1)]


def _fields(signal: Signal) -> list[object]:
    if isinstance(signal, Happened):
        body = base64.b64encode(signal.event.SerializeToString()).decode()
        return ["Happened", body, signal.task_id, signal.parent_id]
    return [type(signal).__name__, *vars(signal).values()]


class Reader:
    """Puts messages together again."""

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}

    def read(self, payload: str, own: int) -> tuple[int, list[Signal]]:
        """The sender, and its signals if this was the last part (none of those that are our own)."""
        match = _FORM.fullmatch(payload)
        if match is None:
            raise NoMessageError("no number of a replica")
        replica = int(match["replica"])
        if replica == own:
            return replica, []
        parts = self._parts.setdefault(replica, [])
        parts.append(match["text"])
        if match["end"] == "+" and len(parts) < MAX_PARTS:
            return replica, []
        del self._parts[replica]
        try:
            return replica, [_signal(*fields) for fields in json.loads("".join(parts))]
        except (ValueError, TypeError, KeyError, DecodeError) as error:
            raise NoMessageError(f"not a list of signals of this version: {type(error).__name__}") from error


def _signal(kind: str, *fields: object) -> Signal:
    if kind != "Happened":
        return _PLAIN[kind](*fields)  # type: ignore[arg-type]  # As `vars` gave them.
    body, task_id, parent_id = fields
    event = event_pb2.Event.FromString(base64.b64decode(str(body), validate=True))
    return Happened(event, int(str(task_id)), int(str(parent_id)))
