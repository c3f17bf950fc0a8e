"""The same with a container engine, whose containers outlive the node and the server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from docker import DockerClient

from tests.chaos.processes import ALGORITHM, IMAGE, Asked, Books, dies, make_images, restart, starts
from tests.chaos.table import note
from tests.flows.network import Network, running
from vantage6.client import TaskState

pytestmark = [
    pytest.mark.row("M27"), pytest.mark.envoy, pytest.mark.engine, pytest.mark.chaos, pytest.mark.xdist_group("engine"),
]  # fmt: skip


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, docker_engine: DockerClient) -> Iterator[Network]:
    make_images()
    made = docker_engine.containers.create("vantage6/algorithm-base:dev")
    name, _, tag = IMAGE.partition(":")
    made.commit(name, tag, conf={"Entrypoint": ["python3", "-c", ALGORITHM], "Cmd": None})
    made.remove()
    folder = tmp_path_factory.mktemp("c")
    (folder / "data.csv").write_text("a\n1\n")
    try:
        with running(folder, "docker", [folder / "data.csv"]) as network:
            yield network
            mine = network.sites[0].name
        for volume in docker_engine.volumes.list():
            if mine in str(volume.name):
                volume.remove()
    finally:
        docker_engine.images.remove(IMAGE, force=True)


def containers(engine: DockerClient, network: Network) -> list[str]:
    """All that the node has made: containers of algorithms and their helpers, running or not; volumes, networks.

    Without the temporary volume of a whole run (`tmpvol`), which a site keeps for as long as it likes: the starts are
    counted there.
    """
    made: list[Any] = engine.containers.list(all=True, ignore_removed=True)
    made += [*engine.volumes.list(), *engine.networks.list()]
    names = [str(each.name) for each in made if network.sites[0].name in str((each.name, each.attrs.get("Labels")))]
    return [name for name in names if not name.endswith("-tmpvol")]


def check(engine: DockerClient, network: Network, tasks_before: int, starts_before: int) -> None:
    books = Books(network)
    until = time.monotonic() + 30
    while (not books.node_is_idle() or containers(engine, network)) and time.monotonic() < until:
        time.sleep(0.1)
    assert books.node_is_idle()
    assert books.all_final()
    assert not containers(engine, network)
    new = books.results()[tasks_before:]
    assert all(losses == 0 for *_, losses in new), new
    assert starts(network.sites[0]) == starts_before + len(new)


def begun(network: Network, seconds: float) -> Asked:
    """A task whose algorithm is running."""
    site, before = network.sites[0], starts(network.sites[0])
    asked = Asked(network, seconds)
    until = time.monotonic() + 60
    while starts(site) == before and time.monotonic() < until:
        time.sleep(0.02)
    return asked


@pytest.mark.parametrize(
    "point", ["node.run.after_start", "node.run.ended", "node.outcome.after_journal", "server.report.after_commit"]
)
def test_killed_at(network: Network, docker_engine: DockerClient, point: str) -> None:
    tasks_before, starts_before = len(Books(network).results()), starts(network.sites[0])
    who = point.partition(".")[0]
    doomed = restart(network, who, f"{point}=kill")
    asked = Asked(network, 0.3)
    dies(doomed)
    restart(network, who)
    assert asked.result().state is TaskState.COMPLETED
    check(docker_engine, network, tasks_before, starts_before)
    note("kill -9, Docker", point, "run once")


def test_node_killed_while_the_container_runs(network: Network, docker_engine: DockerClient) -> None:
    """The container goes on computing, and ends before the node is back."""
    tasks_before, starts_before = len(Books(network).results()), starts(network.sites[0])
    asked = begun(network, 2.0)
    network.sites[0].node.kill()
    time.sleep(4)
    restart(network, "node")
    assert asked.result().state is TaskState.COMPLETED
    check(docker_engine, network, tasks_before, starts_before)
    note("kill -9, Docker", "node, while the container runs to its end", "run once")


def test_container_killed(network: Network, docker_engine: DockerClient) -> None:
    tasks_before, starts_before = len(Books(network).results()), starts(network.sites[0])
    asked = begun(network, 60.0)
    for container in docker_engine.containers.list():
        if network.sites[0].name in str((container.name, container.labels)):
            container.kill()
    assert asked.result().state is TaskState.FAILED
    check(docker_engine, network, tasks_before, starts_before)
    note("kill -9, Docker", "the container", "FAILED with its exit code, run once")


def test_a_cancelled_task_ends_its_container(network: Network, docker_engine: DockerClient) -> None:
    """The container is told to end and is gone; the engine's own record says that it did not come to its end."""
    tasks_before, starts_before = len(Books(network).results()), starts(network.sites[0])
    asked = begun(network, 60.0)
    (running_one,) = [c for c in docker_engine.containers.list() if network.sites[0].name in str((c.name, c.labels))]
    (task,) = list(network.client.task.list(state="open"))
    network.client.task.cancel(task.id)
    assert asked.result().state is TaskState.CANCELLED
    check(docker_engine, network, tasks_before, starts_before)
    assert running_one.name not in {c.name for c in docker_engine.containers.list(all=True, ignore_removed=True)}
    note("cancelled, Docker", "while the container runs", "container ended and removed, CANCELLED")
