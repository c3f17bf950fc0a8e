"""A node's stream at the server: read no faster than the database takes it, and ended with a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from vantage6.api.v1 import delivery_pb2, delivery_pb2_grpc
from vantage6.common.errors import ContractVersionUnknown
from vantage6.server.app import Server
from vantage6.server.config import ServerConfig
from vantage6.server.domain import reports
from vantage6.server.domain.accounts import AccountRules
from vantage6.server.domain.running import Runs
from vantage6.server.rpc.delivery import DeliveryServicer, Watchdog, _hello

from .live import ROOT_PASSWORD, Stubs
from .test_half_open import node_token
from .world import World, hear, make_world

pytestmark = pytest.mark.row("M27")

ROOM = 4
BEAT = 0.01


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(reports, "MAX_WAITING", ROOM)
    async with make_world(f"sqlite+aiosqlite:///{tmp_path / 'server.db'}") as made:
        yield made


class Alive:
    """A watchdog that counts."""

    def __init__(self) -> None:
        self.times = 0

    def heard(self) -> None:
        self.times += 1


def servicer(world: World) -> DeliveryServicer:
    accounts = cast("AccountRules", None)
    return DeliveryServicer(world.database, accounts, world.dispatcher, world.desk, Runs(world.bus), BEAT)


async def test_a_stream_is_read_no_faster_than_its_reports_are_stored(world: World) -> None:
    link = await world.connect(world.nodes[0])
    sent, total = 0, 20

    async def says() -> AsyncIterator[delivery_pb2.NodeMessage]:
        nonlocal sent
        for number in range(total):
            sent += 1
            yield delivery_pb2.NodeMessage(report=delivery_pb2.Report(result_id=number + 1, epoch=1))
        await asyncio.Event().wait()

    watchdog = Alive()
    async with world.database.write():  # The database is busy: nothing can be stored.
        reading = asyncio.create_task(servicer(world)._read(says(), link, cast("Watchdog", watchdog)))
        beats = await hear(link, 5)
        assert not beats.refused
        # One batch with whoever has to store it, a full queue, and one that waits before it.
        assert sent <= 2 * ROOM + 1
        # The node is heard, and hears of us, though neither reads nor answers.
        assert watchdog.times >= sent + 5 - 1
    answers = [message async for message in _all(link, total)]
    assert sorted(message.refused.result_id for message in answers) == list(range(1, total + 1))
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def _all(link: Any, refusals: int) -> AsyncIterator[delivery_pb2.ServerMessage]:
    async with asyncio.timeout(20):
        while refusals:
            message = await link.outgoing.get()
            if message is not None and message.HasField("refused"):
                refusals -= 1
                yield message


async def test_a_stream_that_ends_while_it_waits_leaves_nothing_behind(world: World) -> None:
    link = await world.connect(world.nodes[0])

    async def says() -> AsyncIterator[delivery_pb2.NodeMessage]:
        for number in range(20):
            yield delivery_pb2.NodeMessage(report=delivery_pb2.Report(result_id=number + 1, epoch=1))

    before = asyncio.all_tasks()
    async with world.database.write():
        reading = asyncio.create_task(servicer(world)._read(says(), link, cast("Watchdog", Alive())))
        await hear(link, 2)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.sleep(0)
        assert not asyncio.all_tasks() - before
    await world.settled()


async def test_a_server_that_stops_tells_its_nodes_to_go_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "root.password").write_text(ROOT_PASSWORD)
    settings = {"address": "127.0.0.1:0", "data_dir": tmp_path, "root_password_file": tmp_path / "root.password"}
    server = Server(ServerConfig.model_validate(settings))
    async with server:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
        token = await node_token(Stubs(channel))
        stream: Any = delivery_pb2_grpc.DeliveryServiceStub(channel).Connect(metadata=token)
        hello = delivery_pb2.Hello(contract_version="1.0", window=1, instance_id="one", attempt=1)
        await stream.write(delivery_pb2.NodeMessage(hello=hello))
        assert (await stream.read()).WhichOneof("message") == "welcome"
        async with asyncio.timeout(20):
            while not server.dispatcher.connected():  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.01)
    assert (await stream.read()).WhichOneof("message") == "drain"
    assert await stream.code() is grpc.StatusCode.UNAVAILABLE
    assert "going away" in await stream.details()
    await channel.close()


@pytest.mark.parametrize(
    ("version", "fits"), [("1.0", True), ("1.1", True), ("1.2", False), ("0.9", False), ("", False)]
)
async def test_a_node_of_another_version(version: str, fits: bool) -> None:
    async def stream() -> AsyncIterator[delivery_pb2.NodeMessage]:
        yield delivery_pb2.NodeMessage(hello=delivery_pb2.Hello(contract_version=version))

    if fits:
        assert (await _hello(stream())).contract_version == version
        return
    with pytest.raises(ContractVersionUnknown, match="the node"):
        await _hello(stream())
