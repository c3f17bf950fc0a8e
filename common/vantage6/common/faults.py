"""Faults for the tests of what must survive them: named points in the code where a process can be made to fail.

Off unless the environment says otherwise at the start: `VANTAGE6_FAULTS="server.report.before_commit=kill:3"`
kills the process, as `kill -9` does, when it passes the point for the third time. Several are separated by commas, and
`first-last` is a range: `node.journal.write=full:2-9`. A point that nobody armed costs one look into an empty dict.
docs/chaos.md lists the points.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

log = structlog.get_logger(__name__)

VARIABLE: Final = "VANTAGE6_FAULTS"
_FORM = re.compile(r"(?P<point>[a-z_.]+)=(?P<action>kill|raise|full)(?::(?P<first>\d+)(?:-(?P<last>\d+))?)?")


class InjectedFault(RuntimeError):
    """What the action `raise` raises: an error that no code expects."""


@dataclass
class _Fault:
    point: str
    action: str
    first: int
    last: int
    passed: int = 0

    def hit(self) -> None:
        self.passed += 1
        if not self.first <= self.passed <= self.last:
            return
        log.critical("fault_injected", point=self.point, action=self.action, time=self.passed)
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.action == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise InjectedFault(self.point)


_armed: dict[str, _Fault] = {}


def point(name: str) -> None:
    """A place where a test may let this process fail."""
    if fault := _armed.get(name):
        fault.hit()


def parse(text: str) -> dict[str, _Fault]:
    """The faults that a text such as the variable's names; raises ValueError for one that it cannot read."""
    found = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        match = _FORM.fullmatch(item)
        if match is None:
            raise ValueError(f"{VARIABLE}: {item!r} is not of the form point=kill|raise|full[:first[-last]]")
        first = int(match["first"] or 1)
        found[match["point"]] = _Fault(match["point"], match["action"], first, int(match["last"] or first))
    return found


@contextmanager
def armed(text: str) -> Iterator[None]:
    """Arms points in this process, for tests that need no process of their own."""
    _armed.update(parse(text))
    try:
        yield
    finally:
        for name in parse(text):
            _armed.pop(name, None)


def _from_environment() -> None:
    if text := os.environ.get(VARIABLE, ""):
        _armed.update(parse(text))
        log.critical("faults_armed", variable=VARIABLE, points=sorted(_armed), message="this process is made to fail")


_from_environment()
