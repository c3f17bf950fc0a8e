"""Signals between replicas, as text that PostgreSQL carries."""

from __future__ import annotations

import os

import pytest

from vantage6.api.v1 import event_pb2
from vantage6.server.domain import bus as buses
from vantage6.server.domain.bus import Connected, CutOff, Deadline, Happened, Resync, Signal, Stop, Wake
from vantage6.server.store import wire

pytestmark = pytest.mark.row("M27")


def test_signals_survive_the_wire() -> None:
    event = event_pb2.Event(id=7, collaboration_id=2, log=event_pb2.LogEvent(lines=os.urandom(50_000)))
    signals: list[Signal] = [
        Wake(1, 2), Stop(1, 2, 3, 4, "why"), Happened(event, 5, 6), Deadline(7), Connected(1, 2, 3), CutOff(1, 2),
        buses.RightsChanged(8), buses.Attempt("log-in", "failed", "ab12", ""), Resync(),
    ]  # fmt: skip
    parts = wire.encode(2**31 - 1, signals)
    assert len(parts) > 5
    assert all(len(part.encode()) < 8_000 for part in parts)
    reader = wire.Reader()
    # Those of another replica may come in between.
    found = [signal for part in parts for signal in (*reader.read(part, own=1)[1], *reader.read("5.[]", own=1)[1])]
    assert found == signals
    assert wire.Reader().read(parts[-1], own=2**31 - 1) == (2**31 - 1, [])
    assert reader.read(wire.encode(3, [])[0], own=1) == (3, [])


@pytest.mark.attack
@pytest.mark.parametrize(
    "payload",
    ["", "x", "7", "7.", "7.{", '7.[["Wake"]]', '7.[["Nothing",1]]', '7.[["Happened","!",1,1]]', "7.[1]", "." * 100,
     '7.[["Happened","/w==",1,1]]', '7.[["Resync",1]]'],
)  # fmt: skip
def test_what_is_no_message_is_refused(payload: str) -> None:
    with pytest.raises(wire.NoMessageError):
        wire.Reader().read(payload, own=1)
