"""Through somebody else's proxy: it ends TLS, and every stream and connection that was idle for a while.

2 seconds of patience for the usual 60, heartbeats every 0.5 for every 5: four in that time instead of twelve.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.small import Small, completed, small_network
from tests.chaos.table import note
from tests.node.fake_runtime import FakeRuntime
from vantage6.client import Client, TaskState
from vantage6.gateway import run
from vantage6.gateway.certificates import make_certificates
from vantage6.gateway.config import GatewayConfig, Tls
from vantage6.gateway.render import render
from vantage6.gateway.run import Gateway
from vantage6.node.runtimes.base import Exit, RunSpec

pytestmark = [pytest.mark.row("M27"), pytest.mark.envoy, pytest.mark.xdist_group("chaos")]

PATIENCE = 2
RUN = 2.5 * PATIENCE


async def long_run(spec: RunSpec) -> Exit:
    await asyncio.sleep(RUN)
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


async def test_idle_streams_are_kept_or_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's stays: it has heartbeats. A client that waits for longer loses its stream, and finds it again."""
    monkeypatch.setattr(run, "render", lambda *args, **more: impatient(render(*args, **more)))
    certificates = make_certificates(tmp_path / "certificates")
    async with small_network(tmp_path, runtime=FakeRuntime(long_run), heartbeat=0.5) as small:
        config = GatewayConfig(
            listen="127.0.0.1:0", servers=(f"127.0.0.1:{small.server.port}",),
            tls=Tls(certificate=certificates.certificate, key=certificates.key),
        )  # fmt: skip
        async with Gateway(config) as gateway:
            await small.stop_node()
            small.settings = {"server_url": gateway.url, "ca_file": certificates.ca}
            await small.start_node()
            (link,) = small.server.dispatcher._links.values()
            task_id = await small.create()
            state = await asyncio.to_thread(ask_and_wait, small, gateway.url, certificates.ca)
            assert state is TaskState.COMPLETED
            assert completed(await small.complete(task_id))
            await small.books_are_equal()
            assert list(small.server.dispatcher._links.values()) == [link], "the node was disconnected"
            assert list(small.starts().values()) == [1, 1]
            await small.stop_node()
    note("idle time-out in a foreign proxy", "node's stream", "kept by heartbeats")
    note("idle time-out in a foreign proxy", "waiting client", "resumed after the last event")
