"""Who works next: so many runs at once, and those who wait take turns by user, not by who asked most."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vantage6.api.v1.delivery_pb2 import Assignment
    from vantage6.node.config import LimitsSection

Turn = tuple[int, str]
"""Organization and user."""


WIDEST = 1000
"""What a server grants one node."""


def window_of(limits: LimitsSection) -> int:
    """How many assignments the node takes in: those at work, and others that fetch images and take turns."""
    return min(WIDEST, limits.runs + limits.waiting)


class FairSlots:
    """Gives out the node's slots. A node has one collaboration, so users and their organizations are who compete."""

    def __init__(self, limits: LimitsSection) -> None:
        self._free = limits.runs
        self._per_user = limits.runs_per_user
        self._per_organization = limits.runs_per_organization
        self._busy: Counter[Turn | int] = Counter()
        self._waiting: OrderedDict[Turn, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def of(self, run: Assignment) -> AsyncIterator[None]:
        """A slot for the time of the context."""
        turn = (run.initiator.organization_id, run.username)
        await self._take(turn)
        try:
            yield
        finally:
            self._give_back(turn)

    @contextmanager
    def held(self, run: Assignment) -> Iterator[None]:
        """For a run that is at work already: it counts at once, if need be over the limits; new ones wait for it."""
        turn = (run.initiator.organization_id, run.username)
        self._count(turn)
        try:
            yield
        finally:
            self._give_back(turn)

    async def _take(self, turn: Turn) -> None:
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(turn, deque()).append(given)
        self._hand_out()
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():
                self._give_back(turn)  # It was given in the same moment.
            else:
                self._forget(turn, given)
            raise

    def _give_back(self, turn: Turn) -> None:
        self._free += 1
        self._busy[turn] -= 1
        self._busy[turn[0]] -= 1
        self._busy += Counter()  # Drops what is zero.
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free > 0 and (turn := self._next()) is not None:
            given = self._waiting[turn].popleft()
            if self._waiting[turn]:
                self._waiting.move_to_end(turn)
            else:
                del self._waiting[turn]
            self._count(turn)
            given.set_result(None)

    def _count(self, turn: Turn) -> None:
        self._free -= 1
        self._busy[turn] += 1
        self._busy[turn[0]] += 1

    def _next(self) -> Turn | None:
        """The one of those who may that has the fewest at work; among equals, who has waited longest."""
        able = [turn for turn in self._waiting if self._may(turn)]
        return min(able, key=lambda turn: self._busy[turn], default=None)

    def _may(self, turn: Turn) -> bool:
        user_full = self._per_user is not None and self._busy[turn] >= self._per_user
        return not user_full and (self._per_organization is None or self._busy[turn[0]] < self._per_organization)

    def _forget(self, turn: Turn, given: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(turn)
        if waiting and given in waiting:
            waiting.remove(given)
            if not waiting:
                del self._waiting[turn]
