"""Two server processes on one PostgreSQL, behind a real Envoy, with real nodes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vantage6.client import Client, TaskState

from .network import PASSWORD, Network, Process, running

if TYPE_CHECKING:
    from tests.postgres import Postgres

IMAGE = "vantage6/examples/average:dev"
TASKS = 20

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.envoy,
    pytest.mark.row("M27"),
    pytest.mark.xdist_group("flows-replicas"),
]


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory, site_data: list[Path], database: str) -> Iterator[Network]:
    settings = {"runtime_options": {"seconds": 0.3}, "encrypted": False}
    # Not tmp_path: with the tests' names, it would be too long for the address of a socket.
    folder = tmp_path_factory.mktemp("pair")
    with running(
        folder, "null", site_data, encrypted=False, node_settings=settings, database=database, replicas=2
    ) as network:
        yield network


def ask(postgres: Postgres, database: str, question: str) -> str:
    return postgres.sql(question, database.rpartition("/")[2])


def test_each_replica_serves_nodes_of_both(pair: Network, postgres: Postgres, database: str) -> None:
    """Wherever the nodes are connected: at least one task comes from the other replica, and so do its events."""
    organizations = [site.organization_id for site in pair.sites]
    for address in pair.addresses:
        with Client(f"http://{address}") as client:
            client.authenticate("researcher", PASSWORD)
            task = client.task.create(
                collaboration=pair.collaboration_id, organizations=organizations, image=IMAGE, input={"method": "x"}
            )
            assert client.wait(task, progress=False, timeout=60).state is TaskState.COMPLETED
            assert len(list(client.results(task))) == len(organizations)
    assert ask(postgres, database, "SELECT count(*), max(epoch), max(losses) FROM results") == "6|1|0"


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_the_nodes_of_a_replica_that_ends_move_over_and_nothing_is_lost_or_run_twice(
    pair: Network, postgres: Postgres, database: str, end: str
) -> None:
    client = pair.client
    organizations = [site.organization_id for site in pair.sites]
    tasks = [
        client.task.create(
            collaboration=pair.collaboration_id, organizations=organizations, image=IMAGE, input={"method": "x"}
        )
        for _ in range(TASKS)
    ]
    # The one that holds most nodes ends in the middle of the work.
    most = ask(postgres, database, "SELECT replica FROM nodes GROUP BY replica ORDER BY count(*) DESC LIMIT 1")
    processes = [pair.server, *pair.others]
    victim = next(process for process in processes if replica_of(process) == most)
    pair.sites[0].node.wait_for("run_finished")
    done = int(ask(postgres, database, "SELECT count(*) FROM results WHERE state = 5"))
    assert end == "killed" or victim.stop() == 0
    victim.kill()
    assert done < TASKS * len(organizations)
    for task in tasks:
        assert client.wait(task, progress=False, timeout=120).state is TaskState.COMPLETED
    assert ask(postgres, database, "SELECT count(*), min(state), max(state), max(losses) FROM results") == (
        f"{TASKS * len(organizations)}|5|5|0"
    )
    ended = "SELECT count(*) FROM tasks WHERE state = 3 AND finished_at IS NOT NULL"
    assert ask(postgres, database, ended) == str(TASKS)
    runs: Counter[str] = Counter()
    for site in pair.sites:
        runs.update(re.findall(r"run_finished.*?result_id=(\d+)", clean(site.node.log)))
    assert len(runs) == TASKS * len(organizations)
    assert set(runs.values()) == {1}
    where = ask(postgres, database, "SELECT count(*), count(DISTINCT replica), bool_and(online) FROM nodes")
    assert where == f"{len(organizations)}|1|t"
    assert ask(postgres, database, "SELECT DISTINCT replica FROM nodes") != most
    told = [site for site in pair.sites if "server_goes_away" in clean(site.node.log)]
    assert bool(told) == (end == "stopped")


def replica_of(process: Process) -> str:
    return str(json.loads(process.wait_for("bus_connected"))["replica"])


def clean(log: Path) -> str:
    """Without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", log.read_text())
