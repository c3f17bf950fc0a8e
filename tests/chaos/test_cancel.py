"""A task that is cancelled takes all with it that it led to: what was pushed down the stream stops the runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.small import EVERYTHING, PATIENCE, small_network
from tests.node.fake_runtime import FakeRuntime, forever
from tests.node.site import Container
from vantage6.api.v1 import task_pb2
from vantage6.api.v1.algorithm_pb2 import CreateSubtaskRequest, GetRunRequest
from vantage6.node.runtimes.base import Exit, RunSpec
from vantage6.server.domain import tasks
from vantage6.server.domain.caller import UserCaller
from vantage6.server.domain.states import ResultState

pytestmark = [pytest.mark.row("M27"), pytest.mark.xdist_group("chaos")]


async def test_cancelling_reaches_the_runs_of_a_task_and_of_its_subtasks(tmp_path: Path) -> None:
    below = asyncio.Event()

    async def central(spec: RunSpec) -> Exit:
        if not spec.key.endswith("-1-1"):
            below.set()
            return await forever(spec)
        async with Container(spec.run_dir) as container:
            run = await container.stub.GetRun(GetRunRequest(), metadata=container.metadata)
            wanted = CreateSubtaskRequest(input=b"json.1", organization_ids=[run.organization_id])
            await container.stub.CreateSubtask(wanted, metadata=container.metadata)
            return await forever(spec)

    runtime = FakeRuntime(central)
    async with small_network(tmp_path, runtime=runtime) as small:
        task_id = await small.create()
        await asyncio.wait_for(below.wait(), PATIENCE)
        assert not runtime.stopped
        caller = UserCaller(
            small.user_id, "ada", small.organization_id, frozenset({small.collaboration_id}), 1, EVERYTHING
        )
        async with small.server.database.write() as store:
            await tasks.cancel(store, small.server.bus, caller, task_id)
        last = await small.complete(task_id)
        assert last.task.state == task_pb2.TASK_STATE_CANCELLED
        await small.books_are_equal()
        results, rows = await small.rows()
        assert [row.parent_id for row in rows] == [None, task_id]
        assert {ResultState(result.state) for result in results} == {ResultState.CANCELLED}
        assert {handle.rpartition("-")[0].rpartition("-")[2] for handle in runtime.stopped} == {"1", "2"}
