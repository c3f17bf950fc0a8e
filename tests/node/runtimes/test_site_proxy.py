"""The site's proxy has a password; algorithms, which could not reach it anyway, are not told it."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import pytest
from docker.api.client import APIClient
from docker.errors import NotFound

from vantage6.common.contexts import Kind, find
from vantage6.node.admin import container, inside
from vantage6.node.admin.way import Way
from vantage6.node.config import load_context
from vantage6.node.dockerized import container_name, volume_name
from vantage6.node.runtimes.docker_attendant import Attendant
from vantage6.node.runtimes.docker_paths import HostPaths
from vantage6.node.runtimes.hardening import UNPRIVILEGED

from .conftest import IMAGE, Kit

if TYPE_CHECKING:
    from docker import DockerClient

PROXY = "http://ada:hunter2@proxy.example:3128"
LOOK = "import json, os, sys; print(json.dumps({k: v for k, v in os.environ.items() if 'proxy' in k.lower()}))"


def tell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own settings of Docker, which the SDK reads."""
    (folder / "config.json").write_text(json.dumps({"proxies": {"default": {"httpsProxy": PROXY}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))


@pytest.mark.engine
@pytest.mark.attack
@pytest.mark.row("M06")
@pytest.mark.parametrize("isolation", ["socket", "network"])
async def test_an_algorithm_is_not_told_the_site_s_proxy(
    engine_images: DockerClient, tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    """The SDK takes it from the user's own settings of Docker, and would give it to every container."""
    tell(tmp_path, monkeypatch)
    monkeypatch.setenv("https_proxy", PROXY)
    kit = Kit("docker", short_path, options={"isolation": isolation})
    try:
        handle = await kit.start(f"import time\n{LOOK}\ntime.sleep(60)")
        made = engine_images.containers.get(handle)
        told = [made.attrs["Config"]["Env"]]
        if isolation == "network":
            told.append(engine_images.containers.get(f"{made.name}-relay").attrs["Config"]["Env"])
        assert "hunter2" not in json.dumps(told)
        await kit.runtime.remove(handle)
    finally:
        await kit.runtime.close()


@pytest.fixture
def made(engine_images: DockerClient, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What containers that are made from now on are told; the settings of Docker name the proxy."""
    told: list[str] = []
    create: Any = APIClient.create_container_from_config

    def noted(client: APIClient, config: Any, *more: Any, **named: Any) -> Any:
        told.append(json.dumps(config.get("Env") or []))
        return create(client, config, *more, **named)

    monkeypatch.setattr(APIClient, "create_container_from_config", noted)
    return told


@pytest.mark.engine
@pytest.mark.attack
def test_nor_is_the_one_that_counts_for_a_node(
    made: list[str], engine_images: DockerClient, tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(tmp_path, monkeypatch)
    client = docker.from_env()
    try:
        attendant = Attendant(IMAGE, UNPRIVILEGED, {"vantage6-type": "attendant", "vantage6-node": short_path.name})
        short_path.chmod(0o755)
        attendant.count(client, short_path, HostPaths.find(client), 10**9)
    finally:
        client.close()
    assert len(made) == 1
    assert "hunter2" not in made[0]


@pytest.mark.engine
@pytest.mark.attack
def test_a_node_in_a_container_gets_what_we_give_it_only(
    made: list[str], tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its way to the server stands in its settings or in this environment; so for the commands inside."""
    tell(tmp_path, monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(short_path))
    name = f"t{uuid.uuid4().hex[:8]}"
    (short_path / f"{name}.yaml").write_text("application: {server_url: 'https://server.invalid'}\n")
    context = find(Kind.NODE, config=short_path / f"{name}.yaml")
    config = load_context(context)
    try:
        container.start_container(context, config, Way(image=IMAGE), 30)
        monkeypatch.setattr(inside, "DEFAULT_IMAGE", IMAGE)
        inside.do_inside(context, config, ["list"])
    finally:
        client = docker.from_env()
        with suppress(NotFound):
            client.containers.get(container_name(config.name, context.scope)).remove(force=True)
        with suppress(NotFound):
            client.volumes.get(volume_name(config)).remove(force=True)
        client.close()
    assert len(made) == 2
    assert "hunter2" not in "".join(made)
