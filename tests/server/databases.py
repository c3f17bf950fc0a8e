"""The databases that a server may have, and the bus that goes with each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from vantage6.server.domain.bus import LocalBus
from vantage6.server.store.notify import PostgresBus
from vantage6.server.store.sql import Database

KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


def sqlite_url(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'server.db'}"


@asynccontextmanager
async def running_bus(database: Database) -> AsyncIterator[LocalBus | PostgresBus]:
    if not database.shared:
        yield LocalBus()
        return
    bus = PostgresBus(database)
    loop = asyncio.create_task(bus.run())
    try:
        async with asyncio.timeout(30):
            await bus.connected.wait()
        yield bus
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
