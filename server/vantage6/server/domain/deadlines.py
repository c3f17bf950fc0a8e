"""Ends tasks whose deadline has passed. One timer, set to the nearest deadline; nothing is looked at in between."""

from __future__ import annotations

import asyncio
import datetime as dt

import structlog

from vantage6.server.domain.bus import Bus, Deadline, Resync, Signal
from vantage6.server.domain.events import now
from vantage6.server.domain.results import settle, stop_open
from vantage6.server.domain.states import ResultState
from vantage6.server.store.sql import Database, Store
from vantage6.server.store.tables import Task

log = structlog.get_logger()

# A timer over weeks drifts, and the wall clock may be set: it is looked at again at least so often.
LONGEST_SLEEP = dt.timedelta(minutes=10)
RETRY = dt.timedelta(seconds=5)


class Deadlines:
    """Every replica keeps the time; who comes second finds nothing open any more."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._changed = asyncio.Event()
        bus.subscribe(self._on_signal)

    def _on_signal(self, signal: Signal) -> None:
        if isinstance(signal, Deadline | Resync):
            self._changed.set()

    async def run(self) -> None:
        while True:
            self._changed.clear()
            delay = await self._end_due_or_retry()
            try:
                async with asyncio.timeout(delay):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _end_due_or_retry(self) -> float | None:
        try:
            nearest = await self._end_due()
        except Exception:  # A database that is away must not end the time-keeping.
            log.exception("deadlines_not_checked")
            return RETRY.total_seconds()
        if nearest is None:
            return None
        return min(max(nearest - now(), dt.timedelta(0)), LONGEST_SLEEP).total_seconds()

    async def _end_due(self) -> dt.datetime | None:
        """Fails what is open of tasks that are late; returns the next deadline."""
        async with self._database.read() as store:
            nearest = await store.results.nearest_deadline()
        if nearest is None or nearest > now():
            return nearest
        late = await self._database.transact(self._end)
        if late:  # Else another replica was first.
            log.info("deadline_passed", tasks=[task.id for task in late])
        async with self._database.read() as store:
            return await store.results.nearest_deadline()

    async def _end(self, store: Store) -> list[Task]:
        late = await store.results.tasks_due(now())
        await stop_open(
            store, self._bus, late, ResultState.FAILED, "DEADLINE", "the task's deadline passed before it was done"
        )
        await settle(store, self._bus, late)
        return late
