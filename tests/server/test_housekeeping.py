"""What is no longer needed goes, what is in use stays, and a quota is told clearly."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vantage6.common.chunks import sha256
from vantage6.common.errors import OutOfRange, ResourceExhausted, Unavailable
from vantage6.server.domain.caller import NodeCaller
from vantage6.server.domain.events import now
from vantage6.server.domain.housekeeping import Housekeeping
from vantage6.server.domain.payloads import PayloadDesk
from vantage6.server.store.blobs import PART, Blobs
from vantage6.server.store.sql import Database, Store
from vantage6.server.store.tables import Collaboration, Content, Organization, Payload, Result, Task

from .world import make_world

DAY = dt.timedelta(days=1)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(str(tmp_path / "blobs"))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with make_world(f"sqlite+aiosqlite:///{tmp_path / 'server.db'}") as world:
        yield world.database
