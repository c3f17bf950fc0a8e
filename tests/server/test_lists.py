"""Long lists: pages and counts come from indexes and memory, and are the same as if everything were read."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import event, text, update

from vantage6.api.v1 import organization_pb2, result_pb2, task_pb2
from vantage6.server.domain.bus import LocalBus
from vantage6.server.domain.events import EventHub, Topic
from vantage6.server.domain.results import move, settle
from vantage6.server.domain.states import ResultState
from vantage6.server.store import bulk
from vantage6.server.store.results import NewContent
from vantage6.server.store.tables import Task
from vantage6.server.store.tasks import TaskFilter, TaskSight

from .conftest import Hospitals
from .live import everything

LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


async def make_old(hospitals: Hospitals) -> None:
    async with hospitals.live.database.write() as store:
        await store.session.execute(update(Task).values(created_at=LONG_AGO))


async def total(hospitals: Hospitals) -> int:
    call = hospitals.live.stubs.tasks.ListTasks(task_pb2.ListTasksRequest(page=1, per_page=2), metadata=hospitals.root)
    sent = dict(await call.initial_metadata())
    await everything(call)
    return int(sent["x-total-count"])


async def test_the_count_follows_what_is_created_and_deleted(hospitals: Hospitals) -> None:
    live = hospitals.live
    runs = [await live.add_run(hospitals.shared, hospitals.a) for _ in range(5)]
    await make_old(hospitals)
    assert await total(hospitals) == await total(hospitals) == 5
    await live.add_run(hospitals.shared, hospitals.b)
    assert await total(hospitals) == 6
    request = task_pb2.DeleteTaskRequest(id=runs[2][0].id)
    await live.stubs.tasks.DeleteTask(request, metadata=hospitals.root)
    assert await total(hospitals) == 5
    await make_old(hospitals)
    assert await total(hospitals) == 5


async def test_what_was_counted_is_not_read_again(hospitals: Hospitals) -> None:
    """The second count begins behind the tasks that the first one has seen."""
    live = hospitals.live
    for _ in range(3):
        task, _ = await live.add_run(hospitals.shared, hospitals.a)
    await make_old(hospitals)
    await total(hospitals)
    seen: list[tuple[str, object]] = []
    engine = live.database.engine.sync_engine

    def note(*arguments: object) -> None:
        seen.append((str(arguments[2]), arguments[3]))

    event.listen(engine, "before_cursor_execute", note)
    try:
        assert await total(hospitals) == 3
    finally:
        event.remove(engine, "before_cursor_execute", note)
    ((statement, values),) = [each for each in seen if "count(tasks.id)" in each[0]]
    assert "tasks.id >" in statement
    assert task.id in tuple(values)  # type: ignore[arg-type]


@pytest.mark.parametrize("descending", [False, True])
async def test_a_page_of_parts_is_the_page_of_all(hospitals: Hospitals, descending: bool) -> None:
    """What may be seen for several reasons comes once, and in order."""
    live = hospitals.live
    for index in range(12):
        collaboration = hospitals.shared if index % 3 else hospitals.other
        await live.add_run(collaboration, hospitals.a if index % 2 else hospitals.b)
    sight = TaskSight(collaboration_ids=[hospitals.shared], initiator_ids=[hospitals.a, hospitals.b], user_id=1)
    async with live.database.read() as store:
        whole = await store.tasks.find(TaskFilter(sight), descending=descending)
        assert len(whole) == 12
        pages = [
            await store.tasks.find(TaskFilter(sight), offset=start, limit=5, descending=descending)
            for start in (0, 5, 10)
        ]
        assert [task.id for page in pages for task in page] == [task.id for task in whole]
        rest = await store.tasks.find(TaskFilter(sight), limit=5, after=whole[3].id, descending=descending)
        assert [task.id for task in rest] == [task.id for task in whole[4:9]]


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_the_queue_is_read_from_the_index_of_open_results(hospitals: Hospitals) -> None:
    """Not from that of an organization's results, which grows for ever."""
    live = hospitals.live
    plans: list[str] = []
    async with live.database.read() as store:
        engine = live.database.engine.sync_engine
        seen: list[tuple[str, Any]] = []

        def note(*arguments: Any) -> None:
            seen.append((arguments[2], arguments[3]))

        event.listen(engine, "before_cursor_execute", note)
        await store.results.pending({(hospitals.a, hospitals.shared): 5})
        await store.results.pending({(number, hospitals.shared): 5 for number in range(40)})
        await store.results.nearest_deadline()
        event.remove(engine, "before_cursor_execute", note)
        connection = await store.session.connection()
        for statement, values in seen:
            rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            plans.append(" | ".join(row["detail"] for row in rows.mappings()))
    assert len(plans) == 3
    for plan in plans:
        assert "ix_results_open" in plan
        assert "ix_results_organization_id" not in plan


async def test_ids_are_never_given_out_again(hospitals: Hospitals) -> None:
    live = hospitals.live
    task, _ = await live.add_run(hospitals.shared, hospitals.a)
    async with live.database.write() as store:
        made = await store.results.add_pending(task.id, [hospitals.b])
    async with live.database.write() as store:
        await store.session.execute(text("DELETE FROM results WHERE id = :id"), {"id": made[0].id})
    async with live.database.write() as store:
        again = await store.results.add_pending(task.id, [hospitals.b])
        assert again[0].id > made[0].id
        assert await bulk.next_ids(store.session, bulk.RESULTS, 3) == [again[0].id + n for n in (1, 2, 3)]
    # The mapper's own inserts go on behind them.
    _, other = await live.add_run(hospitals.shared, hospitals.a)
    assert other.id > again[0].id


async def test_an_organization_that_goes_leaves_the_lists_of_its_tasks(hospitals: Hospitals) -> None:
    """Deleting it takes itself as initiator from its tasks: a remembered count would be wrong."""
    live = hospitals.live
    request = organization_pb2.CreateOrganizationRequest(name="leaving")
    leaving = (await live.stubs.organizations.CreateOrganization(request, metadata=hospitals.root)).id
    task, _ = await live.add_run(hospitals.shared, hospitals.a)
    async with live.database.write() as store:
        await store.session.execute(
            update(Task).where(Task.id == task.id).values(initiator_id=leaving, created_at=LONG_AGO)
        )
    wanted = TaskFilter(TaskSight(initiator_ids=[leaving]))
    async with live.database.read() as store:
        assert await store.tasks.count(wanted) == 1
    request_gone = organization_pb2.DeleteOrganizationRequest(id=leaving)
    await live.stubs.organizations.DeleteOrganization(request_gone, metadata=hospitals.root)
    async with live.database.read() as store:
        assert await store.tasks.count(wanted) == 0


async def test_results_by_id_with_the_wanted_contents_only(hospitals: Hospitals) -> None:
    live = hospitals.live
    runs = [await live.add_run(hospitals.shared, hospitals.a) for _ in range(4)]
    wanted = [runs[1][1].id, runs[3][1].id]
    async with live.database.write() as store:
        await store.results.add_contents([NewContent(wanted[0], kind, kind.encode()) for kind in ("input", "output")])
    request = result_pb2.ListResultsRequest(ids=wanted, include_content=True, content_kinds=["output"])
    found = await everything(live.stubs.results.ListResults(request, metadata=hospitals.root))
    assert [result.id for result in found] == wanted
    assert found[0].output_content.inline == b"output"
    assert not found[0].HasField("input_content")
    request = result_pb2.ListResultsRequest(ids=wanted, include_content=True)
    found = await everything(live.stubs.results.ListResults(request, metadata=hospitals.root))
    assert found[0].input_content.inline == b"input"


async def test_a_watch_of_what_became_final(hospitals: Hospitals) -> None:
    """Nothing else is sent; and one of a task that was complete before ends, whatever the log still has."""
    live = hospitals.live
    task, result = await live.add_run(hospitals.shared, hospitals.a)
    bus = LocalBus()
    hub = EventHub(live.database, bus)
    watch = hub.open(Topic(task.id, only_final=True))
    following = hub.follow(watch, None)
    async with live.database.write() as store:
        rows = await store.results.moving([result.id])
        move(store, bus, task, rows[result.id], ResultState.ASSIGNED)
        move(store, bus, task, rows[result.id], ResultState.COMPLETED)
        await store.results.save(rows.values())
        await settle(store, bus, [task])
    seen = [event async for event in following]
    assert [event.WhichOneof("kind") for event in seen] == ["result", "task"]
    assert seen[1].task.results == 1
    again = hub.follow(hub.open(Topic(task.id, only_final=True, over=True)), seen[1].id)
    assert [event async for event in again] == []
