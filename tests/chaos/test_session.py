"""A node's session lasts for as long as it is connected, and ends when somebody says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.small import EVERYTHING, PATIENCE, completed, small_network
from tests.chaos.table import note
from tests.node.fake_runtime import FakeRuntime
from vantage6.node.runtimes.base import Exit, RunSpec
from vantage6.server.domain.caller import UserCaller
from vantage6.server.domain.nodes import NodeRules
from vantage6.server.domain.parties import Hooks

pytestmark = [pytest.mark.row("M27"), pytest.mark.xdist_group("chaos")]


async def large(spec: RunSpec) -> Exit:
    """Its output is uploaded beside the stream, by a call that shows the token."""
    (spec.run_dir / "output").write_bytes(b"json." + b"1" * 200_000)
    return Exit(0)


async def test_a_connected_node_outlives_its_tokens_and_its_session(tmp_path: Path) -> None:
    # Heartbeats are rare: a machine that stands still for half a second must not end the connection for that reason.
    tokens = {"access_minutes": 3 / 60, "refresh_days": 5 / 86400}
    async with small_network(tmp_path, runtime=FakeRuntime(large), tokens=tokens, heartbeat=5) as small:
        (link,) = small.server.dispatcher._links.values()
        await asyncio.sleep(8)
        assert completed(await small.complete(await small.create()))
        await small.books_are_equal()
        assert list(small.server.dispatcher._links.values()) == [link], "the node was disconnected"
        note("tokens and session run out", "while the node is connected", "renewed in the stream, run once")


@pytest.mark.attack
async def test_a_node_whose_key_was_reset_is_cut_off_at_once(tmp_path: Path) -> None:
    async with small_network(tmp_path) as small:
        assert small.node
        rules = NodeRules(small.server.database, Hooks(node_cut_off=small.server.dispatcher.cut_off))
        caller = UserCaller(small.user_id, "ada", small.organization_id, frozenset({1}), 1, EVERYTHING)
        (link,) = small.server.dispatcher._links.values()
        await rules.reset_api_key(caller, link.node.id)
        async with asyncio.timeout(PATIENCE):
            while small.server.dispatcher._links or small.node.link.online.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        assert not small.server.dispatcher._links, "it came back with a key that is good no more"
        assert "API key changed" in link.closed_because
        note("API key reset", "while the node is connected", "cut off at once, not let in again")
