"""SQLite on the event loop's own thread; only what may wait for the disk or look at many rows goes to another one.

The usual driver (aiosqlite) sends every cursor, statement and fetch to a thread and waits: four hand-overs for a
statement that itself takes some ten microseconds. Most of ours find a few rows by an index, so they are run where they
are asked for. A commit waits for the disk, and a list or a count may be long: these run in a thread.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import AdaptedConnection, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

T = TypeVar("T")

READERS = 8
_PRAGMAS = (
    "journal_mode=WAL",
    # FULL: a report is acknowledged to its node after the commit, so the commit has to survive a power cut.
    "synchronous=FULL",
    "foreign_keys=ON",
    "busy_timeout=10000",
)


def make_sqlite_engine(url: str) -> AsyncEngine:
    path = make_url(url).database or ":memory:"
    engine = create_async_engine(url, pool_size=READERS, max_overflow=0, creator=lambda: _Connection(path))
    event.listen(engine.sync_engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class _Cursor(sqlite3.Cursor):
    server_side = False

    def execute(self, operation: str, parameters: Any = ()) -> _Cursor:
        if _may_be_long(operation):
            return _elsewhere(lambda: self._execute(operation, parameters))
        if in_greenlet():
            await_only(_nothing())
        return self._execute(operation, parameters)

    def _execute(self, operation: str, parameters: Any) -> _Cursor:
        return super().execute(operation, parameters)

    def executemany(self, operation: str, seq_of_parameters: Iterable[Any], /) -> _Cursor:
        # RETURNING is not for executemany; SQLAlchemy knows that.
        return super().executemany(operation, seq_of_parameters)

    async def _async_soft_close(self) -> None:
        """SQLAlchemy's word for: the rows are here already."""


class _Connection(AdaptedConnection):
    """What SQLAlchemy takes for the connection of an asynchronous driver."""

    def __init__(self, path: str) -> None:
        # Used by one thread at a time: the loop's, or the one that the loop waits for.
        self._connection: Any = sqlite3.connect(path, check_same_thread=False)

    def cursor(self, server_side: bool = False) -> _Cursor:
        made: _Cursor = self._connection.cursor(_Cursor)
        return made

    def execute(self, operation: str, parameters: Any = ()) -> _Cursor:
        return self.cursor().execute(operation, parameters)

    def create_function(self, *arguments: Any, **named: Any) -> None:
        self._connection.create_function(*arguments, **named)

    @property
    def isolation_level(self) -> str | None:
        level: str | None = self._connection.isolation_level
        return level

    @isolation_level.setter
    def isolation_level(self, level: str | None) -> None:
        self._connection.isolation_level = level

    def commit(self) -> None:
        if self._connection.in_transaction:
            _elsewhere(self._connection.commit)

    def rollback(self) -> None:
        self._connection.rollback()

    def close(self) -> None:
        # A connection whose caller was cancelled in the middle of a statement is closed with its transaction open. As
        # long as somebody holds the statement's cursor SQLite only pretends to close it, and keeps the writer's lock.
        with suppress(sqlite3.ProgrammingError):  # Closed before.
            self._connection.rollback()
        self._connection.close()

    terminate = close


def _may_be_long(operation: str) -> bool:
    return operation.startswith("SELECT count(") or "OFFSET" in operation


def _elsewhere(work: Callable[[], T]) -> T:
    if not in_greenlet():
        return work()  # Nobody waits on a loop: a connection is tidied up.
    result: T = await_only(_to_the_end(work))
    return result


async def _nothing() -> None:
    """SQLAlchemy refuses drivers that never await anything, since they usually are not made for it."""


async def _to_the_end(work: Callable[[], T]) -> T:
    """Runs it in a thread; who is cancelled meanwhile waits all the same, for the thread has the connection."""
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
