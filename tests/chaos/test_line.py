"""Lines that break, are slow or fall silent at any moment; stores and disks that fail; nodes that stay away."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos.small import PATIENCE, Small, completed, small_network
from tests.chaos.table import note
from tests.node.fake_runtime import FakeRuntime
from vantage6.common import faults
from vantage6.node import app as node_app
from vantage6.node.runtimes.base import Exit, RunSpec
from vantage6.node.runtimes.null import NullRuntime
from vantage6.server import app as server_app
from vantage6.server.domain.states import FINAL

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.row("M27"), pytest.mark.xdist_group("chaos")]

PIECES = 14
"""So many pieces, both ways, are what one run sends through the line, connecting left out."""
SHORT = sorted(random.Random(27).sample(range(1, PIECES), 3))


def every(points: range | list[int], short: list[int]) -> list[object]:
    """All points, of which the short form takes some."""
    return [pytest.param(point, marks=[] if point in short else pytest.mark.chaos) for point in points]


@contextmanager
def quick_pings() -> Iterator[None]:
    """Keep-alive in the same proportion to the heartbeat as by default."""
    pings = {"grpc.keepalive_time_ms": 500, "grpc.keepalive_timeout_ms": 250, "grpc.http2.ping_timeout_ms": 250}
    permitted = {"grpc.http2.min_ping_interval_without_data_ms": 100}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node_app, "_OPTIONS", tuple((dict(node_app._OPTIONS) | pings).items()))
        patch.setattr(server_app, "OPTIONS", tuple((dict(server_app.OPTIONS) | permitted).items()))
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Small]:
    """One network for most of the tests: each leaves it as it was, or it is a finding."""
    with quick_pings():
        async with small_network(tmp_path_factory.mktemp("small")) as made:
            yield made


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def run_once(small: Small, **fields: object) -> None:
    """A task ends well, its algorithm ran once, the books agree."""
    before = sum(small.starts().values())
    task_id = await small.create(**fields)
    assert completed(await small.complete(task_id))
    await small.books_are_equal()
    assert sum(small.starts().values()) == before + 1
    assert max(small.starts().values()) == 1


@pytest.mark.parametrize("piece", every(range(1, PIECES), SHORT))
async def test_line_cut(small: Small, piece: int) -> None:
    small.line.act_after(piece, small.line.cut)
    await run_once(small)
    note("line cut", f"at each of {PIECES - 1} pieces of a run", "run once")


@pytest.mark.parametrize("piece", every(range(1, PIECES), SHORT[:2]))
async def test_line_half_open(small: Small, piece: int) -> None:
    small.line.act_after(piece, small.line.go_silent)
    await run_once(small)
    note("line half-open", f"at each of {PIECES - 1} pieces of a run", "run once")


@pytest.mark.parametrize("seed", every(range(1, 9), [1]))
async def test_line_cut_again_and_again(small: Small, seed: int) -> None:
    chance = random.Random(seed)
    small.line.delay = 0.01 * seed

    def cut_again() -> None:
        small.line.cut()
        if cuts:
            cuts.pop()
            small.line.act_after(chance.randint(2, 30), cut_again)

    cuts = [None] * 4
    small.line.act_after(chance.randint(1, 10), cut_again)
    for _ in range(3):
        await run_once(small)
    small.line.delay = 0.0
    note("line cut again and again, and slow", "8 seeds", "run once")


@pytest.mark.parametrize("heartbeat", [0.4, pytest.param(5.0, marks=pytest.mark.chaos)])
async def test_dead_peer_is_noticed_within_three_beats(tmp_path: Path, heartbeat: float) -> None:
    """With the default of 5 seconds that is within 15, on both sides; and then there is a new connection soon."""
    pings = quick_pings() if heartbeat < 5 else nullcontext()
    with pings:
        async with small_network(tmp_path, heartbeat=heartbeat) as small:
            assert small.node
            address = (small.organization_id, small.collaboration_id)
            await run_once(small)
            began = last = time.monotonic()
            small.line.go_silent()
            small.line.open.clear()
            noticed: dict[str, float] = {}
            stood = 0.0  # So long has the machine been busy with something else.
            while len(noticed) < 2 and last < began + PATIENCE:
                await asyncio.sleep(0.01)
                last, before = time.monotonic(), last
                stood += max(0.0, last - before - 0.05)
                if not small.node.link.online.is_set():
                    noticed.setdefault("node", last - began)
                if not small.server.dispatcher.is_online(address):
                    noticed.setdefault("server", last - began)
            small.line.open.set()
            assert set(noticed) == {"node", "server"}
            assert max(noticed.values()) - stood <= 3 * heartbeat + 0.5, (noticed, stood)
            outcome = "noticed by both within 3 heartbeats, a new connection follows"
            note("peer dead, line half-open", f"heartbeat of {heartbeat:g} s", outcome)
            await run_once(small)


@pytest.mark.parametrize("first", every(range(1, 7), [1, 5]))
@pytest.mark.parametrize("point", ["server.store.before_commit", "server.store.after_commit"])
async def test_store_answers_with_an_error(small: Small, point: str, first: int) -> None:
    """Having done it, or not; who waits for the task hears of its end either way."""
    task_id = await small.create()
    with faults.armed(f"{point}=raise:{first}-{first + 1}"):
        assert completed(await small.complete(task_id))
    await small.books_are_equal()
    assert max(small.starts().values()) == 1
    note("store answers with an error", point, "run once")


async def test_store_makes_a_task_and_answers_with_an_error(small: Small) -> None:
    """Nobody repeats it, and it runs all the same."""
    known = len((await small.rows())[1])
    with faults.armed("server.task.after_commit=raise"), pytest.raises(faults.InjectedFault):
        await small.create()
    _, task_rows = await small.rows()
    assert len(task_rows) == known + 1
    assert completed(await small.complete(max(task.id for task in task_rows)))
    await small.books_are_equal()
    note("store answers with an error", "server.task.after_commit, nobody asks again", "run once")


async def test_caller_gives_up_during_the_commit(small: Small) -> None:
    """The task is made or it is not; if it is, its node hears of it."""
    for turns in range(0, 60, 3):
        creating = asyncio.ensure_future(small.create())
        for _ in range(turns):
            await asyncio.sleep(0)
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
    for task in (await small.rows())[1]:
        assert completed(await small.complete(task.id))
    await small.books_are_equal()
    assert max(small.starts().values(), default=1) == 1
    note("caller gives up", "at 20 steps of creating a task", "not made, or run once")


@pytest.mark.parametrize("first", every(range(1, 7), [1, 4]))
@pytest.mark.parametrize("point", ["node.journal.write", "server.store.before_commit"])
async def test_disk_full(small: Small, point: str, first: int) -> None:
    task_id = await small.create()
    with faults.armed(f"{point}=full:{first}-{first + 2}"):
        assert completed(await small.complete(task_id))
    await small.books_are_equal()
    assert max(small.starts().values()) == 1
    note("disk full", point, "waits for room, run once")


async def test_no_task_of_the_event_loop_is_left(small: Small) -> None:
    """Of either side: runs, proxies, watches, uploads."""
    for _ in range(2):
        await run_once(small)
    before = len(asyncio.all_tasks())
    for _ in range(10):
        await run_once(small)
    assert len(asyncio.all_tasks()) <= before + 3
    note("-", "tasks of the event loop after ten runs", "no more than before")


@pytest.mark.parametrize("number", [50, pytest.param(200, marks=pytest.mark.chaos)])
async def test_many_runs_end_in_the_same_second(tmp_path: Path, number: int) -> None:
    before = open_files()
    # A machine that is busy with other tests as well must not take this one's silence for a loss.
    async with small_network(tmp_path, runtime=NullRuntime(seconds=1.5), heartbeat=5) as small:
        await small.stop_node()
        small.settings["limits"] = {"runs": number}
        await small.start_node()
        task_ids = [await small.create() for _ in range(number)]
        for task_id in task_ids:
            assert completed(await small.complete(task_id))
        await small.books_are_equal()
        results, _ = await small.rows()
        assert [result.losses for result in results] == [0] * number
        note(f"{number} runs end in the same second", "one node", "each accepted once")
        ends = Counter(event.result.result_id for event in await small.events() if int(event.result.state) in FINAL)
        assert ends == Counter({result.id: 1 for result in results})
    assert open_files() <= before + 5


async def test_node_absent_for_longer_than_every_time_out(tmp_path: Path) -> None:
    """Its run goes on meanwhile; heartbeats, tokens and patience are all over when it comes back."""
    finish = asyncio.Event()

    async def algorithm(spec: RunSpec) -> Exit:
        await finish.wait()
        (spec.run_dir / "output").write_bytes(b"json.1")
        return Exit(0)

    tokens = {"access_minutes": 1 / 30, "refresh_days": 2 / 86400, "container_days": 2 / 86400}
    async with small_network(tmp_path, runtime=FakeRuntime(algorithm), heartbeat=0.5, tokens=tokens) as small:
        task_id = await small.create()
        while not small.starts():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await small.stop_node()
        await asyncio.sleep(4)
        finish.set()
        await small.start_node()
        assert completed(await small.complete(task_id))
        await small.books_are_equal()
        assert list(small.starts().values()) == [1]
        note("node absent for longer than heartbeats and tokens last", "while its run goes on", "run once")
