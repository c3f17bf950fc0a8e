"""What is tried again: losses and faults of a site's infrastructure, every failure only where the task says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from vantage6.api.v1 import content_pb2, delivery_pb2
from vantage6.server.domain.states import INFRASTRUCTURE, ResultState, TaskState

from .databases import sqlite_url
from .world import World, hear, make_world, report

pytestmark = pytest.mark.row("M27")
S = ResultState


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(sqlite_url(tmp_path)) as made:
        yield made


async def failed(world: World, reason: str, state: ResultState = S.FAILED, **task: object) -> int:
    """The id of a result whose node reported that, at its first try."""
    link = await world.connect(world.nodes[0], window=1)
    await world.create_task(world.organizations[0], **task)
    assignment = (await hear(link)).assignments[0]
    said = report(assignment, state, reason=reason, message="what the node says", start_time=Timestamp(seconds=5))
    said.finish_time.GetCurrentTime()
    said.log.CopyFrom(content_pb2.Content(inline=b"lines"))
    link.window = 0  # So that what is tried again can be looked at.
    world.desk.submit(link, said)
    assert (await hear(link)).accepted
    await world.settled()
    return assignment.result_id


@pytest.mark.parametrize("reason", sorted(INFRASTRUCTURE))
async def test_a_fault_of_infrastructure_is_tried_again(world: World, reason: str) -> None:
    result = await world.result(await failed(world, reason))
    assert (result.state, result.reason, result.losses) == (S.PENDING, reason, 1)
    assert result.message == "what the node says; try 1 of 3"
    assert (result.assigned_at, result.started_at, result.finished_at) == (None, None, None)
    async with world.database.read() as store:
        assert not await store.results.contents([result.id], "log")


async def test_it_ends_with_the_nodes_own_words_after_the_last_try(world: World) -> None:
    link = await world.connect(world.nodes[0])
    task = await world.create_task(world.organizations[0], retries=2)
    epochs = []
    for _ in range(3):
        assignment: delivery_pb2.Assignment = (await hear(link)).assignments[0]
        epochs.append(assignment.epoch)
        world.desk.submit(link, report(assignment, S.FAILED, reason="IMAGE_UNREACHABLE", message="no way there"))
        assert (await hear(link)).accepted
    assert epochs == [1, 2, 3]
    result = await world.result(assignment.result_id)
    assert (result.state, result.reason) == (S.FAILED, "IMAGE_UNREACHABLE")
    assert result.message == "no way there; not tried again after 2 retries"
    assert result.finished_at is not None
    assert (await world.task(task.id)).state == TaskState.FAILED


async def test_who_wants_no_retries_gets_none(world: World) -> None:
    result = await world.result(await failed(world, "RUNTIME_UNAVAILABLE", retries=0))
    assert (result.state, result.message) == (S.FAILED, "what the node says")


@pytest.mark.parametrize("reason", ["ALGORITHM_FAILED", "OUT_OF_MEMORY", "IMAGE_MISSING", "NODE_ERROR", "DEADLINE", ""])
async def test_no_other_failure_is_tried_again(world: World, reason: str) -> None:
    result = await world.result(await failed(world, reason))
    assert (result.state, result.reason, result.losses) == (S.FAILED, reason, 0)
    assert result.message == "what the node says"
    async with world.database.read() as store:
        contents = await store.results.contents([result.id], "log")
    assert contents[result.id, "log"].data == b"lines"


@pytest.mark.parametrize("reason", ["ALGORITHM_FAILED", "OUT_OF_MEMORY", "IMAGE_MISSING"])
async def test_every_failure_is_tried_again_where_the_task_says_so(world: World, reason: str) -> None:
    result = await world.result(await failed(world, reason, retry_failures=True))
    assert (result.state, result.reason, result.losses) == (S.PENDING, reason, 1)


@pytest.mark.parametrize(
    ("state", "reason"), [(S.FAILED, "DEADLINE"), (S.REFUSED, "IMAGE_NOT_ALLOWED"), (S.CANCELLED, "CANCELLED")]
)
async def test_what_is_over_is_over(world: World, state: ResultState, reason: str) -> None:
    result = await world.result(await failed(world, reason, state, retry_failures=True))
    assert (result.state, result.reason, result.losses) == (state, reason, 0)


async def test_what_a_node_reports_as_lost_may_not_look_finished(world: World) -> None:
    result = await world.result(await failed(world, "NODE_RESTARTED", S.LOST))
    assert (result.state, result.reason, result.finished_at) == (S.PENDING, "LOST", None)
