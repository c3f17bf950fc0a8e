"""Has something else break at the moment at which this process passes a named point of its code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vantage6.common import faults

POINTS = (
    "server.task.before_commit", "server.task.after_commit", "server.store.before_commit", "server.store.after_commit",
    "server.assign.before_commit", "server.assign.after_commit", "server.report.before_commit",
    "server.report.after_commit", "node.assigned.before_journal", "node.assigned.after_journal",
    "node.run.before_start", "node.run.after_start", "node.run.ended", "node.outcome.before_journal",
    "node.outcome.after_journal", "node.accepted.before_journal", "node.accepted.after_journal",
)  # fmt: skip
"""Every point that one run passes, of both sides."""


class Hook(faults._Fault):
    """Stands in the table of armed points; acts once."""

    def __init__(self, point: str, act: Callable[[], None], time: int) -> None:
        super().__init__(point, "raise", time, time)
        self._act = act
        self.done = False

    def hit(self) -> None:
        self.passed += 1
        if self.passed == self.first and not self.done:
            self.done = True
            self._act()


@contextmanager
def at(point: str, act: Callable[[], None], time: int = 1) -> Iterator[Hook]:
    """Calls `act` when the point is passed for the `time`-th time."""
    hook = faults._armed[point] = Hook(point, act, time)
    try:
        yield hook
    finally:
        faults._armed.pop(point, None)
