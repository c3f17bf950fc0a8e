"""The site's surroundings fail before the algorithm begins; the server goes away in peace."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.chaos.small import completed, small_network
from tests.chaos.table import note
from tests.node.fake_runtime import FakeRuntime, echo
from vantage6.node import rests
from vantage6.node.runtimes.base import Exit, ImageUnreachable, Progress, RunSpec, RuntimeUnavailable

pytestmark = [pytest.mark.row("M27"), pytest.mark.xdist_group("chaos")]


class Away(FakeRuntime):
    """What it needs is away for a while."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__()
        self.failures = list(failures)

    async def pull(self, image: str, progress: Progress | None = None) -> str:
        if self.failures:
            raise self.failures.pop()
        return await super().pull(image, progress)


@pytest.mark.parametrize(
    ("failure", "what"),
    [
        (ImageUnreachable("no such host"), "image registry not reachable"),
        (RuntimeUnavailable("no answer"), "container engine does not answer"),
    ],
    ids=["registry", "engine"],
)
async def test_it_is_away_for_two_tries(
    tmp_path: Path, failure: Exception, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rests, "FIRST", 0.05)
    async with small_network(tmp_path, runtime=Away(failure, failure)) as small:
        assert completed(await small.complete(await small.create()))
        await small.books_are_equal()
        assert list(small.starts().values()) == [1]
        ((result,), _) = await small.rows()
        assert result.losses == 2
    note(what, "before the run, two tries long", "tried again with pauses, run once")


async def test_it_is_away_for_longer_than_the_task_wants_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rests, "FIRST", 0.05)
    failures = [ImageUnreachable("no such host") for _ in range(9)]
    async with small_network(tmp_path, runtime=Away(*failures)) as small:
        assert not completed(await small.complete(await small.create(retries=1)))
        await small.books_are_equal()
        assert not small.starts()
        ((result,), _) = await small.rows()
        assert (result.reason, result.losses) == ("IMAGE_UNREACHABLE", 2)
    note("image registry not reachable", "for more tries than the task has", "FAILED with reason IMAGE_UNREACHABLE")


async def test_the_node_of_a_server_that_stops_connects_again_and_its_run_goes_on(tmp_path: Path) -> None:
    finish = asyncio.Event()

    async def algorithm(spec: RunSpec) -> Exit:
        await finish.wait()
        return await echo(spec)

    async with small_network(tmp_path, runtime=FakeRuntime(algorithm)) as small:
        task = await small.create()
        async with asyncio.timeout(30):
            while not small.starts():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        dispatcher = small.server.dispatcher
        (link,) = dispatcher._links.values()
        dispatcher.drain()
        assert "going away" in link.closed_because
        # Nobody is taken in while it is on its way out; then its successor is there, which here is the same one.
        async with asyncio.timeout(30):
            while dispatcher._links:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        finish.set()
        await asyncio.sleep(0.3)
        ((result,), _) = await small.rows()
        assert result.losses == 0
        dispatcher._draining = False
        assert completed(await small.complete(task))
        await small.books_are_equal()
        assert list(small.starts().values()) == [1]
    note("server stops (SIGTERM)", "while the algorithm runs", "node is told, connects again, run once")
