"""Signals between server processes that share a PostgreSQL, by LISTEN and NOTIFY.

Signals are hints, the tables are the truth. So they are sent after the commit, many in one statement, and may be lost:
with the sender (its death is noticed), or with a connection. Whoever may have missed one gets a `Resync` instead.
Needs a connection of its own for as long as the process lives, which a pooler of transactions cannot give.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from vantage6.server.domain.bus import Handler, Happened, Resync, Signal, new_replica
from vantage6.server.store import wire
from vantage6.server.store.locks import REPLICAS
from vantage6.server.store.tail import Tail

if TYPE_CHECKING:
    from vantage6.server.store.sql import Database

log = structlog.get_logger()

CHANNEL = "vantage6"
BEAT_SECONDS = 2.0
MISSED_BEATS = 3
STATEMENT_SECONDS = 10.0
RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
MAX_BACKLOG = 100_000
"""Signals that wait to be sent; beyond that the others look at everything instead."""

# A host that died without a word: PostgreSQL gives the replica's lock free after 10 + 3 * 3 seconds.
_KEEPALIVE = (
    "SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '3', false), "
    "set_config('tcp_keepalives_count', '3', false)"
)


class PostgresBus:
    """Hands signals to this process at once, and to the others through PostgreSQL.

    Events of the log are handed on in the order of their ids, whichever process they come from (see tail.py).
    """

    def __init__(self, database: Database) -> None:
        self.replica = new_replica()
        self._database = database
        self._handlers: list[Handler] = []
        self._tail = Tail(database, self._hand)
        self._reader = wire.Reader()
        self._outgoing: list[Signal] = []
        # When each of the other replicas was last heard.
        self._heard: dict[int, float] = {}
        self._work = asyncio.Event()
        self._lost = False
        self.connected = asyncio.Event()

    def subscribe(self, handler: Handler) -> None:
        self._handlers.append(handler)

    def publish(self, signal: Signal) -> None:
        self._take(signal)
        # To nobody: a replica that comes later is told to look at everything as soon as it is noticed.
        if self._heard:
            self._send(signal)

    def _take(self, signal: Signal) -> None:
        if isinstance(signal, Happened) and signal.event.id:
            self._tail.offer(signal)
            return
        if isinstance(signal, Resync):
            self._tail.read()
        self._hand(signal)

    def _hand(self, signal: Signal) -> None:
        for handler in self._handlers:
            handler(signal)

    def _send(self, signal: Signal) -> None:
        if isinstance(signal, Resync) or len(self._outgoing) >= MAX_BACKLOG:
            self._outgoing = [Resync()]
        else:
            self._outgoing.append(signal)
        self._work.set()

    async def run(self) -> None:
        """Keeps the connection, for ever."""
        tail = asyncio.create_task(self._tail.run())
        attempt = 0
        try:
            while True:
                try:
                    async with self._session() as connection:
                        attempt = 0
                        await self._serve(connection)
                except Exception as error:  # noqa: BLE001 - whatever it is, the next connection may be better
                    log.warning("bus_connection_failed", error=type(error).__name__, text=str(error)[:200])
                self.connected.clear()
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
        finally:
            tail.cancel()
            await asyncio.gather(tail, return_exceptions=True)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Any]:
        async with self._database.engine.connect() as connection:
            pooled = await connection.get_raw_connection()
            driver: Any = pooled.driver_connection
            # Not the pool's any more: it is closed at the end, and the replica's lock goes with it.
            pooled.detach()
            self._lost = False
            driver.add_termination_listener(self._on_lost)
            await driver.execute(_KEEPALIVE, timeout=STATEMENT_SECONDS)
            # Shared: PostgreSQL may not have noticed the end of our last connection yet.
            lock = "SELECT pg_advisory_lock_shared($1, $2)"
            await driver.execute(lock, REPLICAS, self.replica, timeout=STATEMENT_SECONDS)
            await driver.add_listener(CHANNEL, self._on_notification)
            await self._tail.begin()
            try:
                yield driver
            finally:
                # Not close(), which talks to a server that may be away.
                driver.terminate()

    async def _serve(self, driver: Any) -> None:
        self._take(Resync())
        self._send(Resync())
        self.connected.set()
        log.info("bus_connected", replica=self.replica)
        while not self._lost:
            self._work.clear()
            signals, self._outgoing = self._outgoing, []
            parts = wire.encode(self.replica, signals)
            # An empty list is a heartbeat.
            statement = "SELECT pg_notify($1, part) FROM unnest($2::text[]) AS part"
            await driver.execute(statement, CHANNEL, parts, timeout=STATEMENT_SECONDS)
            await self._look_for_the_silent()
            await self._work_or_beat()

    async def _work_or_beat(self) -> None:
        try:
            async with asyncio.timeout(BEAT_SECONDS):
                await self._work.wait()
        except TimeoutError:
            return

    async def _look_for_the_silent(self) -> None:
        """Silence alone proves nothing; the lock of a replica that is no more is free."""
        latest = asyncio.get_running_loop().time() - MISSED_BEATS * BEAT_SECONDS
        silent = [replica for replica, heard in self._heard.items() if heard < latest]
        if not silent:
            return
        async with asyncio.timeout(STATEMENT_SECONDS), self._database.read() as store:
            alive = {number: await store.replica_is_alive(number) for number in silent}
        gone = [number for number in silent if not alive[number]]
        for number in gone:
            del self._heard[number]
            log.info("replica_gone", replica=number)
        if gone:
            # What it had committed, and could not tell any more, is in the tables.
            self._take(Resync())

    def _on_lost(self, _: object) -> None:
        self._lost = True
        self._work.set()

    def _on_notification(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        try:
            replica, signals = self._reader.read(str(payload), own=self.replica)
        except wire.NoMessageError:
            log.warning("notification_not_understood", exc_info=True)
            return
        if replica == self.replica:
            return
        if replica not in self._heard:
            log.info("replica_found", replica=replica)
            # What was published before we knew of it was not sent.
            self._send(Resync())
        self._heard[replica] = asyncio.get_running_loop().time()
        for signal in signals:
            self._take(signal)
