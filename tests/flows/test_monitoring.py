"""What those who watch over a network see: health for orchestrators, metrics for Prometheus, after real runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from vantage6.client import TaskState

from .network import IMAGES, Network, Process, running

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("flows-monitoring")]

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, site_data: list[Path], images: None) -> Iterator[Network]:
    """Server and node with a page of their own at any free port, after one run that went well and one that did not."""
    assert IMAGES.is_dir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VANTAGE6_MONITORING", "127.0.0.1:0")
        with running(tmp_path_factory.mktemp("watched"), "sandbox", site_data[:1]) as network:
            for image, state in (("average:dev", TaskState.COMPLETED), ("absent:dev", TaskState.FAILED)):
                task = network.client.task.create(
                    collaboration=network.collaboration_id, organizations=[network.sites[0].organization_id],
                    image=f"vantage6/examples/{image}", input={"method": "partial_average", "args": ["age"]},
                    databases=["default"],
                )  # fmt: skip
                assert network.client.wait(task, progress=False).state is state
            yield network


def page(process: Process, path: str) -> httpx.Response:
    found = re.search(r"(127\.0\.0\.1:\d+)", process.wait_for("monitoring"))
    assert found
    return httpx.get(f"http://{found[1]}{path}")


def metrics(process: Process) -> dict[str, float]:
    answer = page(process, "/metrics")
    assert answer.status_code == 200
    return {
        f"{sample.name}{''.join(f',{key}={value}' for key, value in sorted(sample.labels.items()))}": sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_servers_metrics_tell_of_the_runs(watched: Network) -> None:
    found = metrics(watched.server)
    assert found["vantage6_nodes_connected"] == 1
    for state in ("PENDING", "ASSIGNED", "PULLING", "RUNNING"):
        assert found[f"vantage6_results_open,state={state}"] == 0
    assert found["vantage6_results_ended_total,reason=,state=COMPLETED"] == 1
    failed = {name: value for name, value in found.items() if "results_ended_total" in name and "COMPLETED" not in name}
    assert sum(failed.values()) == 1
    assert all(re.search(r"reason=[A-Z_]+", name) for name in failed)
    for name in ("queue", "delivery"):
        assert found[f"vantage6_{name}_seconds_count"] == 2
        assert found[f"vantage6_{name}_seconds_bucket,le=+Inf"] == 2
    assert found["vantage6_run_seconds_count"] >= 1
    assert found["vantage6_run_seconds_sum"] > 0
    for direction in ("in", "out"):
        assert found[f"vantage6_content_bytes_total,direction={direction}"] > 100
    assert found["vantage6_calls_total,method=TaskService/CreateTask,status=OK"] == 2
    assert found["vantage6_call_seconds_count,method=TaskService/CreateTask"] == 2
    assert not any("Connect" in name for name in found if "call_seconds" in name)


def test_the_nodes_metrics_tell_of_the_runs(watched: Network) -> None:
    found = metrics(watched.sites[0].node)
    assert found["vantage6_node_connected"] == 1
    assert found["vantage6_node_connections_total"] == 1
    assert found["vantage6_node_runs"] == 0
    assert found["vantage6_node_reports_waiting"] == 0
    assert found["vantage6_node_runs_ended_total,reason=,state=COMPLETED"] == 1
    assert found["vantage6_node_run_seconds_count"] == 2
    assert found["vantage6_node_delivery_seconds_count"] == 2
    assert found["vantage6_node_content_bytes_total,direction=in"] > 100
    assert found["vantage6_node_content_bytes_total,direction=out"] > 100


@pytest.mark.attack
def test_the_page_names_no_person_and_no_site(watched: Network) -> None:
    for process in (watched.server, watched.sites[0].node):
        text = page(process, "/metrics").text
        for secret in ("researcher", "hospital", "root", watched.sites[0].name):
            assert secret not in text


def test_the_page_says_who_lives_and_who_is_ready(watched: Network) -> None:
    for process in (watched.server, watched.sites[0].node):
        assert page(process, "/health/live").text == "alive\n"
        assert page(process, "/health/ready").text == "ready\n"
        assert page(process, "/else").status_code == 404
        address = page(process, "/else").request.url
        assert httpx.post(address).status_code == 405


def test_rest_says_health_and_version(watched: Network) -> None:
    with watched.rest() as web:
        assert web.get("/api/health").json()["status"] == "ok"
        assert set(web.get("/api/version").json()) >= {"version", "contract_version"}


def test_the_gateway_shows_what_envoy_counts(watched: Network) -> None:
    assert page(watched.gateway, "/health/live").status_code == 200
    assert page(watched.gateway, "/health/ready").text == "ready\n"
    found = metrics(watched.gateway)
    assert sum(value for name, value in found.items() if name.startswith("envoy_http_downstream_rq_total")) > 5


def test_grpc_health_and_readiness_when_the_server_goes(watched: Network) -> None:
    """Last in this file: it stops the server."""
    node = watched.sites[0].node
    with grpc.insecure_channel(watched.addresses[0]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)

        def ask(service: str) -> int:
            return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30).status)

        for service in ("", "liveness", "readiness", "vantage6.api.v1.DeliveryService"):
            assert ask(service) == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            ask("nonsense")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watching = stub.Watch(health_pb2.HealthCheckRequest(service="readiness"), timeout=60)
        assert next(watching).status == SERVING
        watched.server.stop()
        assert next(watching).status == NOT_SERVING
        assert list(watching) == []
    node.wait_for("link_lost")
    assert page(node, "/health/live").status_code == 200
    ready = page(node, "/health/ready")
    assert (ready.status_code, ready.text) == (503, "the node is not online at the server\n")
    assert metrics(node)["vantage6_node_connected"] == 0
    assert page(watched.gateway, "/health/live").status_code == 200
