"""One analysis from the client's call to its opened result, on real parts, in an encrypted collaboration."""

from __future__ import annotations

import base64
from typing import cast

import pandas as pd
import pytest

from vantage6.client import Client, TaskState

from .conftest import LONG_MARKER, MARKER, OUTPUT_MARKER
from .network import Network

AVERAGE = "vantage6/examples/average:dev"


@pytest.fixture
def pooled(site_data: list) -> pd.DataFrame:  # type: ignore[type-arg]
    return pd.concat([pd.read_csv(path) for path in site_data])


@pytest.mark.row("M26", "M43", "M44", "M46", "M50", "M52", "D01", "D02", "D04", "D05", "D06")
def test_a_central_algorithm_gets_the_pooled_result(network: Network, pooled: pd.DataFrame) -> None:
    client: Client = network.client
    task = client.task.create(
        collaboration=network.collaboration_id,
        organizations=[network.sites[0].organization_id],
        image=AVERAGE,
        name="average age",
        input={"method": "average", "args": ["age"]},
        databases=["default"],
    )
    done = client.wait(task, progress=False)
    assert done.state is TaskState.COMPLETED, list(client.results(done))
    (result,) = client.results(task)
    assert result.value == {
        "average": pytest.approx(pooled["age"].mean(), rel=1e-12),
        "count": len(pooled),
        "sites": [f"hospital {i}" for i in (1, 2, 3)],
    }
    subtasks = [t for t in client.task.list(collaboration=network.collaboration_id) if t.parent_id == task.id]
    assert [t.run_id for t in subtasks] == [done.run_id]


@pytest.mark.row("M34", "M37", "M38")
@pytest.mark.parametrize("column", [MARKER, LONG_MARKER], ids=["inline", "payload"])
def test_the_server_sees_ciphertext_only(network: Network, column: str) -> None:
    """A marker is in every input, another one in every output; the server's disk and all logs are searched for them."""
    client = network.client
    task = client.task.create(
        collaboration=network.collaboration_id,
        organizations=[site.organization_id for site in network.sites],
        image=AVERAGE,
        input={"method": "partial_average", "args": [column]},
        databases=["default"],
    )
    client.wait(task, progress=False)
    values = [result.value for result in client.results(task)]
    # The markers were really there, and came out of the containers.
    assert [cast("dict[str, float]", value)["sum"] for value in values] == [float(OUTPUT_MARKER)] * 3
    needles = [
        needle
        for marker in (MARKER.encode(), OUTPUT_MARKER.encode())
        for needle in (marker, marker.hex().encode(), *(base64.b64encode(marker[i:])[:-4] for i in range(3)))
    ]
    places = [path for path in (network.folder / "data").rglob("*") if path.is_file()]
    assert {"server.db", "server.db-wal"} <= {path.name for path in places}
    assert (column == MARKER) or any("blobs" in path.parts for path in places)
    for path in [*places, network.server.log, network.gateway.log, *(site.node.log for site in network.sites)]:
        content = path.read_bytes()
        assert not any(needle in content for needle in needles), path
    tokens = network.log_in_rest()
    with network.rest(tokens["access_token"]) as web:
        results = web.get(f"/api/task/{task.id}/result").json()
    # Sealed for each organization on its own.
    assert len({r["input"] or r["input_payload"]["id"] for r in results}) == 3
    assert len({r["result"] for r in results}) == 3


@pytest.mark.row("D03", "M51", "M16")
def test_rest_shows_the_same_with_links(network: Network) -> None:
    tokens = network.log_in_rest()
    with network.rest(tokens["access_token"]) as web:
        tasks = web.get("/api/task").json()
        assert isinstance(tasks, list)
        task = next(t for t in tasks if t["name"] == "average age")
        assert task["complete"] is True
        assert task["parent"] is None
        assert task["link"]["link"] == f"/api/task/{task['id']}"
        assert set(task["collaboration"]) == {"id", "link", "methods"}
        result = web.get(task["results"][0]["link"]).json()
        assert result["task"]["id"] == task["id"]
        organization = web.get(result["organization"]["link"]).json()
        assert organization["name"] == "hospital 1"


@pytest.mark.row("M36")
@pytest.mark.attack
def test_plain_input_is_refused_by_the_server(network: Network) -> None:
    tokens = network.log_in_rest()
    with network.rest(tokens["access_token"]) as web:
        plain = base64.b64encode(b'json.{"method": "average"}').decode()
        answer = web.post("/api/task", json={
            "collaboration_id": network.collaboration_id, "image": AVERAGE, "key": "plain",
            "organizations": [{"id": network.sites[0].organization_id, "input": plain}],
        })  # fmt: skip
    assert answer.status_code == 400
    assert "sealed" in answer.json()["msg"]


def test_a_site_refuses_what_its_policy_does_not_allow(network: Network) -> None:
    task = network.client.task.create(
        collaboration=network.collaboration_id,
        organizations=[network.sites[1].organization_id],
        image="evil.example/vantage6/examples/average:dev",
        input={"method": "average"},
    )
    assert network.client.wait(task, progress=False).state is TaskState.FAILED
    (result,) = network.client.results(task)
    assert result.state.name == "REFUSED"
    assert "allowed_images" in result.message
