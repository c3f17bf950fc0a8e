"""What administrators do, with the commands as they are typed: a server, a gateway, and nodes side by side."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vantage6.common.commands import Code

from .machine import BIN, Machine
from .network import free_port
from .setting import administered

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("administrators")]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with administered(tmp_path_factory.mktemp("machine")) as made:
        yield made


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
    assert start()[0] == Code.YAML
    assert "cannot be used" in machine.node("list").stderr
    path.unlink()
    code, said = start()
    assert (code, "does not exist in the user folder" in said) == (Code.MISSING, True)


@pytest.mark.row("M24")
def test_the_server_says_that_its_port_is_taken(machine: Machine) -> None:
    taken = json.loads(machine.run("vserver", "files", "--json").stdout)["configuration_file"]
    address = next(line.split(": ")[1] for line in Path(taken).read_text().splitlines() if "address:" in line)
    made = machine.run("vserver", "new", "--name", "twin", "--user", "--root-email", "a@b.example",
                       "--address", address, "--yes")  # fmt: skip
    assert made.returncode == Code.OK
    assert machine.run("vserver", "check", "--user").returncode == Code.PORT
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
    assert all(re.search(rf"^{run_id} +[\d,]{{3,}}$", asked.stdout, re.MULTILINE) for run_id in ("3", "4"))
    done = machine.node("clean", "--name", "eight", "--yes")
    assert done.returncode == Code.OK
    assert not list((tasks / "tmp").iterdir())
    assert "no temporary volume" in machine.node("clean", "--name", "eight").stderr


def test_what_runs_can_be_stopped_although_a_file_was_spoilt(machine: Machine) -> None:
    """The node's own file, and another one beside it."""
    machine.new_node("spoilt", machine.keys["North"], "--private-key", str(machine.home / "north.pem"))
    machine.use_null("spoilt")
    assert machine.node("start", "--name", "spoilt").returncode == Code.OK
    beside = machine.configuration("beside")
    for path in (machine.configuration("spoilt"), beside):
        path.write_text("application: [\n")
    try:
        stopped = machine.node("stop", "--all", "--json")
        assert stopped.returncode == Code.OK, stopped.stderr
        assert json.loads(stopped.stdout)["stopped"] == ["node 'spoilt'"]
        assert "spoilt.yaml is no valid YAML" in stopped.stderr
        nothing = machine.node("stop", "--all")
        assert nothing.returncode == Code.CONFIG
        assert f"by the names of {beside}, " in nothing.stderr
        assert "No other node runs" in nothing.stderr
        assert machine.node("stop", "--name", "spoilt").returncode == Code.YAML
    finally:
        beside.unlink()
        machine.configuration("spoilt").unlink()


@pytest.mark.row("M28")
def test_a_restart_without_a_container_is_the_same_again(machine: Machine) -> None:
    machine.new_node("again", machine.keys["North"], "--private-key", str(machine.home / "north.pem"))
    machine.use_null("again")
    where = json.loads(machine.node("files", "--name", "again", "--json").stdout)
    lock, log = Path(where["data_folder"], "lock"), Path(where["log_file"])
    assert machine.node("restart", "--name", "again", "--log-format", "json", "--verbose").returncode == Code.OK
    first = json.loads(lock.read_text())
    good = machine.configuration("again").read_text()
    machine.configuration("again").write_text(good.replace(machine.url, f"https://127.0.0.1:{free_port()}"))
    refused = machine.node("restart", "--name", "again")
    assert refused.returncode == Code.UNREACHABLE
    assert "was not stopped, it goes on as it was" in refused.stderr
    assert json.loads(lock.read_text())["pid"] == first["pid"]
    machine.configuration("again").write_text(good)
    log.write_text("")
    assert machine.node("restart", "--name", "again").returncode == Code.OK
    second = json.loads(lock.read_text())
    assert second["pid"] != first["pid"]
    assert second["way"] == first["way"]
    assert all(json.loads(line) for line in log.read_text().splitlines())
    assert machine.node("stop", "--name", "again").returncode == Code.OK


def test_one_in_the_foreground_is_left_to_its_service_manager(machine: Machine) -> None:
    machine.new_node("fore", machine.keys["North"], "--private-key", str(machine.home / "north.pem"))
    machine.use_null("fore")
    with machine.foreground("start", "--name", "fore", "--foreground") as process:
        refused = machine.node("restart", "--name", "fore")
        assert refused.returncode == Code.RUNNING, refused.stderr
        assert "runs in the foreground" in refused.stderr
        assert process.poll() is None
