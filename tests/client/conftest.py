"""A fake server for each test, and a client that is logged in at it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.client.fakes import Fake, key_file, serve
from vantage6.client import AsyncClient


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest_asyncio.fixture
async def url(fake: Fake) -> AsyncIterator[str]:
    server, address = await serve(fake)
    yield address
    await server.stop(None)


@pytest_asyncio.fixture
async def stranger(url: str, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    """A client that is not logged in."""
    async with AsyncClient(url, known_organizations=tmp_path / "known.json") as client:
        yield client


@pytest_asyncio.fixture
async def client(stranger: AsyncClient, fake: Fake, tmp_path: Path) -> AsyncClient:
    """A client that is logged in, with encryption set up where the collaboration is encrypted."""
    await stranger.authenticate("alice", "secret")
    if fake.encrypted:
        await stranger.setup_encryption(key_file(tmp_path))
    return stranger
