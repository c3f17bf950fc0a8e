"""What administrators do, with the commands as they are typed: a server, a gateway, and nodes side by side."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from vantage6.common.commands import Code
from vantage6.gateway.certificates import make_certificates
from vantage6.node.runtimes.docker_events import release

from .machine import BIN, Machine
from .network import ROOT, free_port, start_gateway, write

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("administrators")]

FIXTURES = """
organizations:
  - {name: North, domain: north.example}
  - name: South
    users:
      - {username: sarah, email: sarah@south.example, password: a quite long passphrase 7, roles: researcher}
  - name: West
collaborations:
  - name: study
    participants: [North, {name: South, api-key: the-key-of-the-south-9d2f}, West]
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """With a server that was set up by commands alone, and a gateway before it."""
    home = tmp_path_factory.mktemp("machine")
    port = free_port()
    made = Machine(home)
    done = made.run("vserver", "new", "--name", "central", "--root-email", "root@central.example", "--address",
                    f"127.0.0.1:{port}", "--yes")  # fmt: skip
    assert done.returncode == Code.OK, done.stderr
    started = made.run("vserver", "start")
    assert started.returncode == Code.OK, started.stderr
    made.root_password = started.stdout.split("with the password\n\n")[1].split()[0]
    (home / "fixtures.yaml").write_text(FIXTURES)
    done = made.run("vserver", "import", str(home / "fixtures.yaml"), "--json")
    assert done.returncode == Code.OK, done.stderr
    made.keys = {name.split(" - ")[0]: key for name, key in json.loads(done.stdout)["api_keys"].items()}
    assert made.node("create-private-key", str(home / "north.pem")).returncode == Code.OK
    made.keys["South"] = "the-key-of-the-south-9d2f"
    certificates = make_certificates(home / "tls")
    listen = f"127.0.0.1:{free_port()}"
    config = write(home / "gateway.yaml", {
        "listen": listen, "servers": [f"127.0.0.1:{port}"],
        "tls": {"certificate": str(certificates.certificate), "key": str(certificates.key)},
    })  # fmt: skip
    made.url, made.ca_file = f"https://{listen}", certificates.ca
    stops: list[Any] = []
    start_gateway(config, stops.append)
    yield made
    for scope in ("--user", "--system"):
        made.node("stop", "--all", scope)
    made.run("vserver", "stop")
    for stop in stops:
        stop()


@pytest.mark.row("M05")
def test_the_server_start_is_told_once_and_a_second_one_refused(machine: Machine) -> None:
    again = machine.run("vserver", "start")
    assert again.returncode == Code.RUNNING
    assert "runs already" in again.stderr
    log = json.loads(machine.run("vserver", "files", "--json").stdout)["log_file"]
    assert machine.root_password not in Path(log).read_text()
    rows = json.loads(machine.run("vserver", "list", "--json").stdout)["servers"]
    assert [(row["name"], row["scope"], row["status"], row["running"]) for row in rows] == [
        ("central", "system", "online", "prod")
    ]
    assert machine.run("vserver", "check").returncode == Code.OK
    assert machine.run("vserver", "migrate", "--check").returncode == Code.OK
    said = machine.run("vserver", "shell", text="print(config.name, tables.User.__tablename__)")
    assert said.stdout == "central users\n"


def test_an_import_is_repeatable_and_all_or_nothing(machine: Machine) -> None:
    again = machine.run("vserver", "import", str(machine.home / "fixtures.yaml"), "--json")
    found = json.loads(again.stdout)
    assert found["made"] == []
    assert len(found["present"]) == 8
    bad = machine.home / "bad.yaml"
    bad.write_text("organizations: [{name: East}]\ncollaborations: [{name: other, participants: [Nobody]}]\n")
    failed = machine.run("vserver", "import", str(bad))
    assert failed.returncode == Code.FAILED
    assert "there is no organization 'Nobody'" in failed.stderr
    bad.write_text("organizations: [{name: East}]\n")
    assert "1 made" in machine.run("vserver", "import", str(bad)).stderr  # It was not made before.
    bad.write_text("organizations:\n  - {name: East, domian: x}\n")
    wrong = machine.run("vserver", "import", str(bad))
    assert wrong.returncode == Code.CONFIG
    assert "line 2" in wrong.stderr
    assert "did you mean 'domain'" in wrong.stderr


@pytest.mark.row("M28")
@pytest.mark.row("M30")
@pytest.mark.row("M47")
def test_three_nodes_side_by_side(machine: Machine) -> None:
    for organization, name, scope in (("North", "one", "home"), ("South", "two", "home"), ("West", "one", "dirs")):
        flag = "--system" if scope == "dirs" else "--user"
        private = ["--private-key", str(machine.home / "north.pem")] if organization == "North" else []
        made = machine.new_node(name, machine.keys[organization], flag, *private)
        assert made.returncode == Code.OK, made.stderr
        machine.use_null(name, scope)
        started = machine.node("start", "--name", name, flag)
        assert started.returncode == Code.OK, started.stderr
        assert f"is online at {machine.url} as '{organization} - study Node'" in started.stderr
        assert "versions: contract 1.0" in started.stderr
    rows = machine.list()
    assert {key: row["status"] for key, row in rows.items()} == {
        ("one", "user"): "online", ("two", "user"): "online", ("one", "system"): "online",
    }  # fmt: skip
    assert len({row["process"] for row in rows.values()}) == 3
    second = machine.node("start", "--name", "one")
    assert second.returncode == Code.RUNNING
    assert "runs already" in second.stderr
    assert machine.node("stop", "--name", "one", "--system").returncode == Code.OK
    assert {key: row["status"] for key, row in machine.list().items()} == {
        ("one", "user"): "online", ("two", "user"): "online", ("one", "system"): "offline",
    }  # fmt: skip
    shown = machine.node("list").stdout.splitlines()
    assert shown[0].split() == ["Name", "Environments", "Status", "Runs", "System/User"]
    assert machine.node("stop", "--all").returncode == Code.OK
    assert {row["status"] for row in machine.list().values()} == {"offline"}
    nothing = machine.node("stop", "--name", "one")
    assert nothing.returncode == Code.NOT_RUNNING
    assert "nothing to stop" in nothing.stderr
    assert machine.node("attach", "--name", "one").returncode == Code.NOT_RUNNING


@pytest.mark.row("M03")
def test_a_file_anywhere_is_started_and_its_log_shown(machine: Machine, tmp_path: Path) -> None:
    machine.new_node("three", machine.keys["North"], "--private-key", str(machine.home / "north.pem"))
    machine.use_null("three")
    config = tmp_path / "elsewhere.yaml"
    machine.configuration("three").rename(config)
    names = ("CONFIG_HOME", "DATA_HOME", "STATE_HOME", "CACHE_HOME")
    places = {f"XDG_{name}": str(machine.home / name.lower()) for name in names}
    attached = subprocess.Popen(
        [str(BIN / "vnode"), "start", "--config", str(config), "--attach"], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, env={**os.environ, **places, "HOME": str(machine.home)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - jobs of a shell's background ignore it.
    )  # fmt: skip
    assert attached.stdout is not None
    with attached, attached.stdout as lines:
        assert any("online" in line for line in lines)
        attached.send_signal(signal.SIGINT)
        assert attached.wait(30) == Code.OK
    assert machine.node("restart", "--config", str(config)).returncode == Code.OK
    assert machine.node("stop", "--config", str(config)).returncode == Code.OK


@pytest.mark.row("M32")
def test_files(machine: Machine) -> None:
    machine.new_node("four", "key")
    shown = json.loads(machine.node("files", "--name", "four", "--json").stdout)
    assert shown["configuration_file"] == str(machine.configuration("four"))
    assert shown["databases"] == {"default": str(machine.home / "four.csv")}
    assert "databases" in machine.node("files", "--name", "four").stdout


@pytest.mark.row("M24")
def test_bad_input_has_its_message_and_code(machine: Machine) -> None:
    machine.new_node("bad", "no such key")
    machine.use_null("bad")
    path = machine.configuration("bad")
    good = path.read_text()

    def start() -> tuple[int, str]:
        done = machine.node("start", "--name", "bad")
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    code, said = start()
    assert (code, "the server does not know it" in said) == (Code.REFUSED, True)
    (path.parent / "bad.api_key").write_text("the-key-of-the-south-9d2f")
    path.write_text(good.replace(machine.url, f"https://127.0.0.1:{free_port()}"))
    code, said = start()
    assert (code, "Connection refused" in said) == (Code.UNREACHABLE, True)
    path.write_text(good.replace("127.0.0.1", "no-such-host.invalid"))
    code, said = start()
    assert (code, "has no address" in said) == (Code.UNREACHABLE, True)
    path.write_text("\n".join(line for line in good.splitlines() if "ca_file" not in line))
    code, said = start()
    assert (code, "set ca_file to the authority" in said) == (Code.UNREACHABLE, True)
    path.write_text(good.replace('runtime: "null"', "runtime: dokcer"))
    assert start()[0] == Code.ENGINE
    path.write_text(good.replace('runtime: "null"', "runtime: docker\n  runtime_options: {base_url: unix:///no.sock}"))
    code, said = start()
    assert (code, "Docker does not answer" in said) == (Code.ENGINE, True)
    path.write_text(good.replace("bad.csv", "gone.csv"))
    code, said = start()
    assert (code in {Code.CHECK, Code.REFUSED}, "database default" in said) == (True, True)
    path.write_text(good.replace("server_url", "server_ulr"))
    code, said = start()
    assert (code, "did you mean 'server_url'" in said) == (Code.CONFIG, True)
    path.write_text("application: [\n")
    assert start()[0] == Code.CONFIG
    assert "cannot be used" in machine.node("list").stderr
    path.unlink()
    code, said = start()
    assert (code, "does not exist in the user folder" in said) == (Code.CONFIG, True)


@pytest.mark.row("M24")
def test_the_server_says_that_its_port_is_taken(machine: Machine) -> None:
    taken = json.loads(machine.run("vserver", "files", "--json").stdout)["configuration_file"]
    address = next(line.split(": ")[1] for line in Path(taken).read_text().splitlines() if "address:" in line)
    made = machine.run("vserver", "new", "--name", "twin", "--user", "--root-email", "a@b.example",
                       "--address", address, "--yes")  # fmt: skip
    assert made.returncode == Code.OK
    assert machine.run("vserver", "check", "--user").returncode == Code.CHECK
    started = machine.run("vserver", "start", "--user")
    assert started.returncode == Code.PORT
    assert "another program has the port" in started.stderr
    assert machine.run("vserver", "stop", "--user").returncode == Code.NOT_RUNNING


def test_nothing_is_overwritten(machine: Machine) -> None:
    assert machine.new_node("five", "key").returncode == Code.OK
    before = machine.configuration("five").read_text()
    again = machine.new_node("five", "other")
    assert again.returncode == Code.EXISTS
    assert "left alone" in again.stderr
    more = machine.new_node("five", "other", "--environment", "test")
    assert more.returncode == Code.OK, more.stderr
    assert machine.configuration("five").read_text().startswith(before)
    assert machine.list()["five", "user"]["environments"] == ["application", "test"]
    assert (machine.configuration("five").parent / "five.api_key").read_text() == "key\n"
    assert (machine.configuration("five").parent / "five.api_key").stat().st_mode & 0o777 == 0o600
    missing = machine.node("new", "--name", "six")
    assert missing.returncode == Code.USAGE
    assert "--server-url is missing" in missing.stderr


def test_an_api_key_is_set(machine: Machine) -> None:
    machine.new_node("seven", "key")
    done = machine.node("set-api-key", "--name", "seven", text="another\n")
    assert done.returncode == Code.OK, done.stderr
    assert (machine.configuration("seven").parent / "seven.api_key").read_text() == "another\n"
    assert machine.node("set-api-key", "--name", "seven", text="\x1b[2J\n").returncode == Code.USAGE


@pytest.mark.row("M21")
@pytest.mark.row("M49")
def test_clean_removes_what_nobody_uses_and_asks_first(machine: Machine) -> None:
    machine.new_node("eight", "key")
    tasks = Path(json.loads(machine.node("files", "--name", "eight", "--json").stdout)["task_folder"])
    for run_id in ("3", "4"):
        (tasks / "tmp" / run_id).mkdir(parents=True)
        (tasks / "tmp" / run_id / "model").write_bytes(b"x" * 100)
    asked = machine.node("clean", "--name", "eight", text="n\n")
    assert "nothing was removed" in asked.stderr
    assert "100" in asked.stdout
    done = machine.node("clean", "--name", "eight", "--yes")
    assert done.returncode == Code.OK
    assert not list((tasks / "tmp").iterdir())
    assert "no temporary volume" in machine.node("clean", "--name", "eight").stderr


@dataclass
class Boxed:
    """A node that `vnode start` is to put into a container, and the folder that its configuration is in."""

    machine: Machine
    name: str
    config: Path

    def run(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        return self.machine.node(command, "--config", str(self.config), *more)


@pytest.fixture
def boxed(machine: Machine, docker_engine: DockerClient, tmp_path: Path) -> Iterator[Boxed]:
    """The server is on this machine, so the container reaches it by the gateway of its own bridge."""
    subnet = docker_engine.networks.get("bridge").attrs["IPAM"]["Config"][0]["Subnet"]
    bridge = str(ipaddress.ip_network(subnet)[1])
    name = f"boxed-{os.getpid()}"
    stops: list[Any] = []
    port = free_port()
    server = json.loads(machine.run("vserver", "files", "--json").stdout)["configuration_file"]
    upstream = next(line.split(": ")[1] for line in Path(server).read_text().splitlines() if "address:" in line)
    certificates = make_certificates(tmp_path / "tls", (bridge, "127.0.0.1"))
    gateway = write(tmp_path / "gateway.yaml", {
        "listen": f"{bridge}:{port}", "servers": [upstream],
        "tls": {"certificate": str(certificates.certificate), "key": str(certificates.key)},
    })  # fmt: skip
    start_gateway(gateway, stops.append)
    here = Machine(machine.home, f"https://{bridge}:{port}", certificates.ca)
    made = here.new_node(name, machine.keys["North"], "--private-key", str(machine.home / "north.pem"))
    assert made.returncode == Code.OK, made.stderr
    config = tmp_path / "elsewhere" / f"{name}.yaml"
    config.parent.mkdir()
    here.configuration(name).rename(config)
    found = Boxed(here, name, config)
    yield found
    found.run("stop")
    (here.configuration(name).parent / f"{name}.api_key").unlink()
    for volume in docker_engine.volumes.list(filters={"name": f"vantage-{name}-vol"}):
        volume.remove(force=True)
    for stop in stops:
        stop()


@pytest.mark.engine
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


@pytest.mark.engine
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
