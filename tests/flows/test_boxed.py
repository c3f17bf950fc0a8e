"""`vnode start` with a container: what it is given, how it is looked after, and how it is started anew."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient
from docker.models.containers import Container

from tests.proxy import tunnels
from vantage6.common.commands import Code
from vantage6.node.runtimes.docker_events import release

from .machine import Machine
from .network import ROOT, free_port
from .setting import HIDDEN, Boxed, administered, boxed_node

pytestmark = [pytest.mark.engine, pytest.mark.envoy, pytest.mark.xdist_group("engine")]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with administered(tmp_path_factory.mktemp("machine")) as made:
        yield made


@pytest.fixture
def boxed(machine: Machine, docker_engine: DockerClient, tmp_path: Path) -> Iterator[Boxed]:
    with boxed_node(machine, docker_engine, tmp_path) as made:
        yield made


@pytest.mark.row("M53")
@pytest.mark.row("M04")
@pytest.mark.row("M54")
@pytest.mark.row("M25")
def test_a_node_runs_from_its_image(boxed: Boxed, docker_engine: DockerClient) -> None:
    subprocess.run([sys.executable, "-m", "tools.services", "node"], check=True, cwd=ROOT)
    name = boxed.name
    started = boxed.run("start")
    assert started.returncode == Code.OK, started.stderr
    assert "is online" in started.stderr
    assert "image vantage6/node:dev: is taken as it is, it was made on this machine" in started.stderr
    box = docker_engine.containers.get(f"vantage6-{name}-user")
    assert box.labels["vantage6-type"] == "node"
    assert box.labels["name"] == name
    places = {mount["Destination"]: mount for mount in box.attrs["Mounts"]}
    assert places["/mnt/config"]["Source"] == str(boxed.config.parent)
    assert places["/mnt/data"]["Name"] == f"vantage-{name}-vol"
    assert "/mnt/databases/default" in {str(Path(place).parent) for place in places}
    assert box.exec_run(box.attrs["Config"]["Healthcheck"]["Test"][1:]).exit_code == 0
    assert boxed.run("start").returncode == Code.RUNNING
    stopped = boxed.run("stop")
    assert stopped.returncode == Code.OK, stopped.stderr
    assert boxed.run("stop").returncode == Code.NOT_RUNNING
    # The container is gone, its log is not.
    log = Path(json.loads(boxed.run("files", "--json").stdout)["log_file"])
    assert " online " in log.read_text()
    assert "node=0.1.0" in log.read_text()
    missing = boxed.run("start", "--image", "vantage6/no-such-image:0")
    assert missing.returncode == Code.ENGINE


@pytest.mark.row("M31")
def test_a_developer_s_source_is_run_and_again_when_it_changes(
    boxed: Boxed, docker_engine: DockerClient, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "tools.services", "devcon"], check=True, cwd=ROOT)
    source = tmp_path / "source"
    for part in ("protos/gen", "common", "node"):
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    wrong = boxed.run("start", "--develop", str(tmp_path / "elsewhere"))
    assert wrong.returncode == Code.USAGE
    assert "is no clone of the project" in wrong.stderr
    assert boxed.run("start", "--develop", str(source), "--local").returncode == Code.USAGE
    started = boxed.run("start", "--develop", str(source))
    assert started.returncode == Code.OK, started.stderr
    box = docker_engine.containers.get(f"vantage6-{boxed.name}-user")
    assert box.attrs["Config"]["Image"] == "vantage6/devcon:dev"
    assert ("/source", str(source), False) in {
        (mount["Destination"], mount["Source"], mount["RW"]) for mount in box.attrs["Mounts"]
    }
    runs = source / "node/vantage6/node/runs.py"
    text = runs.read_text()
    assert '"online",' in text
    runs.write_text(text.replace('"online",', '"online_as_changed",'))
    pieces, seen = box.logs(stream=True, follow=True), b""
    try:
        for piece in pieces:
            seen += piece
            if b"online_as_changed" in seen:
                break
    finally:
        release(pieces)
    assert b"changed: node/vantage6/node/runs.py; the node begins anew" in seen
    assert b"online_as_changed" in seen
    assert boxed.run("stop").returncode == Code.OK


LOGIN, BASIC = "ada:p%40ss", f"Basic {base64.b64encode(b'ada:p@ss').decode()}"


def box_of(engine: DockerClient, boxed: Boxed) -> Container:
    return engine.containers.get(f"vantage6-{boxed.name}-user")


def environment_of(box: Container) -> dict[str, str]:
    return dict(line.split("=", 1) for line in box.attrs["Config"]["Env"])


def test_the_site_s_proxy_leads_the_node_out_of_its_container(boxed: Boxed, docker_engine: DockerClient) -> None:
    boxed.change(server_url=f"https://{HIDDEN}:{boxed.port}")
    with tunnels(BASIC, boxed.bridge) as proxy:
        places = {"HTTPS_PROXY": f"http://{LOGIN}@{boxed.bridge}:{proxy.port}", "NO_PROXY": "elsewhere.example"}
        started = boxed.run("start", **places)
        assert started.returncode == Code.OK, started.stderr
        came = len(proxy.asked)
        assert came >= 3  # Two of the check, and the node's own.
        assert all(head.startswith(f"CONNECT {HIDDEN}:{boxed.port} ") for head in proxy.asked)
        environment = environment_of(box_of(docker_engine, boxed))
        assert {name: environment.get(name) for name in places} == places
        assert boxed.run("stop").returncode == Code.OK
        # Without it the check says why.
        said = boxed.run("start")
        assert (said.returncode, f"{HIDDEN} has no address" in said.stderr) == (Code.UNREACHABLE, True)


def test_a_restart_is_the_same_again_and_stops_nothing_before_all_is_good(
    boxed: Boxed, docker_engine: DockerClient
) -> None:
    assert boxed.run("start", "--log-format", "json", "--verbose").returncode == Code.OK
    first = box_of(docker_engine, boxed)
    assert first.attrs["Config"]["Cmd"][-3:] == ["--log-format", "json", "--verbose"]
    good = boxed.config.read_text()
    boxed.change(server_url=f"https://{boxed.bridge}:{free_port()}")
    for options, code in (((), Code.UNREACHABLE), (("--no-check", "--image", "vantage6/none:0"), Code.ENGINE)):
        refused = boxed.run("restart", *options)
        assert refused.returncode == code, refused.stderr
        assert "was not stopped, it goes on as it was" in refused.stderr
    boxed.config.write_text(good)
    docker_engine.images.get("vantage6/node:dev").tag("vantage6/node", "of-this-test")
    try:
        assert box_of(docker_engine, boxed).id == first.id
        assert boxed.run("restart", "--image", "vantage6/node:of-this-test").returncode == Code.OK
        assert boxed.run("restart", "--quiet").returncode == Code.OK
        third = box_of(docker_engine, boxed)
        assert third.id != first.id
        assert third.attrs["Config"]["Image"] == "vantage6/node:of-this-test"
        assert third.attrs["Config"]["Cmd"][-2:] == ["--log-format", "json"]
        assert boxed.run("stop").returncode == Code.OK
    finally:
        docker_engine.images.remove("vantage6/node:of-this-test", force=True)


@pytest.mark.row("M30")
def test_a_container_without_a_line_to_the_server_is_not_called_online(
    boxed: Boxed, docker_engine: DockerClient
) -> None:
    def status() -> str:
        return str(json.loads(boxed.machine.node("list", "--json").stdout)["nodes"][-1]["status"])

    # Where `list` looks.
    boxed.config = boxed.config.rename(boxed.machine.configuration(boxed.name))
    assert boxed.run("start").returncode == Code.OK
    assert status() == "online"
    until = box_of(docker_engine, boxed).logs(stream=True, follow=True, stderr=True)
    boxed.gateway.kill()
    try:
        assert any(b"connection_lost" in line or b"link_lost" in line for line in until)
    finally:
        release(until)
    assert status() == "connecting"
    assert boxed.run("stop").returncode == Code.OK
    assert status() == "offline"
    late = boxed.run("start", "--no-check", "--wait", "8")
    assert late.returncode == Code.TIMEOUT
    assert "is not online after 8 s; it goes on trying. The end of its log:" in late.stderr
    assert "end it with 'vnode stop'" in late.stderr


@pytest.mark.row("M23")
def test_task_and_data_folders_of_the_site_s_choice_are_the_container_s(
    boxed: Boxed, docker_engine: DockerClient, tmp_path: Path
) -> None:
    places = {"data": str(tmp_path / "own-data"), "task": str(tmp_path / "own-tasks"), "log": str(tmp_path / "own-log")}
    boxed.change(directories=places, policy={"allowed_images": ["vantage6/examples/.*"]})
    started = boxed.run("start")
    assert started.returncode == Code.OK, started.stderr
    assert (tmp_path / "own-data" / "journal.sqlite").exists()
    assert "online" in (tmp_path / "own-log" / f"{boxed.name}.log").read_text()
    mounted = {mount["Destination"]: mount["Source"] for mount in box_of(docker_engine, boxed).attrs["Mounts"]}
    assert mounted["/mnt/data/tasks"] == places["task"]
    assert boxed.run("start").returncode == Code.RUNNING
    assert boxed.run("stop").returncode == Code.OK
    assert boxed.run("stop").returncode == Code.NOT_RUNNING


@pytest.mark.skipif(os.getuid() != 0, reason="is said to root only")
def test_root_is_told_whom_the_container_runs_as(boxed: Boxed, docker_engine: DockerClient) -> None:
    started = boxed.run("start")
    assert "the node's container runs as root (without its capabilities), because you are root" in started.stderr
    box = box_of(docker_engine, boxed)
    assert box.attrs["HostConfig"]["CapDrop"] == ["ALL"]
    assert box.attrs["HostConfig"]["ReadonlyRootfs"]
    assert "no-new-privileges:true" in box.attrs["HostConfig"]["SecurityOpt"]


def test_one_whose_configuration_was_spoilt_can_be_stopped(boxed: Boxed, docker_engine: DockerClient) -> None:
    assert boxed.run("start").returncode == Code.OK
    good = boxed.config.read_text()
    boxed.config.write_text("application: [\n")
    try:
        stopped = boxed.run("stop")
        assert stopped.returncode == Code.OK, stopped.stderr
        assert f"node '{boxed.name}' has stopped" in stopped.stderr
        assert not docker_engine.containers.list(filters={"name": f"^vantage6-{boxed.name}-user$"})
        assert boxed.run("stop").returncode != Code.OK
    finally:
        boxed.config.write_text(good)
