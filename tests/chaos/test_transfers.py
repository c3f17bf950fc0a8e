"""Payloads whose line is cut, or whose node goes away, at several moments of each of the four transfers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.chaos.small import Small, completed, small_network
from tests.chaos.table import note
from tests.node.fake_runtime import FakeRuntime
from vantage6.client.client import AsyncClient
from vantage6.common.chunks import CHUNK
from vantage6.server.domain.payloads import PayloadDesk
from vantage6.server.store.blobs import PART

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.row("M27", "M34"), pytest.mark.xdist_group("chaos")]

SIZE = 3 * PART + 12_345
"""Three whole parts of the store and some: there is an offset to go on at."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Small]:
    """One network for all of them: each leaves it as it was, or it is a finding."""
    async with small_network(tmp_path_factory.mktemp("transfers"), runtime=FakeRuntime()) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(small: Small) -> AsyncIterator[AsyncClient]:
    """Through the line, as the node; so its transfers are cut too."""
    url = f"http://127.0.0.1:{small.line.port}"
    async with AsyncClient(url, known_organizations=small.folder / "known.json") as made:
        await made.authenticate("ada", "correct horse battery")
        yield made


class Watched:
    """Passes on the pieces of one transfer of the server, and does something when enough of them have passed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, way: str, whose: str, act: Callable[[], Any]) -> None:
        self.offsets: list[int] = []
        self._whose, self._act, self._limit = whose, act, -1
        original = getattr(PayloadDesk, way)

        async def append(desk: Any, caller: Any, id_: str, offset: int, stream: Any, *rest: Any) -> Any:
            return await original(desk, caller, id_, offset, self._through(caller, offset, stream), *rest)

        def read(desk: Any, caller: Any, id_: str, offset: int) -> Any:
            return self._through(caller, offset, original(desk, caller, id_, offset))

        monkeypatch.setattr(PayloadDesk, way, {"append": append, "read": read}[way])

    def at(self, limit: int) -> None:
        self._limit = limit

    async def _through(self, caller: Any, offset: int, pieces: Any) -> AsyncIterator[Any]:
        mine = type(caller).__name__.startswith(self._whose)
        if mine:
            self.offsets.append(offset)
        async for piece in pieces:
            yield piece
            offset += len(piece)
            if mine and 0 <= self._limit <= offset:
                self._limit = -1
                self._act()


TRANSFERS = {
    "the client's upload": ("append", "User"),
    "the node's download": ("read", "Node"),
    "the node's upload": ("append", "Node"),
    "the client's download": ("read", "User"),
}


async def there_and_back(small: Small, client: AsyncClient, folder: Path) -> None:
    """One analysis whose output is its input; it runs once, and what arrives is what was sent."""
    before = small.starts()
    content = os.urandom(SIZE)
    source = folder / "input.bin"
    source.write_bytes(content)
    task = await client.task.create(small.collaboration_id, [small.organization_id], "count:1", source)
    assert completed(await small.complete(task.id))
    [result] = [each async for each in client.results(task, folder / "out")]
    assert result.file is not None
    assert result.file.read_bytes() == content
    await small.books_are_equal()
    assert list((small.starts() - before).values()) == [1]


MOMENTS = {"first": 0, "early": CHUNK, "middle": PART + CHUNK, "last": SIZE - 1}


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(moment, id=name, marks=[] if name == "middle" else pytest.mark.chaos)
        for name, moment in MOMENTS.items()
    ],
)
@pytest.mark.parametrize("transfer", TRANSFERS)
async def test_the_line_is_cut(
    transfer: str, moment: int, small: Small, client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch, *TRANSFERS[transfer], small.line.cut)
    watched.at(moment)
    await there_and_back(small, client, tmp_path)
    begun, *gone_on = watched.offsets
    assert begun == 0
    if moment > PART and gone_on:
        # A piece or two may have been on their way to the disk.
        assert gone_on[0] >= PART // 2, "what had arrived was sent again"
    if CHUNK < moment < SIZE - 1:
        assert gone_on, "the line was cut in the middle of it"
    note(f"line cut in {transfer}", f"after {moment} bytes", "resumed at the offset, run once")


@pytest.mark.parametrize("transfer", ["the node's download", "the node's upload"])
async def test_the_node_goes_away_and_comes_again(
    transfer: str, small: Small, client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = asyncio.Event()
    watched = Watched(monkeypatch, *TRANSFERS[transfer], gone.set)
    watched.at(PART + CHUNK)

    async def again() -> None:
        await gone.wait()
        await small.stop_node()
        await small.start_node()

    async with asyncio.TaskGroup() as group:
        group.create_task(again())
        group.create_task(there_and_back(small, client, tmp_path))
    assert len(watched.offsets) > 1
    note(f"node ends in {transfer}", "stopped and started", "complete, run once")
