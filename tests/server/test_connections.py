"""A node's connections: the newest one counts, and their end is known whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from vantage6.common import faults
from vantage6.common.errors import Unavailable
from vantage6.server.domain import dispatch
from vantage6.server.domain.bus import Happened, Resync, Signal
from vantage6.server.domain.events import now
from vantage6.server.domain.nodes import NodeRules
from vantage6.server.domain.parties import Hooks
from vantage6.server.store.events import Events
from vantage6.server.store.parties import Program
from vantage6.server.store.tables import Node

from .world import World, hear, make_world

pytestmark = pytest.mark.row("M27")


@pytest.fixture
async def world(empty: str) -> AsyncIterator[World]:
    async with make_world(empty) as made:
        yield made


class Commits:
    """Commits that wait until they may go on, from `slow` on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun, self.may_go_on = asyncio.Event(), asyncio.Event()
        self._patch = patch

    def slow(self) -> None:
        original = Events.write

        async def write(events: Events) -> None:
            self.begun.set()
            await self.may_go_on.wait()
            await original(events)

        self._patch.setattr(Events, "write", write)

    async def given_up(self, work: asyncio.Task[Any]) -> None:
        """Who waits for the commit is cancelled, then it goes on."""
        await self.begun.wait()
        work.cancel()
        await asyncio.sleep(0)
        self.may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await work


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Commits:
    return Commits(monkeypatch)


async def row_of(world: World, number: int = 0) -> Node:
    async with world.database.read() as store:
        row = await store.parties.node(world.nodes[number].id)
    assert row is not None
    return row


async def said_to(world: World, signal: Signal) -> None:
    """A signal that comes alone, since those before it were lost."""
    world.bus.publish(signal)
    await world.dispatcher.idle()


async def test_a_second_connection_supersedes_the_first(world: World) -> None:
    first = await world.connect(world.nodes[0])
    second = await world.connect(world.nodes[0])
    heard = await hear(first, 2)
    assert heard.superseded
    assert heard.closed
    await world.create_task(world.organizations[0])
    assert (await hear(second)).assignments


async def test_who_gives_up_in_the_commit_of_a_connection_leaves_no_node_online(world: World, commits: Commits) -> None:
    commits.slow()
    await commits.given_up(asyncio.create_task(world.connect(world.nodes[0])))
    await world.dispatcher.idle()
    row = await row_of(world)
    assert (row.connection, row.online) == (1, False)
    assert not world.dispatcher.connected()


async def test_who_gives_up_a_disconnection_leaves_no_node_online(world: World) -> None:
    link = await world.connect(world.nodes[0])
    async with world.database.write() as store:
        # Whoever wants to write the row waits.
        await store.session.execute(update(Node).where(Node.id == world.nodes[0].id).values(ip="192.0.2.7"))
        leaving = asyncio.create_task(world.dispatcher.disconnect(link))
        await asyncio.sleep(0.05)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    await world.dispatcher.idle()
    assert not (await row_of(world)).online


async def test_an_end_that_cannot_be_stored_is_stored_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "RETRY_SECONDS", 0.01)
    link = await world.connect(world.nodes[0])
    told = asyncio.Event()

    def note(signal: Signal) -> None:
        if isinstance(signal, Happened) and signal.event.HasField("node") and not signal.event.node.online:
            told.set()

    world.bus.subscribe(note)
    with capture_logs() as logs, faults.armed("server.store.before_commit=raise"):
        await world.dispatcher.disconnect(link)
        async with asyncio.timeout(10):
            await told.wait()
    assert "end_of_connection_not_stored" in [log["event"] for log in logs]
    assert not (await row_of(world)).online


@pytest.mark.parametrize("newer", [{"connection": 2}, {"instance": "another"}, {"attempt": 7}], ids=str)
async def test_the_end_of_an_older_connection_is_not_the_nodes(world: World, newer: dict[str, Any]) -> None:
    """The newer one is elsewhere, and was not told of here; its number may be the same, where ours was undone."""
    link = await world.connect(world.nodes[0])
    async with world.database.write() as store:
        await store.session.execute(update(Node).where(Node.id == world.nodes[0].id).values(**newer))
    await world.dispatcher.disconnect(link)
    assert (await row_of(world)).online


async def test_an_older_connection_of_a_program_that_comes_late_is_not_taken_in(world: World) -> None:
    """It was slow on its way; the program has given it up and connected again."""
    node = world.nodes[0]
    newer = await world.connect(node, program=Program("one", 2))
    with pytest.raises(Unavailable, match="connected again since"):
        await world.connect(node, program=Program("one", 1))
    task = await world.create_task(node.organization_id)
    assert (await hear(newer)).assignments[0].task_id == task.id
    row = await row_of(world)
    assert (row.online, row.connection, row.attempt) == (True, 1, 2)


@pytest.mark.parametrize("program", [Program("one", 3), Program("another", 1)], ids=str)
async def test_a_later_attempt_and_another_program_are_taken_in(world: World, program: Program) -> None:
    older = await world.connect(world.nodes[0], program=Program("one", 2))
    link = await world.connect(world.nodes[0], program=program)
    assert (await hear(older)).superseded
    await world.dispatcher.disconnect(link)
    assert not (await row_of(world)).online


async def test_a_connection_that_fails_leaves_the_older_one_alone(world: World) -> None:
    node = world.nodes[0]
    link = await world.connect(node)
    with faults.armed("server.connect.before_commit=raise"), pytest.raises(faults.InjectedFault):
        await world.connect(node)
    await world.dispatcher.idle()
    assert (await row_of(world)).online
    await world.create_task(node.organization_id)
    assert (await hear(link)).assignments


async def test_a_new_api_key_ends_the_connection_also_where_nobody_was_told(world: World) -> None:
    link = await world.connect(world.nodes[0])
    await NodeRules(world.database).reset_api_key(world.user, world.nodes[0].id)
    assert not (await row_of(world)).online
    await said_to(world, Resync())
    heard = await hear(link)
    assert (heard.closed, heard.superseded) == (True, False)
    assert "API key changed" in link.closed_because
    again = await world.connect(world.nodes[0])
    await said_to(world, Resync())
    assert again.outgoing.empty()
    assert (await row_of(world)).online


async def test_a_deletion_ends_the_connection_also_where_nobody_was_told(world: World) -> None:
    link = await world.connect(world.nodes[0])
    await NodeRules(world.database).delete(world.user, world.nodes[0].id)
    await said_to(world, Resync())
    heard = await hear(link)
    assert (heard.closed, heard.superseded) == (True, False)
    assert "deleted" in link.closed_because
    assert not world.dispatcher.connected()


@pytest.mark.parametrize("how", ["key reset", "deleted", "told late"])
async def test_a_node_that_is_cut_off_is_offline_and_announced_so(world: World, how: str) -> None:
    """Also where the word of it comes so late that it ends a connection with the new key: then that one has ended."""
    events: list[bool] = []

    def note(signal: Signal) -> None:
        if isinstance(signal, Happened) and signal.event.HasField("node"):
            events.append(signal.event.node.online)

    link, row = await world.connect(world.nodes[0]), await row_of(world)
    world.bus.subscribe(note)
    rules = NodeRules(world.database, Hooks(node_cut_off=world.dispatcher.cut_off))
    if how == "key reset":
        await rules.reset_api_key(world.user, row.id)
    elif how == "deleted":
        await rules.delete(world.user, row.id)
    else:
        world.dispatcher.cut_off(row)
    assert (await hear(link)).closed
    await world.dispatcher.disconnect(link)
    assert events == [False]
    assert how == "deleted" or not (await row_of(world)).online


async def test_who_was_told_nothing_of_a_newer_connection_is_superseded_when_it_looks(world: World) -> None:
    link = await world.connect(world.nodes[0], program=Program("one", 1))
    async with world.database.write() as store:
        await store.parties.connected(world.nodes[0].id, Program("other", 1), replica=1, at=now())
    await said_to(world, Resync())
    assert (await hear(link)).superseded


async def test_a_server_that_goes_away_takes_no_node_in(world: World) -> None:
    link = await world.connect(world.nodes[0])
    world.dispatcher.drain()
    message = link.outgoing.get_nowait()
    assert message is not None
    assert message.WhichOneof("message") == "drain"
    assert (await hear(link)).closed
    with pytest.raises(Unavailable, match="going away"):
        await world.connect(world.nodes[1])


async def test_who_connects_while_the_server_goes_away_is_told(world: World, commits: Commits) -> None:
    commits.slow()
    connecting = asyncio.create_task(world.connect(world.nodes[0]))
    await commits.begun.wait()
    world.dispatcher.drain()
    commits.may_go_on.set()
    message = (await connecting).outgoing.get_nowait()
    assert message is not None
    assert message.WhichOneof("message") == "drain"


async def test_whoever_gives_up_in_a_commit_others_are_told_of_it(world: World, commits: Commits) -> None:
    """The caller waits for the commit; then what was to be done after it is done, and the change is there."""
    told: list[str] = []
    commits.slow()

    async def change() -> None:
        async with world.database.write() as store:
            row = await store.parties.node(world.nodes[0].id)
            assert row is not None
            row.ip = "192.0.2.7"
            store.after_commit(lambda: told.append("committed"))

    await commits.given_up(asyncio.create_task(change()))
    assert told == ["committed"]
    assert (await row_of(world)).ip == "192.0.2.7"
