"""A full disk: what must not be lost waits until somebody makes room."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from vantage6.node.retry import Backoff

log = structlog.get_logger(__name__)

T = TypeVar("T")


async def with_room(what: str, work: Callable[[], Awaitable[T]]) -> T:
    """Does `work`, again and again for as long as there is no room for it; it must leave no half of it behind."""
    backoff = Backoff()
    while True:
        try:
            return await work()
        except (sqlite3.OperationalError, OSError) as error:
            if not is_full(error):
                raise
        delay = backoff.next()
        log.error("disk_full", message=f"{what} cannot be written", retry_seconds=round(delay, 2))
        await asyncio.sleep(delay)


def is_full(error: sqlite3.OperationalError | OSError) -> bool:
    """No room, a quota, or a limit: what passes when somebody makes room."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
