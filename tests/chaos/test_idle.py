"""Through somebody else's proxy: it ends TLS, and every stream and connection that was idle for a while.

4 seconds of patience for the usual 60, heartbeats every 1.5: two in that time instead of twelve, so that a machine that
stands still for a second ends nothing. The signs of life of a silent watch are scaled as the patience is.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.small import Small, small_network
from tests.chaos.table import note
from tests.node.fake_runtime import FakeRuntime
from tests.node.site import Container
from vantage6.api.v1.algorithm_pb2 import CreateSubtaskRequest, GetRunRequest, StreamResultsRequest
from vantage6.api.v1.result_pb2 import RESULT_STATE_COMPLETED
from vantage6.client import Client, TaskState
from vantage6.common import channel
from vantage6.gateway import run
from vantage6.gateway.certificates import make_certificates
from vantage6.gateway.config import GatewayConfig, Tls
from vantage6.gateway.render import render
from vantage6.gateway.run import Gateway
from vantage6.node import app as node_app
from vantage6.node.link import DEFAULT_HEARTBEAT, MISSED
from vantage6.node.runtimes.base import Exit, RunSpec
from vantage6.server.config import ServerConfig
from vantage6.server.domain import events
from vantage6.server.domain.events import Topic, Watch
from vantage6.server.rpc.delivery import MISSED_BEATS

pytestmark = [pytest.mark.row("M27"), pytest.mark.envoy, pytest.mark.xdist_group("chaos")]

PATIENCE = 4
RUN = 2 * PATIENCE


async def long_run(spec: RunSpec) -> Exit:
    """The first run asks its own site for a subtask, and waits for it through its proxy; the subtask takes long."""
    if not spec.key.endswith("-1-1"):
        await asyncio.sleep(RUN)
    else:
        async with Container(spec.run_dir) as container:
            run = await container.stub.GetRun(GetRunRequest(), metadata=container.metadata)
            wanted = CreateSubtaskRequest(input=b"json.1", organization_ids=[run.organization_id])
            subtask = await container.stub.CreateSubtask(wanted, metadata=container.metadata)
            waiting = container.stub.StreamResults(
                StreamResultsRequest(task_id=subtask.id), metadata=container.metadata
            )
            assert [result.state async for result in waiting] == [RESULT_STATE_COMPLETED]
    (spec.run_dir / "output").write_bytes(b"json.1")
    return Exit(0)


def impatient(document: Any) -> Any:
    """The same configuration with every idle time-out short."""
    if isinstance(document, list):
        return [impatient(item) for item in document]
    if not isinstance(document, dict):
        return document
    changed = {key: impatient(value) for key, value in document.items()}
    for key in ("idle_timeout", "stream_idle_timeout"):
        if key in changed:
            changed[key] = f"{PATIENCE}s"
    return changed


def ask_and_wait(small: Small, url: str, ca_file: Path) -> TaskState:
    with Client(url, ca_file=ca_file, known_organizations=small.folder / "known.json") as client:
        client.authenticate("ada", "correct horse battery")
        task = client.task.create(
            collaboration=small.collaboration_id, organizations=[small.organization_id], image="count:1",
            input={"method": "count"},
        )  # fmt: skip
        return client.wait(task, progress=False, timeout=60).state


async def test_idle_streams_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's has heartbeats, those of a waiting client and of a waiting algorithm are told that all is quiet."""
    monkeypatch.setattr(run, "render", lambda *args, **more: impatient(render(*args, **more)))
    monkeypatch.setattr(events, "QUIET_SECONDS", events.QUIET_SECONDS * PATIENCE / 60)
    begun: list[Topic] = []

    class Counted(Watch):
        def __init__(self, topic: Topic) -> None:
            begun.append(topic)
            super().__init__(topic)

    monkeypatch.setattr(events, "Watch", Counted)
    certificates = make_certificates(tmp_path / "certificates")
    async with small_network(tmp_path, runtime=FakeRuntime(long_run), heartbeat=1.5) as small:
        config = GatewayConfig(
            listen="127.0.0.1:0", servers=(f"127.0.0.1:{small.server.port}",),
            tls=Tls(certificate=certificates.certificate, key=certificates.key),
        )  # fmt: skip
        async with Gateway(config) as gateway:
            await small.stop_node()
            small.settings = {"server_url": gateway.url, "ca_file": certificates.ca}
            await small.start_node()
            (link,) = small.server.dispatcher._links.values()
            state = await asyncio.to_thread(ask_and_wait, small, gateway.url, certificates.ca)
            assert state is TaskState.COMPLETED
            await small.books_are_equal()
            assert list(small.server.dispatcher._links.values()) == [link], "the node was disconnected"
            assert sorted(topic.task_id or 0 for topic in begun) == [1, 2], "a watch was lost, and begun again"
            assert list(small.starts().values()) == [1, 1]
            await small.stop_node()
    note("idle time-out in a foreign proxy", "node's stream", "kept by heartbeats")
    note("idle time-out in a foreign proxy", "waiting client, waiting algorithm", "kept by signs of life")


def test_defaults_fit_the_promises() -> None:
    """What is scaled above: 15 seconds for a half-open line, less than the 60 of usual proxies for any silence."""
    heartbeat = ServerConfig.model_validate({}).heartbeat_seconds
    assert heartbeat == DEFAULT_HEARTBEAT
    assert heartbeat * MISSED == heartbeat * MISSED_BEATS <= 15
    pings = dict(node_app._OPTIONS)
    assert int(pings["grpc.keepalive_time_ms"]) + int(pings["grpc.http2.ping_timeout_ms"]) <= 15_000
    assert max(events.QUIET_SECONDS, channel.KEEPALIVE_MS / 1000, heartbeat) * 2 < 60
