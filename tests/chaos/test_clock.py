"""Clocks that are set while things are under way, forwards and back, at either side."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.chaos.clock import Clocks, side, stepping_clocks
from tests.chaos.hooks import POINTS, at
from tests.chaos.small import Small, completed, small_network
from tests.chaos.table import note
from vantage6.api.v1 import task_pb2

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.row("M27"), pytest.mark.xdist_group("chaos")]

HOUR = 3600.0
STEPS = [("server", HOUR), ("server", -HOUR), ("node", HOUR), ("node", -HOUR)]
"""More than any token's life (30 minutes), so what was good is over, or not yet begun."""
SHORT = {"node.run.ended"}


@pytest.fixture(scope="module")
def clocks() -> Iterator[Clocks]:
    with stepping_clocks() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small(tmp_path_factory: pytest.TempPathFactory, clocks: Clocks) -> AsyncIterator[Small]:
    async with small_network(tmp_path_factory.mktemp("small")) as made:
        await made.stop_node()
        token = side.set("node")
        try:
            await made.start_node()  # Its tasks take the context with them.
        finally:
            side.reset(token)
        yield made


async def test_each_side_has_its_own_clock(clocks: Clocks) -> None:
    """Of the means: what the others rely on."""
    clocks.step("node", HOUR)
    before = dt.datetime.now(dt.UTC)
    token = side.set("node")
    assert HOUR - 60 < (dt.datetime.now(dt.UTC) - before).total_seconds() < HOUR + 60
    assert abs(time.time() - dt.datetime.now(dt.UTC).timestamp()) < 1
    side.reset(token)
    clocks.step("node", -HOUR)


@pytest.mark.parametrize("point", [pytest.param(p, marks=[] if p in SHORT else pytest.mark.chaos) for p in POINTS])
async def test_stepped_at(small: Small, clocks: Clocks, point: str) -> None:
    """One task for each step; all of them run once, and a node that was told that its token is over gets another."""
    known = len(small.starts())
    for who, seconds in STEPS:
        with at(point, lambda who=who, seconds=seconds: clocks.step(who, seconds)) as hook:  # type: ignore[misc]
            task_id = await small.create()
            assert completed(await small.complete(task_id))
            await small.books_are_equal()
        assert hook.done
        small.line.cut()  # What was good for the stream has to be good for the next one.
        assert completed(await small.complete(await small.create()))
    await small.books_are_equal()
    results, _ = await small.rows()
    assert all(result.losses == 0 for result in results)
    assert max(small.starts().values()) == 1
    assert len(small.starts()) == known + 2 * len(STEPS)
    note("clock steps by an hour, at server and node, forwards and back", point, "run once")


async def test_a_deadline_is_kept_by_the_clock_that_is_set(small: Small, clocks: Clocks) -> None:
    """Not by the seconds that were left when it was made."""
    known = len(small.starts())
    await small.stop_node()
    request = task_pb2.CreateTaskRequest()
    request.deadline.FromDatetime(dt.datetime.now(dt.UTC) + dt.timedelta(hours=2))
    task_id = await small.create(deadline=request.deadline)
    clocks.step("server", 3 * HOUR)
    small.server.deadlines._changed.set()  # As its timer does at least every ten minutes.
    last = await small.complete(task_id)
    clocks.step("server", -3 * HOUR)
    assert last.task.state == task_pb2.TASK_STATE_FAILED
    results, _ = await small.rows()
    assert results[-1].reason == "DEADLINE"
    await small.start_node()
    await small.books_are_equal()
    assert len(small.starts()) == known
    note("clock steps over a deadline", "server", "FAILED with reason DEADLINE, not run")
