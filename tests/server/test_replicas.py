"""Several server processes on one PostgreSQL: here two in one process, in tests/flows/test_replicas.py real ones."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text, update

from vantage6.api.v1 import delivery_pb2, event_pb2
from vantage6.server.domain import tasks
from vantage6.server.domain.bus import Bus, Happened, Resync, Signal
from vantage6.server.domain.events import Topic, now
from vantage6.server.domain.links import Claim
from vantage6.server.domain.running import Runs
from vantage6.server.domain.states import ResultState, TaskState
from vantage6.server.store import notify
from vantage6.server.store.locks import lock_tasks
from vantage6.server.store.parties import Program
from vantage6.server.store.sql import Store
from vantage6.server.store.tables import Result

from .databases import KINDS
from .world import Rows, World, add_rows, hear, replica, report

if TYPE_CHECKING:
    from tests.postgres import Postgres

S = ResultState
SITES = 6


class Heard(list[Signal]):
    """What a replica was told, to be waited for."""

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self._news = asyncio.Event()
        bus.subscribe(self._add)

    def _add(self, signal: Signal) -> None:
        self.append(signal)
        self._news.set()

    async def until(self, wanted: Callable[[Signal], bool]) -> Signal:
        async with asyncio.timeout(20):
            while not (found := [signal for signal in self if wanted(signal)]):
                self._news.clear()
                await self._news.wait()
        return found[0]


class Acquaintances(dict[int, float]):
    """When others were heard, to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def __setitem__(self, replica: int, time: float) -> None:
        super().__setitem__(replica, time)
        self._news.set()

    async def until(self, replica: int) -> None:
        async with asyncio.timeout(20):
            while replica not in self:
                self._news.clear()
                await self._news.wait()


def bus_of(world: World) -> notify.PostgresBus:
    assert isinstance(world.bus, notify.PostgresBus)
    return world.bus


async def found(one: World, other: World) -> None:
    """Waits until one replica knows of the other."""
    bus = bus_of(one)
    if not isinstance(bus._heard, Acquaintances):
        known, bus._heard = bus._heard, Acquaintances()
        bus._heard.update(known)
    assert isinstance(bus._heard, Acquaintances)
    await bus._heard.until(bus_of(other).replica)


@dataclass
class Pair:
    """Two replicas, and all that happened at each."""

    a: World
    b: World
    heard_by_a: Heard
    heard_by_b: Heard
    url: str
    rows: Rows


@pytest.fixture
async def pair(postgres: Postgres, empty_template: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setattr(notify, "BEAT_SECONDS", 0.2)
    url = postgres.create(empty_template)
    async with AsyncExitStack() as stack:
        rows = await add_rows(url, sites=SITES)
        a = await stack.enter_async_context(replica(url, rows))
        b = await stack.enter_async_context(replica(url, rows))
        made = Pair(a, b, Heard(a.bus), Heard(b.bus), url, rows)
        await found(a, b)
        await found(b, a)
        yield made
    postgres.drop(url)


pytestmark = pytest.mark.row("M27")
on_postgres = pytest.mark.postgres


@on_postgres
async def test_a_task_reaches_a_node_at_the_other_replica_and_its_result_comes_back(pair: Pair) -> None:
    link = await pair.b.connect(pair.b.nodes[0])
    task = await pair.a.create_task(pair.a.organizations[0])
    events = pair.a.hub.follow(pair.a.hub.open(Topic(task_id=task.id)), None)
    assignment = (await hear(link)).assignments[0]
    pair.b.desk.submit(link, report(assignment, S.COMPLETED, b"json.1"))
    async with asyncio.timeout(10):
        seen = [event async for event in events]
    assert [event.id for event in seen] == sorted(event.id for event in seen)
    assert [TaskState(event.task.state) for event in seen if event.HasField("task")] == [
        TaskState.PENDING, TaskState.RUNNING, TaskState.COMPLETED,
    ]  # fmt: skip


@on_postgres
async def test_a_cancellation_reaches_a_run_at_the_other_replica(pair: Pair) -> None:
    link = await pair.b.connect(pair.b.nodes[0])
    task = await pair.a.create_task(pair.a.organizations[0])
    assignment = (await hear(link)).assignments[0]
    await pair.a.database.transact(lambda store: tasks.cancel(store, pair.a.bus, pair.a.user, task.id))
    assert (await hear(link)).cancels == [
        delivery_pb2.Cancel(result_id=assignment.result_id, epoch=1, reason="CANCELLED")
    ]
    assert not link.active


@on_postgres
async def test_a_connection_supersedes_the_one_at_the_other_replica(pair: Pair) -> None:
    node = pair.a.nodes[0]
    first = await pair.a.connect(node)
    second = await pair.b.connect(node)
    heard = await hear(first, 2)
    assert heard.superseded
    assert heard.closed
    await pair.a.dispatcher.disconnect(first)
    async with pair.a.database.read() as store:
        row = await store.parties.node(node.id)
    assert row is not None
    assert (row.online, row.connection, row.replica) == (True, 2, pair.b.bus.replica)
    await pair.a.create_task(pair.a.organizations[0])
    assert (await hear(second)).assignments


@on_postgres
async def test_nothing_is_handed_out_to_a_stale_connection(pair: Pair) -> None:
    """Before the replica that holds it has heard of the newer one."""
    node = pair.a.nodes[0]
    stale = await pair.a.connect(node)
    # As b does, which then does not come to tell of it.
    await pair.b.database.transact(lambda store: store.parties.connected(node.id, Program(), replica=1, at=now()))
    task = await pair.a.create_task(pair.a.organizations[0])
    await pair.a.dispatcher.idle()
    heard = await hear(stale, 3)
    assert heard.superseded
    assert heard.closed
    assert not heard.assignments
    async with pair.a.database.read() as store:
        assert [result.state for result in await store.results.of_tasks([task.id])] == [S.PENDING]


@on_postgres
async def test_a_cut_off_node_is_cut_off_at_every_replica(pair: Pair) -> None:
    link = await pair.b.connect(pair.b.nodes[0])
    async with pair.a.database.read() as store:
        row = await store.parties.node(pair.a.nodes[0].id)
    assert row is not None
    pair.a.dispatcher.cut_off(row)
    assert (await hear(link)).closed


@on_postgres
async def test_the_nodes_of_a_replica_that_died_are_offline(pair: Pair) -> None:
    async with AsyncExitStack() as stack:
        dying = await stack.enter_async_context(replica(pair.url, pair.rows))
        await found(pair.a, dying)
        await dying.connect(dying.nodes[0])
        await pair.a.connect(pair.a.nodes[1])
        # Leaves without saying a word.
    gone = pair.a.nodes[0].id
    await pair.heard_by_b.until(lambda signal: is_node_event(signal, gone, online=False))
    async with pair.a.database.read() as store:
        nodes = await store.parties.nodes_at(collaboration_ids=[pair.a.collaboration_id])
    assert [node.online for node in nodes[:2]] == [False, True]


def is_node_event(signal: Signal, node_id: int, *, online: bool) -> bool:
    event = signal.event.node if isinstance(signal, Happened) else event_pb2.NodeEvent()
    return (event.node_id, event.online) == (node_id, online)


@on_postgres
async def test_what_a_replica_committed_and_could_not_tell_is_found(pair: Pair) -> None:
    """It died between the commit and the notification."""
    link = await pair.a.connect(pair.a.nodes[0])
    events = pair.a.hub.follow(pair.a.hub.open(Topic(collaboration_ids=None)), None)
    first = asyncio.ensure_future(anext(events))
    async with AsyncExitStack() as stack:
        dying = await stack.enter_async_context(replica(pair.url, pair.rows))
        await found(pair.a, dying)
        bus_of(dying)._heard.clear()
        task = await dying.create_task(dying.organizations[0])
    async with asyncio.timeout(20):
        assert (await hear(link)).assignments[0].task_id == task.id
        assert (await first).task.task_id == task.id


@on_postgres
async def test_a_lost_connection_is_made_again_and_what_was_missed_is_found(pair: Pair, postgres: Postgres) -> None:
    link = await pair.b.connect(pair.b.nodes[0])
    doomed = await pair.b.connect(pair.b.nodes[1])
    held = await pair.a.create_task(pair.a.organizations[1])
    assignment = (await hear(doomed)).assignments[0]
    pair.heard_by_b.clear()
    # Both lose theirs; meanwhile a task is made and another one cancelled.
    killed = postgres.sql(
        "SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
        f"WHERE l.locktype = 'advisory' AND d.datname = '{pair.url.rpartition('/')[2]}'"
    )
    assert killed == "2"
    task = await pair.a.create_task(pair.a.organizations[0])
    await pair.a.database.transact(lambda store: tasks.cancel(store, pair.a.bus, pair.a.user, held.id))
    assert (await hear(link)).assignments[0].task_id == task.id
    cancels = (await hear(doomed)).cancels
    assert [(cancel.result_id, cancel.epoch) for cancel in cancels] == [(assignment.result_id, 1)]
    await pair.heard_by_b.until(lambda signal: isinstance(signal, Resync))
    async with pair.b.database.read() as store:
        node = await store.parties.node(pair.b.nodes[0].id)
    assert node is not None
    assert node.online


@on_postgres
async def test_two_replicas_settle_a_task_once(pair: Pair) -> None:
    """Its last two results come at the same time, one at each; a hundred times."""
    one = await pair.a.connect(pair.a.nodes[0], window=100)
    other = await pair.b.connect(pair.b.nodes[1], window=100)
    made = [await pair.a.create_task(*pair.a.organizations[:2]) for _ in range(100)]
    mine, theirs = (await hear(one, 100)).assignments, (await hear(other, 100)).assignments
    for left, right in zip(mine, reversed(theirs), strict=True):
        pair.a.desk.submit(one, report(left, S.COMPLETED, b"json.1"))
        pair.b.desk.submit(other, report(right, S.COMPLETED, b"json.2"))
        await asyncio.sleep(0)
    await asyncio.gather(pair.a.desk.idle(), pair.b.desk.idle())
    async with pair.a.database.read() as store:
        rows = await store.events.of_collaborations(None, 0, 10_000)
        states = [task.state for task in (await store.tasks.by_ids([task.id for task in made])).values()]
    assert states == [TaskState.COMPLETED] * 100
    events = [event_pb2.Event.FromString(row.body) for row in rows]
    ends = [event.task.task_id for event in events if event.HasField("task") and event.task.complete]
    assert sorted(ends) == [task.id for task in made]


@on_postgres
async def test_every_watcher_sees_every_event_in_order(pair: Pair) -> None:
    """While both replicas write as fast as they can, each with several transactions at once."""
    watches = [world.hub.open(Topic(collaboration_ids=None)) for world in (pair.a, pair.b)]
    followers = [world.hub.follow(watch, 0) for world, watch in zip((pair.a, pair.b), watches, strict=True)]
    total = 40 * (1 + SITES) * 2
    seen = [asyncio.ensure_future(take(events, total)) for events in followers]
    await asyncio.gather(*(world.create_task() for _ in range(40) for world in (pair.a, pair.b)))
    async with pair.a.database.read() as store:
        log = [row.id for row in await store.events.of_collaborations(None, 0, 10_000)]
    assert len(log) == total
    async with asyncio.timeout(20):
        assert await asyncio.gather(*seen) == [log, log]


async def take(events: AsyncIterator[event_pb2.Event], count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        event = await anext(events)
        if event.id:
            found.append(event.id)
    return found


@on_postgres
async def test_log_lines_travel_whatever_their_size(pair: Pair) -> None:
    """A notification holds less than 8,000 bytes."""
    link = await pair.b.connect(pair.b.nodes[0])
    task = await pair.a.create_task(pair.a.organizations[0])
    assignment = (await hear(link)).assignments[0]
    watch = pair.a.hub.open(Topic(task_id=task.id))
    lines = os.urandom(60_000)
    link.encrypted = False
    Runs(pair.b.bus).log(link, delivery_pb2.LogLines(result_id=assignment.result_id, sequence=1, lines=lines))
    found: list[event_pb2.Event] = []
    async with asyncio.timeout(10):
        while not any(event.HasField("log") for event in found):
            found += await watch.take()
    assert [event.log.lines for event in found if event.HasField("log")] == [lines]


@on_postgres
async def test_what_is_closed_meanwhile_does_not_keep_the_next_from_its_turn(pair: Pair) -> None:
    """A node takes one; its candidate is cancelled while its task is locked: it gets the one behind it."""
    organization = pair.a.organizations[0]
    first, second = [await pair.a.create_task(organization) for _ in range(2)]
    one = {(organization, pair.a.collaboration_id): 1}
    async with pair.b.database.write() as store:
        await lock_tasks(store.session, {first.id})
        picking = asyncio.create_task(pair.a.database.transact(lambda store: store.results.pending(one)))
        waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        async with asyncio.timeout(20), pair.b.database.read() as other:
            while not await other.session.scalar(waiting):  # noqa: ASYNC110 - PostgreSQL tells nobody that somebody waits
                await asyncio.sleep(0.01)
        changed = update(Result).where(Result.task_id == first.id).values(state=int(ResultState.CANCELLED))
        await store.session.execute(changed)
    assert [task.id for _, task in await picking] == [second.id]


@on_postgres
async def test_a_deadlock_is_tried_again(pair: Pair) -> None:
    async with pair.a.database.write() as store:
        await store.session.execute(text("CREATE TABLE counters (id int primary key, value int)"))
        await store.session.execute(text("INSERT INTO counters VALUES (1, 0), (2, 0)"))
    both = asyncio.Barrier(2)
    tries = 0

    async def crosswise(store: Store, first: int, second: int) -> None:
        nonlocal tries
        tries += 1
        meet = tries <= 2
        update = text("UPDATE counters SET value = value + 1 WHERE id = :id")
        await store.session.execute(update, {"id": first})
        if meet:
            await both.wait()
        await store.session.execute(update, {"id": second})

    await asyncio.gather(
        pair.a.database.transact(lambda store: crosswise(store, 1, 2)),
        pair.b.database.transact(lambda store: crosswise(store, 2, 1)),
    )
    async with pair.a.database.read() as store:
        assert list(await store.session.scalars(text("SELECT value FROM counters"))) == [2, 2]
    assert tries == 3


@pytest.mark.row("X12")
@pytest.mark.attack("X12")
@pytest.mark.parametrize("kind", KINDS, indirect=True)
async def test_x12_the_same_call_many_times_at_once_makes_one_task(empty: str) -> None:
    rows = await add_rows(empty)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(replica(empty, rows))
        worlds = [first, await stack.enter_async_context(replica(empty, rows)) if first.database.shared else first]
        made = await asyncio.gather(
            *(world.create_task(rows.organizations[0], key="k") for _ in range(8) for world in worlds)
        )
        assert len({task.id for task in made}) == 1


@on_postgres
async def test_a_claim_that_moves_to_another_replica_goes_on(pair: Pair) -> None:
    link = await pair.a.connect(pair.a.nodes[0])
    await pair.a.create_task(pair.a.organizations[0])
    assignment = (await hear(link)).assignments[0]
    moved = await pair.b.connect(pair.b.nodes[0], held={assignment.result_id: Claim(assignment.epoch, S.RUNNING)})
    pair.b.desk.submit(moved, report(assignment, S.COMPLETED, b"json.1"))
    assert (await hear(moved)).accepted
    # What was under way on the old line arrives as well: known, and without effect.
    pair.a.desk.submit(link, report(assignment, S.RUNNING))
    await pair.a.desk.idle()
    assert (await pair.a.result(assignment.result_id)).state == S.COMPLETED
