"""`kill -9` of PostgreSQL, with all that is connected to it, at every named point of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.chaos.hooks import POINTS, at
from tests.chaos.small import Small, completed, small_network
from tests.chaos.table import note
from tests.conftest import missing
from tests.postgres import Postgres, PostgresMissingError, throw_away

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"), pytest.mark.row("M27"), pytest.mark.postgres,
    pytest.mark.xdist_group("chaos"),
]  # fmt: skip

SHORT = {"server.report.before_commit", "server.assign.after_commit"}
CASES = [pytest.param(point, marks=[] if point in SHORT else pytest.mark.chaos) for point in POINTS]
AWAY_SECONDS = 0.3


@pytest.fixture(scope="module")
def mortal() -> Iterator[Postgres]:
    """A PostgreSQL of these tests' own: others would not like what is done to it."""
    try:
        with throw_away() as server:
            yield server
    except PostgresMissingError as error:
        missing("postgres", str(error))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small(tmp_path_factory: pytest.TempPathFactory, mortal: Postgres) -> AsyncIterator[Small]:
    async with small_network(tmp_path_factory.mktemp("small"), uri=mortal.create()) as made:
        yield made


class Death:
    """Kills PostgreSQL, and has it started again a little later."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self.over = asyncio.Event()

    def __call__(self) -> None:
        self._postgres.kill()
        # By this thread: what it starts ends with the thread, not with the process.
        asyncio.get_running_loop().call_later(AWAY_SECONDS, self._raise)

    def _raise(self) -> None:
        try:
            self._postgres.start()
        except PostgresMissingError:  # Those that it had forked have not noticed yet.
            asyncio.get_running_loop().call_later(AWAY_SECONDS, self._raise)
        else:
            self.over.set()


@pytest.mark.parametrize("point", CASES)
async def test_killed_at(small: Small, mortal: Postgres, point: str) -> None:
    known, death = len((await small.rows())[1]), Death(mortal)
    with at(point, death) as hook:
        task_id = await small.insist()
        assert completed(await small.see_complete(task_id))
        await death.over.wait()
    assert hook.done
    await small.books_are_equal()
    results, tasks = await small.rows()
    assert len(tasks) == known + 1
    assert all(result.losses == 0 for result in results)
    assert max(small.starts().values()) == 1
    assert len(small.starts()) == len(results)
    note("kill -9 of PostgreSQL", point, "run once")


async def test_killed_between_tasks(small: Small, mortal: Postgres) -> None:
    """Nobody notices while nothing is to be done; the next task goes its way."""
    death = Death(mortal)
    death()
    await death.over.wait()
    task_id = await small.insist()
    assert completed(await small.see_complete(task_id))
    await small.books_are_equal()
    note("kill -9 of PostgreSQL", "between two tasks", "run once")
