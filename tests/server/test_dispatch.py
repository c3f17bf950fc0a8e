"""Delivery, from the table to the nodes and back: nothing lost, nothing run twice."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from structlog.testing import capture_logs

from vantage6.common import faults
from vantage6.server.domain import tasks
from vantage6.server.domain.deadlines import Deadlines
from vantage6.server.domain.events import Topic, now
from vantage6.server.domain.links import Claim
from vantage6.server.domain.states import ResultState, TaskState

from .world import World, hear, make_world, report

S = ResultState


@pytest.fixture
async def world(empty: str) -> AsyncIterator[World]:
    async with make_world(empty) as made:
        yield made


@pytest.mark.row("D02")
async def test_a_task_reaches_the_nodes_it_is_for_and_no_other(world: World) -> None:
    links = [await world.connect(node) for node in world.nodes]
    task = await world.create_task(world.organizations[0], world.organizations[2])
    first, third = await hear(links[0]), await hear(links[2])
    assert [a.task_id for a in first.assignments + third.assignments] == [task.id, task.id]
    assert first.assignments[0].participants == 2
    assert links[1].outgoing.empty()


async def test_what_waited_is_sent_when_the_node_comes(world: World) -> None:
    task = await world.create_task(world.organizations[0])
    heard = await hear(await world.connect(world.nodes[0]))
    assert heard.assignments[0].task_id == task.id
    assert heard.assignments[0].epoch == 1


async def test_no_more_than_the_window_is_sent(world: World) -> None:
    for _ in range(3):
        await world.create_task(world.organizations[0])
    link = await world.connect(world.nodes[0], window=2)
    assert len((await hear(link, 2)).assignments) == 2
    await world.settled()
    assert link.outgoing.empty()


async def test_a_finished_run_makes_room_for_the_next(world: World) -> None:
    for _ in range(2):
        await world.create_task(world.organizations[0])
    link = await world.connect(world.nodes[0], window=1)
    assignment = (await hear(link)).assignments[0]
    world.desk.submit(link, report(assignment, S.COMPLETED, b"json.1"))
    heard = await hear(link, 2)
    assert [a.result_id for a in heard.accepted] == [assignment.result_id]
    assert heard.assignments[0].result_id != assignment.result_id


async def test_higher_priority_goes_first(world: World) -> None:
    await world.create_task(world.organizations[0], name="usual")
    await world.create_task(world.organizations[0], name="urgent", priority=5)
    link = await world.connect(world.nodes[0], window=1)
    assert (await hear(link)).assignments[0].task_name == "urgent"


async def test_a_task_is_complete_when_all_sites_are(world: World) -> None:
    task = await world.create_task()
    links = [await world.connect(node) for node in world.nodes]
    for link in links:
        assignment = (await hear(link)).assignments[0]
        world.desk.submit(link, report(assignment, S.COMPLETED, b"json.1"))
        await hear(link)
    assert (await world.task(task.id)).state == TaskState.COMPLETED


@pytest.mark.row("M27")
async def test_a_repeated_report_is_accepted_again_and_changes_nothing(world: World) -> None:
    await world.create_task(world.organizations[0])
    link = await world.connect(world.nodes[0])
    assignment = (await hear(link)).assignments[0]
    done = report(assignment, S.COMPLETED, b"json.1")
    world.desk.submit(link, done)
    world.desk.submit(link, done)
    heard = await hear(link, 2)
    assert len(heard.accepted) == 2
    async with world.database.read() as store:
        contents = await store.results.contents([assignment.result_id], "output")
    assert contents[assignment.result_id, "output"].data == b"json.1"


@pytest.mark.row("M27")
async def test_the_receipt_of_an_assignment_waits_for_no_transaction(world: World) -> None:
    task = await world.create_task(world.organizations[0])
    link = await world.connect(world.nodes[0])
    assignment = (await hear(link)).assignments[0]
    taken = report(assignment, S.ASSIGNED)
    async with world.database.write():
        assert link.acknowledged(taken)
        assert [accepted.epoch for accepted in (await hear(link)).accepted] == [assignment.epoch]
        # What has to be written, and what may be out of date, is for the desk.
        assert not link.acknowledged(report(assignment, S.RUNNING))
        taken.epoch -= 1
        assert not link.acknowledged(taken)
    taken.epoch += 1
    async with world.database.write() as store:
        await tasks.cancel(store, world.bus, world.user, task.id)
    assert not link.acknowledged(taken)
    world.desk.submit(link, taken)
    assert (await hear(link, 2)).refused[0].reason == "LEASE_LOST"


@pytest.mark.row("M27")
async def test_an_assignment_that_did_not_arrive_is_given_again_with_a_new_epoch(world: World) -> None:
    await world.create_task(world.organizations[0])
    link = await world.connect(world.nodes[0])
    lost = (await hear(link)).assignments[0]
    again = (await hear(await world.connect(world.nodes[0]))).assignments[0]
    assert (again.result_id, again.epoch) == (lost.result_id, lost.epoch + 1)
    assert (await world.result(again.result_id)).losses == 0


@pytest.mark.row("M27")
async def test_a_held_run_is_left_with_its_node(world: World) -> None:
    await world.create_task(world.organizations[0])
    link = await world.connect(world.nodes[0])
    assignment = (await hear(link)).assignments[0]
    world.desk.submit(link, report(assignment, S.RUNNING))
    await hear(link)
    await world.dispatcher.disconnect(link)
    held = {assignment.result_id: Claim(assignment.epoch, S.RUNNING)}
    again = await world.connect(world.nodes[0], held=held)
    world.desk.submit(again, report(assignment, S.COMPLETED, b"json.1"))
    assert (await hear(again)).accepted[0].result_id == assignment.result_id
    assert (await world.result(assignment.result_id)).state == S.COMPLETED


@pytest.mark.row("M27")
async def test_a_vanished_run_is_tried_again_and_its_old_report_refused(world: World) -> None:
    await world.create_task(world.organizations[0])
    link = await world.connect(world.nodes[0])
    old = (await hear(link)).assignments[0]
    world.desk.submit(link, report(old, S.RUNNING))
    await hear(link)
    again = await world.connect(world.nodes[0])
    new = (await hear(again)).assignments[0]
    assert (new.result_id, new.epoch) == (old.result_id, old.epoch + 1)
    world.desk.submit(again, report(old, S.COMPLETED, b"json.old"))
    assert (await hear(again)).refused[0].reason == "LEASE_LOST"
    assert (await world.result(old.result_id)).state == S.ASSIGNED


@pytest.mark.row("M27")
async def test_a_late_failure_of_a_run_that_was_taken_back_ends_nothing(world: World) -> None:
    await world.create_task(world.organizations[0])
    link = await world.connect(world.nodes[0])
    old = (await hear(link)).assignments[0]
    world.desk.submit(link, report(old, S.RUNNING))
    await hear(link)
    # It comes back without the run, and takes nothing: the result waits, with the epoch that the run had.
    again = await world.connect(world.nodes[0], window=0)
    world.desk.submit(again, report(old, S.FAILED))
    assert (await hear(again)).refused[0].reason == "LEASE_LOST"
    assert (await world.result(old.result_id)).state == S.PENDING


async def test_content_comes_with_a_final_report_only(world: World) -> None:
    await world.create_task(world.organizations[0])
    link = await world.connect(world.nodes[0])
    assignment = (await hear(link)).assignments[0]
    world.desk.submit(link, report(assignment, S.RUNNING, b"json.early"))
    world.desk.submit(link, report(assignment, S.COMPLETED, b"json.1"))
    assert len((await hear(link, 2)).accepted) == 2
    async with world.database.read() as store:
        contents = await store.results.contents([assignment.result_id], "output")
    assert contents[assignment.result_id, "output"].data == b"json.1"


async def test_retries_end(world: World) -> None:
    task = await world.create_task(world.organizations[0], retries=1)
    for _ in range(2):
        link = await world.connect(world.nodes[0])
        assignment = (await hear(link)).assignments[0]
        world.desk.submit(link, report(assignment, S.RUNNING))
        await hear(link)
    await world.connect(world.nodes[0])
    result = await world.result(assignment.result_id)
    assert (result.state, result.reason) == (S.LOST, "LOST")
    assert (await world.task(task.id)).state == TaskState.FAILED


async def test_one_failed_site_never_fails_the_others(world: World) -> None:
    task = await world.create_task()
    links = [await world.connect(node) for node in world.nodes]
    assignments = [(await hear(link)).assignments[0] for link in links]
    world.desk.submit(links[0], report(assignments[0], S.FAILED, reason="ALGORITHM_FAILED", message="exit code 1"))
    await hear(links[0])
    assert (await world.task(task.id)).state == TaskState.RUNNING
    for link, assignment in zip(links[1:], assignments[1:], strict=True):
        world.desk.submit(link, report(assignment, S.COMPLETED, b"json.1"))
        assert (await hear(link)).accepted
    assert (await world.task(task.id)).state == TaskState.FAILED


async def test_a_quorum_completes_the_task_and_ends_the_rest(world: World) -> None:
    task = await world.create_task(min_results=2)
    links = [await world.connect(node) for node in world.nodes]
    assignments = [(await hear(link)).assignments[0] for link in links]
    for link, assignment in zip(links[:2], assignments[:2], strict=True):
        world.desk.submit(link, report(assignment, S.COMPLETED, b"json.1"))
        await hear(link)
    assert (await world.task(task.id)).state == TaskState.COMPLETED
    assert (await hear(links[2])).cancels[0].reason == "QUORUM"


async def test_cancelling_reaches_the_node_and_closes_the_result(world: World) -> None:
    task = await world.create_task(world.organizations[0])
    link = await world.connect(world.nodes[0])
    assignment = (await hear(link)).assignments[0]
    async with world.database.write() as store:
        await tasks.cancel(store, world.bus, world.user, task.id)
    assert (await hear(link)).cancels[0].result_id == assignment.result_id
    world.desk.submit(link, report(assignment, S.COMPLETED, b"json.1"))
    assert (await hear(link)).refused[0].reason == "LEASE_LOST"
    assert (await world.task(task.id)).state == TaskState.CANCELLED


async def test_a_cancelled_run_is_stopped_when_its_node_comes_back(world: World) -> None:
    task = await world.create_task(world.organizations[0])
    link = await world.connect(world.nodes[0])
    assignment = (await hear(link)).assignments[0]
    world.desk.submit(link, report(assignment, S.RUNNING))
    await hear(link)
    await world.dispatcher.disconnect(link)
    async with world.database.write() as store:
        await tasks.cancel(store, world.bus, world.user, task.id)
    held = {assignment.result_id: Claim(assignment.epoch, S.RUNNING)}
    heard = await hear(await world.connect(world.nodes[0], held=held))
    assert heard.cancels[0].reason == "LEASE_LOST"


@pytest.mark.attack("X01")
async def test_x01_a_node_cannot_report_for_another(world: World) -> None:
    await world.create_task(world.organizations[0])
    link = await world.connect(world.nodes[0])
    assignment = (await hear(link)).assignments[0]
    thief = await world.connect(world.nodes[1])
    world.desk.submit(thief, report(assignment, S.COMPLETED, b"json.1"))
    assert (await hear(thief)).refused[0].reason == "NOT_FOUND"
    assert (await world.result(assignment.result_id)).state == S.ASSIGNED


@pytest.mark.attack
@pytest.mark.row("M36")
async def test_plain_output_in_an_encrypted_collaboration_is_not_stored(empty: str) -> None:
    async with make_world(empty) as world:
        await world.create_task(world.organizations[0])
        link = await world.connect(world.nodes[0])
        assignment = (await hear(link)).assignments[0]
        async with world.database.write() as store:
            collaboration = await store.parties.collaboration(world.collaboration_id)
            assert collaboration is not None
            collaboration.encrypted = True
        world.desk.submit(link, report(assignment, S.COMPLETED, b"json.secret"))
        await hear(link)
        result = await world.result(assignment.result_id)
        assert (result.state, result.reason) == (S.FAILED, "NOT_SEALED")
        async with world.database.read() as store:
            assert not await store.results.contents([assignment.result_id], "output")


async def test_one_bad_report_does_not_hold_up_the_others(world: World) -> None:
    await world.create_task()
    links = [await world.connect(node) for node in world.nodes]
    assignments = [(await hear(link)).assignments[0] for link in links]
    bad = report(assignments[0], S.COMPLETED, b"json.1")
    bad.finish_time.seconds = 2**62
    world.desk.submit(links[0], bad)
    world.desk.submit(links[1], report(assignments[1], S.COMPLETED, b"json.1"))
    assert (await hear(links[1])).accepted
    assert (await hear(links[0])).closed


@pytest.mark.row("M27")
async def test_events_are_replayed_and_then_pushed(world: World) -> None:
    task = await world.create_task(world.organizations[0])
    watch = world.hub.open(Topic(task_id=task.id))
    events = world.hub.follow(watch, None)
    assert (await anext(events)).task.state == int(TaskState.PENDING)
    assert (await anext(events)).result.state == int(S.PENDING)
    link = await world.connect(world.nodes[0])
    assignment = (await hear(link)).assignments[0]
    world.desk.submit(link, report(assignment, S.COMPLETED, b"json.1"))
    rest = [event async for event in events]
    assert [event.id for event in rest] == sorted(event.id for event in rest)
    assert rest[-1].task.complete
    again = [event async for event in world.hub.follow(world.hub.open(Topic(task_id=task.id)), rest[0].id)]
    assert [event.id for event in again] == [event.id for event in rest[1:]]


async def test_a_task_for_many_nodes_is_assigned_in_one_go(empty: str) -> None:
    async with make_world(empty, sites=40) as world:
        links = [await world.connect(node, window=1) for node in world.nodes]
        await world.create_task()
        await world.create_task()
        for link in links:
            assert len((await hear(link)).assignments) == 1
        await world.settled()
        assert all(link.outgoing.empty() for link in links)


@pytest.mark.row("M50")
async def test_every_task_of_a_user_has_a_new_run_id_also_after_a_deletion(world: World) -> None:
    first = await world.create_task(world.organizations[0])
    second = await world.create_task(world.organizations[0])
    async with world.database.write() as store:
        await tasks.delete(store, world.bus, world.user, second.id)
    third = await world.create_task(world.organizations[0])
    assert first.run_id < second.run_id < third.run_id
    assert third.id > second.id


async def test_the_same_key_gives_the_same_task(world: World) -> None:
    first = await world.create_task(world.organizations[0], key="k")
    assert (await world.create_task(world.organizations[0], key="k")).id == first.id


async def test_a_deadline_ends_what_is_open_and_stops_the_run(world: World) -> None:
    deadlines = asyncio.create_task(Deadlines(world.database, world.bus).run())
    link = await world.connect(world.nodes[0])
    due = Timestamp()
    due.FromDatetime(now() + dt.timedelta(seconds=0.3))
    task = await world.create_task(world.organizations[0], world.organizations[1], deadline=due)
    assignment = (await hear(link)).assignments[0]
    assert assignment.deadline == due
    assert (await hear(link)).cancels[0].reason == "DEADLINE"
    assert (await world.task(task.id)).state == TaskState.FAILED
    async with world.database.read() as store:
        results = await store.results.of_tasks([task.id])
    assert [(r.state, r.reason) for r in results] == [(S.FAILED, "DEADLINE")] * 2
    deadlines.cancel()


async def test_nothing_is_acknowledged_that_is_not_committed(world: World) -> None:
    """The commit fails: no answer, the table is as before; said again it is accepted, once."""
    node = world.nodes[0]
    link = await world.connect(node)
    await world.create_task(node.organization_id)
    (assignment,) = (await hear(link)).assignments
    said = report(assignment, ResultState.COMPLETED, b"json.1")
    with capture_logs(), faults.armed("server.store.before_commit=raise:1-20"):
        world.desk.submit(link, said)
        await world.settled()
    heard = await hear(link)
    assert heard.closed
    assert not heard.accepted
    assert (await world.result(assignment.result_id)).state == ResultState.ASSIGNED
    held = {assignment.result_id: Claim(assignment.epoch, ResultState.COMPLETED)}
    again = await world.connect(node, held=held)
    world.desk.submit(again, said)
    (accepted,) = (await hear(again)).accepted
    assert accepted.result_id == assignment.result_id
    assert int(accepted.state) == ResultState.COMPLETED
    assert (await world.result(assignment.result_id)).state == ResultState.COMPLETED


@pytest.mark.parametrize(("min_results", "failures"), [(None, 1), (2, 2)])
async def test_fail_fast_ends_the_rest_when_it_cannot_be_completed_any_more(
    world: World, min_results: int | None, failures: int
) -> None:
    links = [await world.connect(node) for node in world.nodes]
    fields = {} if min_results is None else {"min_results": min_results}
    task = await world.create_task(fail_fast=True, **fields)
    assignments = [(await hear(link)).assignments[0] for link in links]
    for link, assignment in list(zip(links, assignments, strict=True))[:failures]:
        assert (await world.task(task.id)).state == TaskState.RUNNING
        world.desk.submit(link, report(assignment, S.FAILED, reason="ALGORITHM_FAILED"))
        await world.settled()
    assert (await world.task(task.id)).state == TaskState.FAILED
    for link, assignment in list(zip(links, assignments, strict=True))[failures:]:
        (cancel,) = (await hear(link)).cancels
        assert (cancel.result_id, cancel.reason) == (assignment.result_id, "FAIL_FAST")
        row = await world.result(assignment.result_id)
        assert (row.state, row.reason) == (S.CANCELLED, "FAIL_FAST")
