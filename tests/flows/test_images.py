"""The images of node, server and gateway: who they run as, what they say of themselves, and that they work together."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from docker import DockerClient
from docker.models.containers import Container

from vantage6.common.contract import VERSION as CONTRACT_VERSION
from vantage6.gateway.certificates import make_certificates
from vantage6.node.runtimes.docker_events import release

from .network import ROOT, write

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("engine")]

NAMES = ("node", "server", "gateway")


@pytest.fixture(scope="module")
def services(docker_engine: DockerClient) -> None:
    subprocess.run([sys.executable, "-m", "tools.services", *NAMES], check=True, cwd=ROOT)


@contextmanager
def box(engine: DockerClient, name: str, *command: str, **more: Any) -> Iterator[Container]:
    made = engine.containers.run(f"vantage6/{name}:dev", list(command) or None, detach=True, read_only=True,
                                 cap_drop=["ALL"], tmpfs={"/tmp": "mode=1777"}, **more)  # fmt: skip
    try:
        yield made
    finally:
        made.remove(force=True, v=True)


def until(made: Container, words: str) -> str:
    """Its log, as soon as these words are in it."""
    seen = ""
    pieces = made.logs(stream=True, follow=True)
    try:
        for piece in pieces:
            seen += piece.decode(errors="replace")
            if words in seen:
                return seen
    finally:
        release(pieces)
    raise AssertionError(f"it never said {words!r}:\n{seen}")


@pytest.mark.row("M53")
@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_unprivileged_and_says_its_version(docker_engine: DockerClient, services: None, name: str) -> None:
    image = docker_engine.images.get(f"vantage6/{name}:dev")
    config = image.attrs["Config"]
    assert config["User"] == "65534:65534"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert image.labels["org.opencontainers.image.version"] == version("vantage6-grpc")
    assert image.labels["org.opencontainers.image.title"] == f"vantage6 {name}"
    assert image.labels["vantage6.contract"] == CONTRACT_VERSION
    if name != "gateway":
        said = docker_engine.containers.run(image, ["version", "--json"], remove=True)
        found = json.loads(said)
        assert found[name] == version("vantage6-grpc")
        assert "unknown" not in found.values()


def test_a_volume_can_be_written_by_whoever_runs_it(docker_engine: DockerClient, services: None) -> None:
    """A node is started with the user's own id, and docker makes the volume."""
    volume = docker_engine.volumes.create()
    try:
        code = "import pathlib; pathlib.Path('/mnt/data/x').write_text('x')"
        for user in ("65534:65534", "1234:1234"):
            docker_engine.containers.run(
                "vantage6/node:dev", ["-c", code.replace("/x", f"/x{user[:2]}")], entrypoint=["python3"], user=user,
                remove=True, volumes={volume.name: {"bind": "/mnt/data"}},
            )  # fmt: skip
    finally:
        volume.remove(force=True)


def test_server_and_gateway_work_from_their_images(docker_engine: DockerClient, services: None, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    server_folder, gateway_folder = tmp_path / "server", tmp_path / "gateway"
    for folder in (server_folder, gateway_folder):
        folder.mkdir(mode=0o755)
    write(server_folder / "server.yaml", {"address": "0.0.0.0:5001", "data_dir": "/mnt/data/server"})
    mounted = {str(server_folder): {"bind": "/mnt/config", "mode": "ro"}}
    with box(docker_engine, "server", volumes=mounted) as server:
        assert "First start: user 'root' was made" in until(server, "server_listening")
        place = address(server)
        certificates = make_certificates(gateway_folder / "tls", ("127.0.0.1",))
        for path in gateway_folder.rglob("*"):
            path.chmod(0o755)
        write(gateway_folder / "gateway.yaml", {
            "listen": "0.0.0.0:8443", "servers": [f"{place}:5001"],
            "tls": {"certificate": "tls/server.pem", "key": "tls/server.key"},
        })  # fmt: skip
        mounted = {str(gateway_folder): {"bind": "/mnt/config", "mode": "ro"}}
        with box(docker_engine, "gateway", volumes=mounted) as gateway:
            until(gateway, "gateway ready")
            with httpx.Client(verify=False) as web:
                found = web.get(f"https://{address(gateway)}:8443/api/version").json()
            assert found["version"] == version("vantage6-grpc")
            assert certificates.ca.exists()
            for made in (server, gateway):
                test = made.attrs["Config"]["Healthcheck"]["Test"][1:]
                assert made.exec_run(test).exit_code == 0
            gateway.stop(timeout=20)
            assert gateway.wait()["StatusCode"] == 0
        server.stop(timeout=20)
        assert server.wait()["StatusCode"] == 0


def address(made: Container) -> str:
    made.reload()
    return str(made.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"])
