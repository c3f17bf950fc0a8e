"""`kill -9` of the gateway at every named point of a run: what was on its way through goes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.hooks import POINTS, at
from tests.chaos.small import Small, completed, small_network
from tests.chaos.table import note
from vantage6.gateway.config import GatewayConfig
from vantage6.gateway.run import Gateway

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"), pytest.mark.row("M27"), pytest.mark.envoy,
    pytest.mark.xdist_group("chaos"),
]  # fmt: skip

SHORT = {"node.outcome.after_journal"}
CASES = [pytest.param(point, marks=[] if point in SHORT else pytest.mark.chaos) for point in POINTS]


class Mortal:
    """A gateway that can be killed, and comes back at the same address."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._again: asyncio.Task[None] | None = None

    def die(self) -> None:
        self.gateway.process.kill()
        self._again = asyncio.ensure_future(self._come_back())

    async def _come_back(self) -> None:
        await self.gateway.wait()
        await self.gateway.stop()
        listen = f"127.0.0.1:{self.gateway.port}"
        self.gateway = Gateway(self.gateway.config.model_copy(update={"listen": listen}))
        await self.gateway.start()

    async def back(self) -> None:
        if self._again is not None:
            await self._again


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def behind(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Small, Mortal]]:
    async with small_network(tmp_path_factory.mktemp("small")) as small:
        servers = (f"127.0.0.1:{small.server.port}",)
        mortal = Mortal(Gateway(GatewayConfig(listen="127.0.0.1:0", servers=servers, plaintext=True)))
        await mortal.gateway.start()
        await small.stop_node()
        small.settings = {"server_url": mortal.gateway.url}
        await small.start_node()
        try:
            yield small, mortal
        finally:
            await small.stop_node()
            await mortal.gateway.stop()


@pytest.mark.parametrize("point", CASES)
async def test_killed_at(behind: tuple[Small, Mortal], point: str) -> None:
    small, mortal = behind
    with at(point, mortal.die) as hook:
        task_id = await small.create()
        assert completed(await small.complete(task_id))
        await small.books_are_equal()
    assert hook.done
    await mortal.back()
    results, _ = await small.rows()
    assert all(result.losses == 0 for result in results)
    assert max(small.starts().values()) == 1
    note("kill -9 of the gateway", point, "run once")
