"""A change that the database ended for the sake of another one is made again, and its followers hear of it once."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from vantage6.server.domain.nodes import NodeRules
from vantage6.server.domain.parties import CollaborationRules, Hooks, OrganizationRules
from vantage6.server.domain.results import fail_of_node
from vantage6.server.domain.states import ResultState
from vantage6.server.store import sqlite
from vantage6.server.store.events import Events
from vantage6.server.store.sql import Store
from vantage6.server.store.tables import Node, Organization

from .databases import sqlite_url
from .world import World, make_world

pytestmark = pytest.mark.row("M27")


@dataclass
class Parties:
    world: World
    cut_off: list[int]
    nodes: NodeRules
    collaborations: CollaborationRules
    organizations: OrganizationRules
    stranger: int


@pytest.fixture
async def parties(tmp_path: Path) -> AsyncIterator[Parties]:
    async with make_world(sqlite_url(tmp_path)) as world:
        cut_off: list[int] = []

        async def leaving(store: Store, node: Node) -> None:
            await fail_of_node(store, world.bus, node.organization_id, node.collaboration_id)

        hooks = Hooks(node_leaving=leaving, node_cut_off=lambda node: cut_off.append(node.id))
        async with world.database.write() as store:
            stranger = await store.parties.add_organization(Organization(name="stranger"))
        database = world.database
        rules = (NodeRules(database, hooks), CollaborationRules(database, hooks), OrganizationRules(database))
        yield Parties(world, cut_off, *rules, stranger.id)


class SerializationFailure(Exception):
    sqlstate = "40001"


Change = Callable[[Parties], Awaitable[object]]
CHANGES: dict[str, tuple[Change, int]] = {
    "node deleted": (lambda p: p.nodes.delete(p.world.user, p.world.nodes[0].id), 1),
    "API key reset": (lambda p: p.nodes.reset_api_key(p.world.user, p.world.nodes[0].id), 1),
    "members set": (
        lambda p: p.collaborations.update(p.world.user, p.world.collaboration_id, None, p.world.organizations[1:]), 1,
    ),
    "member removed": (
        lambda p: p.collaborations.remove_organization(
            p.world.user, p.world.collaboration_id, p.world.organizations[0]
        ), 1,
    ),
    "member added": (
        lambda p: p.collaborations.add_organization(p.world.user, p.world.collaboration_id, p.stranger), 0,
    ),
    "collaboration deleted": (lambda p: p.collaborations.delete(p.world.user, p.world.collaboration_id), 3),
    "organization deleted": (lambda p: p.organizations.delete(p.world.user, p.stranger), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_of_the_parties_is_made_again(
    parties: Parties, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await parties.world.create_task(parties.world.organizations[0])
    change, cut_off = CHANGES[name]
    original, tries = Events.write, 0

    async def write(events: Events) -> None:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise DBAPIError("COMMIT", None, SerializationFailure())
        await original(events)

    monkeypatch.setattr(Events, "write", write)
    await change(parties)
    assert tries >= 3  # Who is told that a commit failed looks at the tables.
    assert len(parties.cut_off) == cut_off
    if name in {"node deleted", "members set", "member removed"}:
        async with parties.world.database.read() as store:
            (result,) = await store.results.of_tasks([task.id])
        assert (result.state, result.reason) == (ResultState.FAILED, "NODE_DELETED")


async def test_a_file_that_another_program_has_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`vserver import` writes a lot at once."""
    monkeypatch.setattr(sqlite, "_PRAGMAS", (*sqlite._PRAGMAS[:-1], "busy_timeout=50"))
    async with make_world(sqlite_url(tmp_path)) as world:
        tries = 0
        with closing(sqlite3.connect(tmp_path / "server.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            begin = world.database.write

            def write() -> object:
                nonlocal tries
                tries += 1
                if tries == 3:
                    other.execute("ROLLBACK")
                return begin()

            monkeypatch.setattr(world.database, "write", write)
            await NodeRules(world.database).delete(world.user, world.nodes[0].id)
        assert tries == 3
