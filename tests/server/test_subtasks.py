"""What a running algorithm may ask for: how deep, how many, how urgent."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from sqlalchemy import event

from vantage6.api.v1 import task_pb2
from vantage6.server.config import ServerConfig
from vantage6.server.domain.subtasks import SubtaskLimits

from .conftest import Hospitals
from .live import Metadata, bearer
from .test_accounts import refused
from .test_tasks import container, create, request_for

pytestmark = pytest.mark.row("M50")
Code = grpc.StatusCode


async def started(hospitals: Hospitals, task_id: int) -> Metadata:
    """The run of a task at hospital A, as the caller that it is for the server."""
    async with hospitals.live.database.write() as store:
        (result,) = await store.results.of_tasks([task_id])
        result.state, result.epoch = 4, 1
        task = await store.tasks.get(task_id)
        assert task is not None
    return bearer(hospitals.live.accounts.issue_container_token(result, task, hospitals.nodes["a"]))


async def asked(hospitals: Hospitals, who: Metadata, **fields: Any) -> grpc.aio.AioRpcError:
    """How a subtask is refused."""
    call = hospitals.live.stubs.tasks.CreateTask(request_for(hospitals, hospitals.a, **fields), metadata=who)
    error: grpc.aio.AioRpcError = await refused(call)
    return error


async def child_of(hospitals: Hospitals, who: Metadata, key: str, **fields: Any) -> task_pb2.Task:
    request = request_for(hospitals, hospitals.a, key=key, **fields)
    task: task_pb2.Task = await hospitals.live.stubs.tasks.CreateTask(request, metadata=who)
    return task


@pytest.mark.attack("X04")
async def test_x04_subtasks_of_subtasks_come_to_an_end(hospitals: Hospitals) -> None:
    hospitals.live.tasks.limits = SubtaskLimits(depth=2)
    who, _, _ = await container(hospitals, hospitals.a)
    for depth in (1, 2):
        task = await child_of(hospitals, who, f"depth {depth}")
        who = await started(hospitals, task.id)
    error = await asked(hospitals, who, key="depth 3")
    assert error.code() is Code.FAILED_PRECONDITION
    assert "depth 2" in str(error.details())
    assert "max_subtask_depth" in str(error.details())


@pytest.mark.attack("X04")
async def test_x04_a_run_has_so_many_subtasks_and_repetitions_do_not_count(hospitals: Hospitals) -> None:
    hospitals.live.tasks.limits = SubtaskLimits(per_run=2)
    who, _, _ = await container(hospitals, hospitals.a)
    first = await child_of(hospitals, who, "1")
    assert (await child_of(hospitals, who, "1")).id == first.id
    inner = await started(hospitals, first.id)
    second = await child_of(hospitals, inner, "2")  # All of the run count, whoever asks.
    for caller in (who, inner):
        error = await asked(hospitals, caller, key="3")
        assert error.code() is Code.FAILED_PRECONDITION
        assert "2 subtasks" in str(error.details())
        assert "max_subtasks_per_run" in str(error.details())
    assert (await child_of(hospitals, inner, "2")).id == second.id


@pytest.mark.attack("X04")
async def test_x04_one_caller_does_not_get_more_by_asking_at_once(hospitals: Hospitals) -> None:
    hospitals.live.tasks.limits = SubtaskLimits(per_run=3)
    who, _, _ = await container(hospitals, hospitals.a)
    calls = [child_of(hospitals, who, str(number)) for number in range(8)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert len([answer for answer in answers if isinstance(answer, task_pb2.Task)]) == 3


async def test_the_limits_are_for_one_run_and_not_for_people(hospitals: Hospitals) -> None:
    hospitals.live.tasks.limits = SubtaskLimits(depth=1, per_run=1)
    researcher = await hospitals.live.login("researcher_a")
    for number in range(3):
        task = await child_of(hospitals, researcher, f"of a person {number}")
        await child_of(hospitals, await started(hospitals, task.id), f"of an algorithm {number}")


@pytest.mark.attack("X04")
@pytest.mark.parametrize("own", [3, -2])
async def test_x04_a_subtask_does_not_go_before_its_task(hospitals: Hospitals, own: int) -> None:
    parent = await child_of(hospitals, await hospitals.live.login("researcher_a"), "parent", priority=own)
    who = await started(hospitals, parent.id)
    error = await asked(hospitals, who, key="too urgent", priority=own + 1)
    assert error.code() is Code.PERMISSION_DENIED
    assert str(error.details()).startswith("priority")
    assert (await child_of(hospitals, who, "same", priority=own)).priority == own
    assert (await child_of(hospitals, who, "less", priority=own - 1)).priority == own - 1
    assert (await child_of(hospitals, who, "none given")).priority == min(0, own)


async def test_the_limits_cost_an_algorithm_one_statement_and_people_none(hospitals: Hospitals) -> None:
    statements: list[str] = []
    engine = hospitals.live.database.engine.sync_engine
    who, _, _ = await container(hospitals, hospitals.a)
    researcher = await hospitals.live.login("researcher_a")
    event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    for caller, key, asked_for in ((who, "1", 1), (who, "1", 0), (researcher, "2", 0)):
        statements.clear()
        await create(hospitals, caller, key=key)
        assert len([text for text in statements if "count(" in text]) == asked_for


def test_the_configuration_sets_the_limits() -> None:
    config = ServerConfig.model_validate({"max_subtask_depth": 1, "max_subtasks_per_run": 5})
    assert config.subtask_limits == SubtaskLimits(1, 5)
    assert ServerConfig.model_validate({}).subtask_limits == SubtaskLimits(8, 10_000)
