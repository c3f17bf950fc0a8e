"""Sites with the private network and rules of disclosure, on real parts: analyses work, and what may not stays."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from vantage6.client import TaskState
from vantage6.node.audit import records, verify

from .network import running

AVERAGE = "vantage6/examples/average:dev"


@pytest.mark.engine
@pytest.mark.envoy
@pytest.mark.xdist_group("engine")
@pytest.mark.row("M45", "M46", "M47")
def test_governed(tmp_path_factory: pytest.TempPathFactory, site_data: list[Path], images: None) -> None:
    folder = tmp_path_factory.mktemp("gov")  # Short: sockets are in it.
    policy = {
        "allowed_images": [r"vantage6/examples/.*"],
        "allowed_methods": ["average", "partial_average"],
        "min_participants": 2,
        "disclosure": [{"rule": "minimum_records", "minimum": 8}],
    }
    with running(folder, "docker", site_data, node_settings={"isolation": "network", "policy": policy}) as network:
        client = network.client
        names = [f"vantage-{site.name}-net" for site in network.sites]
        task = client.task.create(
            collaboration=network.collaboration_id,
            organizations=[site.organization_id for site in network.sites],
            image=AVERAGE,
            input={"method": "partial_average", "args": ["age"]},
            databases=["default"],
        )
        client.wait(task, progress=False)
        # The first site has seven records, the others eleven and more.
        results = sorted(client.results(task), key=lambda result: result.organization_id)
        assert [result.state.name for result in results] == ["REFUSED", "COMPLETED", "COMPLETED"]
        assert results[0].reason == "MINIMUM_RECORDS"
        central = client.task.create(
            collaboration=network.collaboration_id,
            organizations=[network.sites[1].organization_id],
            image=AVERAGE,
            input={"method": "average", "args": ["age"]},
        )
        assert (
            client.wait(central, progress=False).state is TaskState.FAILED
        )  # Its partial at the first site is refused.
        audit = network.sites[1].config.parent / "data" / "audit.jsonl"
        assert verify(audit).count > 4
        assert {"started", "asked", "allowed", "left", "ended"} <= {each["event"] for each in records(audit)}
        subtasks = [each for each in records(audit) if each["event"] == "left" and each["what"] == "subtask"]
        assert subtasks
        assert sorted(subtasks[0]["to"]) == [site.organization_id for site in network.sites]
    engine = docker.from_env()
    try:
        found = {network.name for network in engine.networks.list()}
        assert set(names) <= found
        for name in names:
            engine.networks.get(name).remove()
    finally:
        engine.close()
