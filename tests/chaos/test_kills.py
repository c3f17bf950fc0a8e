"""`kill -9` of server, node and gateway at every named point, on real processes with a sandboxed algorithm."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator

import pytest

from tests.chaos.processes import (
    Asked,
    Books,
    descendants,
    dies,
    kill_algorithms,
    make_image,
    open_files,
    restart,
    sandboxes,
    starts,
)
from tests.chaos.table import note
from tests.flows.network import Network, running
from vantage6.client import TaskState

pytestmark = [pytest.mark.row("M27"), pytest.mark.envoy, pytest.mark.xdist_group("chaos")]

# Fault, and whether the run was under way and gone, so that a retry is due.
POINTS = [
    ("server.task.before_commit=kill", False),
    ("server.task.after_commit=kill", False),
    ("server.assign.before_commit=kill", False),
    ("server.assign.after_commit=kill", False),
    *((f"server.report.{when}_commit=kill:{time}", False) for when in ("before", "after") for time in (1, 2, 3)),
    ("node.assigned.before_journal=kill", False),
    ("node.assigned.after_journal=kill", False),
    ("node.run.before_start=kill", True),
    ("node.run.after_start=kill", False),
    ("node.run.ended=kill", False),
    ("node.outcome.before_journal=kill", False),
    ("node.outcome.after_journal=kill", False),
    ("node.accepted.before_journal=kill", False),
    ("node.accepted.after_journal=kill", False),
]
SHORT = {"node.run.after_start=kill"}
CASES = [
    pytest.param(fault, lost, marks=[] if fault in SHORT else pytest.mark.chaos, id=fault) for fault, lost in POINTS
]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("c")
    data = folder / "data.csv"
    data.write_text("a\n1\n")
    image_folder = make_image(tmp_path_factory.mktemp("images"))
    settings = {"runtime_options": {"image_folder": str(image_folder)}}
    with running(folder, "sandbox", [data], node_settings=settings) as made:
        yield made


def idle(network: Network) -> bool:
    books = Books(network)
    return books.node_is_idle() and books.all_final() and not sandboxes(network)


def check(network: Network, tasks_before: int, starts_before: int, *, lost: bool) -> None:
    """All is done, once, and nothing is left."""
    books = Books(network)
    until = time.monotonic() + 60
    while not idle(network) and time.monotonic() < until:
        time.sleep(0.05)
    assert books.node_is_idle()
    assert books.all_final()
    assert not sandboxes(network)
    assert not [line for line in descendants(network.sites[0].node) if "bwrap" in line]
    new = books.results()[tasks_before:]
    assert all(losses == (1 if lost else 0) for *_, losses in new), new
    # Where the client was not told that its task was made, it asked again: two tasks, each run once.
    assert starts(network.sites[0]) == starts_before + len(new)


@pytest.mark.parametrize(("fault", "lost"), CASES)
def test_killed_at(network: Network, fault: str, lost: bool) -> None:
    who, point = fault.partition(".")[0], fault.partition("=")[0]
    tasks_before, starts_before = len(Books(network).results()), starts(network.sites[0])
    doomed = restart(network, who, fault)
    asked = Asked(network, 0.25 if "report" in fault else 0.3)
    dies(doomed)
    restart(network, who)
    assert asked.result().state is TaskState.COMPLETED
    check(network, tasks_before, starts_before, lost=lost)
    note("kill -9", point + (f", {fault.rpartition(':')[2]}. time" if ":" in fault else ""),
         "lost, tried again, run once" if lost else "run once")  # fmt: skip


@pytest.mark.parametrize("who", ["gateway", "server", pytest.param("node", marks=pytest.mark.chaos)])
def test_killed_while_the_algorithm_runs(network: Network, who: str) -> None:
    site = network.sites[0]
    tasks_before, starts_before = len(Books(network).results()), starts(site)
    asked = Asked(network, 2.0)
    until = time.monotonic() + 30
    while starts(site) == starts_before and time.monotonic() < until:
        time.sleep(0.02)
    {"gateway": network.gateway, "server": network.server, "node": site.node}[who].kill()
    restart(network, who)
    assert asked.result().state is TaskState.COMPLETED
    check(network, tasks_before, starts_before, lost=False)
    note("kill -9", f"{who}, while the algorithm runs", "run once")


@pytest.mark.chaos
@pytest.mark.parametrize("who", ["node", "server"])
def test_disk_full(network: Network, who: str) -> None:
    """The kernel refuses all that would make a file larger, as a full disk does; then there is room again."""
    site = network.sites[0]
    tasks_before, starts_before = len(Books(network).results()), starts(site)
    asked = Asked(network, 1.5)
    until = time.monotonic() + 30
    while starts(site) == starts_before and time.monotonic() < until:
        time.sleep(0.02)
    process = {"server": network.server, "node": site.node}[who]
    # Files that are there already can be written within their size: nothing else can.
    resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    time.sleep(5)
    resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert asked.result().state is TaskState.COMPLETED
    check(network, tasks_before, starts_before, lost=False)
    note("disk full", f"{who}, while the algorithm runs", "waits for room, run once")


@pytest.mark.chaos
def test_the_algorithm_is_killed(network: Network) -> None:
    """That is how the algorithm ended, not a loss: it is not tried again."""
    site = network.sites[0]
    tasks_before, starts_before = len(Books(network).results()), starts(site)
    asked = Asked(network, 20.0)
    until = time.monotonic() + 30
    while starts(site) == starts_before and time.monotonic() < until:
        time.sleep(0.02)
    kill_algorithms(network)
    assert asked.result().state is TaskState.FAILED
    check(network, tasks_before, starts_before, lost=False)
    note("kill -9", "the algorithm's process", "FAILED with its exit code, run once")


def test_nothing_is_left_open(network: Network) -> None:
    """Open files of both processes, before and after many runs."""
    node, server = network.sites[0].node, network.server

    def ten() -> tuple[int, int]:
        for one in [Asked(network, 0.0) for _ in range(5)]:
            assert one.result().state is TaskState.COMPLETED
        until = time.monotonic() + 60
        while not idle(network) and time.monotonic() < until:
            time.sleep(0.05)
        return open_files(node), open_files(server)

    ten()
    first = ten()
    ten()
    last = ten()
    # A leak would be of twenty; a database connection more, of the pool's, is of three.
    assert last[0] <= first[0] + 6
    assert last[1] <= first[1] + 6
    note("-", "files that are open after forty runs", "no more than after twenty")
