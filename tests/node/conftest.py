"""One site with a fake server, a fake runtime, and real keys, envelopes, journal, workspace and sockets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.node.site import SiteUnderTest


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a short name: the address of a Unix socket has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="v6-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def site(short_path: Path) -> AsyncIterator[SiteUnderTest]:
    made = SiteUnderTest(short_path)
    await made.server.start()
    yield made
    await made.close()
