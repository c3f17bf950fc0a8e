"""When the site's own surroundings fail: its engine, the way to a registry, its disk.

The server hands such a run out again as often as its task's `retries` allow, and at once. So it is here that time goes
by before the next try: a registry that is away for a minute must not cost all of them in a second.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from vantage6.node.outcome import Outcome, says_nothing_of_the_algorithm
from vantage6.node.retry import Backoff
from vantage6.node.runtimes.base import RuntimeUnavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST, MOST = 5.0, 300.0
"""Seconds before the second try; the rest doubles with each, up to the most."""
STARTS = 4
REMEMBERED = 1_000


class Rests:
    """Counts the failures of each result, in memory: after a restart of the node the first rest is short again."""

    def __init__(self) -> None:
        self._failures: OrderedDict[int, int] = OrderedDict()

    def note(self, result_id: int, outcome: Outcome) -> Outcome:
        """Takes note of how a try ended, and gives it back."""
        if says_nothing_of_the_algorithm(outcome):
            self._failures[result_id] = self._failures.pop(result_id, 0) + 1
            while len(self._failures) > REMEMBERED:
                self._failures.popitem(last=False)
        return outcome

    async def over(self, result_id: int) -> None:
        """Waits before the next try of a result whose tries failed."""
        if failures := self._failures.get(result_id):
            seconds = min(MOST, FIRST * 2.0 ** min(failures - 1, 20))
            log.info("rests_before_next_try", result_id=result_id, failures=failures, seconds=seconds)
            await asyncio.sleep(seconds)


async def while_silent(wait: Callable[[], Awaitable[T]]) -> T:
    """Waits for the end of something that runs, also while the engine is away: not known is not gone."""
    backoff = Backoff()
    while True:
        try:
            return await wait()
        except RuntimeUnavailable as error:
            log.warning("run_not_known", reason=error.reason, message=error.message)
            await asyncio.sleep(backoff.next())


async def patiently(start: Callable[[], Awaitable[T]]) -> T:
    """Starts something once per key: whether it began when the engine broke off, the next try finds out."""
    backoff = Backoff()
    for _ in range(STARTS - 1):
        try:
            return await start()
        except RuntimeUnavailable as error:
            log.warning("start_not_answered", reason=error.reason, message=error.message)
            await asyncio.sleep(backoff.next())
    return await start()
