"""The end of the event log, as several server processes write it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from vantage6.api.v1 import event_pb2
from vantage6.server.domain.bus import Happened

if TYPE_CHECKING:
    from vantage6.server.store.sql import Database

log = structlog.get_logger()

PAGE = 500
RETRY_SECONDS = 1.0


class Tail:
    """Hands on each event once, in the order of the ids, which is that of the commits (locks.lock_events).

    Events arrive out of order: our own at once, those of others by notification. The one that is due next is handed on
    as it comes; any other one shows that some are missing, and the log is read. Numbers that a transaction took and
    did not use look like missing ones, once.
    """

    def __init__(self, database: Database, hand: Callable[[Happened], None]) -> None:
        self._database = database
        self._hand = hand
        # Until `begin`, nobody watches yet.
        self._last: int | None = None
        self._behind = asyncio.Event()

    async def begin(self) -> None:
        """Sets the place, at the first call; from then on nothing is left out."""
        if self._last is None:
            async with self._database.read() as store:
                self._last = await store.events.last_id()

    def offer(self, happened: Happened) -> None:
        if self._last is None or happened.event.id <= self._last:
            return
        if happened.event.id == self._last + 1:
            self._last += 1
            self._hand(happened)
        else:
            self._behind.set()

    def read(self) -> None:
        """Has the log read: there may be events that nobody told of."""
        if self._last is not None:
            self._behind.set()

    async def run(self) -> None:
        while True:
            await self._behind.wait()
            self._behind.clear()
            try:
                await self._catch_up()
            except Exception:  # A database that is away must not end this.
                log.exception("events_not_read")
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._behind.set)

    async def _catch_up(self) -> None:
        while True:
            if self._last is None:
                return
            async with self._database.read() as store:
                rows = await store.events.of_collaborations(None, self._last, PAGE)
            for row in rows:
                if row.id <= self._last:
                    continue  # Offered and handed on meanwhile.
                self._last = row.id
                event = event_pb2.Event.FromString(row.body)
                event.id = row.id
                self._hand(Happened(event, row.task_id, row.parent_id or 0))
            if len(rows) < PAGE:
                return
