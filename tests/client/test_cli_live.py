"""`v6` against a server of its own, from the first log-in to the last log-out."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.flows.network import free_port, start_server, write
from vantage6.cli.main import main
from vantage6.client import Client
from vantage6.client.errors import Unauthenticated
from vantage6.server.domain.totp import SECONDS, code_at

PASSWORD = "correct horse battery staple 7"
SECOND = "another horse battery staple 8"
Shell = Callable[..., Result]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Its address and root's password."""
    folder = tmp_path_factory.mktemp("server")
    with ExitStack() as stack:
        port = free_port()
        config = write(folder / "server.yaml", {
            "address": f"127.0.0.1:{port}", "root_password_file": "root-password", "heartbeat_seconds": 1,
        })  # fmt: skip
        start_server(config, stack.callback)
        yield f"http://127.0.0.1:{port}", (folder / "root-password").read_text().strip()


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs a command; one that fails fails the test unless a code is expected."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("VANTAGE6_SERVER", "VANTAGE6_USERNAME", "VANTAGE6_PASSWORD", "VANTAGE6_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object, typed: str = "", code: int = 0) -> Result:
        done = CliRunner().invoke(main, [str(each) for each in arguments], input=typed, catch_exceptions=False)
        assert done.exit_code == code, (arguments, done.output)
        return done

    return run


@pytest.fixture
def root(shell: Shell, server: tuple[str, str]) -> Shell:
    """A shell in which root is logged in."""
    shell("login", "--server", server[0], "-u", "root", typed=f"{server[1]}\n")
    return shell


def number(done: Result) -> int:
    return int(json.loads(done.stdout)["id"])


def test_nobody_is_logged_in(shell: Shell, server: tuple[str, str]) -> None:
    assert "v6 login" in shell("task", "list", code=2).output
    assert "v6 login" in shell("task", "list", "--server", server[0], code=8).output
    assert "wrong" in shell("login", "--server", server[0], "-u", "root", typed="guess\n", code=8).output.lower()
    shell("login", "--server", "http://127.0.0.1:9", "-u", "x", typed="y\n", code=7)


@pytest.mark.attack
def test_the_tokens_are_for_their_owner_only(root: Shell, tmp_path: Path, server: tuple[str, str]) -> None:
    folder = tmp_path / "config" / "vantage6" / "v6"
    assert stat.S_IMODE((folder / "login.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not [path for path in folder.iterdir() if server[1] in path.read_text()]


def test_who_and_out(root: Shell, tmp_path: Path) -> None:
    assert json.loads(root("whoami", "--json").stdout)["username"] == "root"
    kept = tmp_path / "config" / "vantage6" / "v6" / "login.json"
    copy = kept.read_text()
    root("logout")
    assert not kept.exists()
    kept.write_text(copy)
    root("organization", "list", code=8)  # The server has ended it too.
    root("logout", code=8)
    root("logout", code=5)


@pytest.mark.row("M26")
def test_a_study_from_its_organizations_to_its_task(
    root: Shell, server: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    north, south = (
        number(root("organization", "create", name, "--country", "NL", "--json")) for name in ("North", "South")
    )
    assert json.loads(root("organization", "show", north, "--json").stdout)["country"] == "NL"
    study = number(root("collaboration", "create", "study", "-o", north, "--plain", "--json"))
    root("collaboration", "add", study, south)
    assert "South" in root("organization", "list", "-c", study).stdout
    root("collaboration", "remove", study, south)
    assert json.loads(root("collaboration", "show", study, "--json").stdout)["organization_ids"] == [north]
    assert "study" in root("collaboration", "list").stdout
    key = root("node", "create", "-c", study, "-o", north, "--name", "n1").stdout.strip()
    [node] = json.loads(root("node", "list", "--json").stdout)
    assert key
    assert key not in json.dumps(node)
    assert root("node", "reset-key", node["id"]).stdout.strip() not in ("", key)
    assert "n1" in root("node", "show", node["id"]).stdout
    typed = f"{PASSWORD}\n{PASSWORD}\n"
    made = root("user", "create", "alice", "--email", "a@x.example", "-o", north, "-r", "researcher", typed=typed)
    assert PASSWORD not in made.output
    assert "alice" in root("user", "list", "-o", north).stdout

    root("login", "-u", "alice", typed=f"{PASSWORD}\n")  # The server is the one of before.
    file = tmp_path / "input.json"
    file.write_text('{"method": "mean", "args": ["age"]}')
    task = int(root("task", "create", "-c", study, "-i", "image", "--input", file, "--name", "ages").stdout)
    shown = json.loads(root("task", "show", task, "--json").stdout)
    assert (shown["task"]["name"], [each["state"] for each in shown["results"]]) == ("ages", ["pending"])
    assert [each["id"] for each in json.loads(root("task", "list", "--state", "open", "--json").stdout)] == [task]
    assert "goes on" in root("task", "wait", task, "--timeout", "0.2", code=1).output
    assert root("task", "cancel", task).stdout == "cancelled\n"
    assert root("task", "wait", task, code=1).stdout == "cancelled\n"
    answer = tmp_path / "answer.json"
    root("task", "result", task, "--output", answer, code=1)
    assert json.loads(answer.read_text())[0]["state"] == "cancelled"
    second = root(
        "task", "create", "-c", study, "-o", north, "-i", "image", "-m", "mean", "-k", "column=age", "-k", "rounds=[1]",
        "--min-results", 1, "--retries", 2, "--priority", 3, "--deadline", 600, "--fail-fast", "--json",
    )  # fmt: skip
    sent = json.loads(second.stdout)
    assert [sent[each] for each in ("min_results", "retries", "priority", "fail_fast")] == [1, 2, 3, True]
    assert (
        dt.timedelta(0)
        < dt.datetime.fromisoformat(sent["deadline"]) - dt.datetime.now(dt.UTC)
        <= dt.timedelta(seconds=600)
    )

    root("login", "-u", "root", typed=f"{server[1]}\n")
    root("node", "delete", node["id"])
    [alice] = [each for each in json.loads(root("user", "list", "--json").stdout) if each["username"] == "alice"]
    root("user", "delete", alice["id"])
    root("user", "show", alice["id"], code=1)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-m", "x", "--input", "y"),
        ("--input", "none-such.json"),
        ("-m", "x", "-k", "novalue"),
        ("-m", "x", "-k", "no-name=1"),
    ],
)
def test_a_task_that_says_nothing_is_not_sent(root: Shell, arguments: tuple[str, ...]) -> None:
    done = root("task", "create", "-c", 1, "-i", "image", *arguments, code=1 if "none-such.json" in arguments else 2)
    assert done.stdout == ""


def test_keys(root: Shell, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    fingerprint = root("keys", "create", file).stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert root("keys", "show", file).stdout == fingerprint
    root("keys", "create", file, code=1)
    assert root("keys", "show", file).stdout == fingerprint
    one, two = (number(root("organization", "create", f"key {each}", "--json")) for each in (1, 2))
    study = number(root("collaboration", "create", "sealed", "-o", one, "-o", two, "--json"))
    user = (
        "user",
        "create",
        "bob",
        "--email",
        "b@x.example",
        "-o",
        one,
        "-r",
        "researcher",
        "-r",
        "organization_admin",
    )
    root(*user, typed=f"{PASSWORD}\n{PASSWORD}\n")
    root("login", "-u", "bob", "--key", file, typed=f"{PASSWORD}\n")
    done = root("task", "create", "-c", study, "-o", two, "-i", "image", "-m", "go", code=1)
    assert "no public key" in done.output
    assert root("task", "create", "-c", study, "-o", one, "-i", "image", "-m", "go").stdout.strip().isdigit()
    assert (
        "setup_encryption"
        in root("task", "create", "-c", study, "-o", one, "-i", "image", "-m", "go", "--no-key", code=1).output
    )
    assert "another key" in root("keys", "trust", one, "1" * 64, code=1).output
    root("keys", "trust", one, fingerprint.strip())
    assert fingerprint.strip() in root("keys", "list").stdout
    assert root("keys", "rotate", file).stdout == root("keys", "show", file).stdout != fingerprint


def test_a_second_factor_from_its_secret_to_its_end(
    root: Shell, server: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = number(root("organization", "create", "home", "--json"))
    user = ("user", "create", "carol", "--email", "c@x.example", "-r", "researcher", "-o", home, "--json")
    carol = number(root(*user, typed=f"{SECOND}\n{SECOND}\n"))
    root("login", "-u", "carol", typed=f"{SECOND}\n")
    said: list[str] = []
    steps = iter((0, int(time.time()) // SECONDS))  # The first code is a wrong one.

    def code(step: int) -> str:
        secret = re.search(r"secret ([A-Z2-7]+)", said[0])[1]  # type: ignore[index]
        return code_at(base64.b32decode(secret + "=" * (-len(secret) % 8)), step)

    def prompt(text: str, **_: object) -> str:
        return SECOND if text == "Password" else code(next(steps))

    with monkeypatch.context() as typing:
        typing.setattr("vantage6.cli.access.terminal.say", said.append)
        typing.setattr("vantage6.cli.access.click.prompt", prompt)
        codes = root("second-factor", "create").stdout.split()
    assert len(codes) >= 5
    assert "otpauth://" in said[0]
    next_code = code(int(time.time()) // SECONDS + 1)  # Each is good once; the clock may be one step off.
    done = root("login", "-u", "carol", typed=f"{SECOND}\n{next_code}\n")
    assert next_code not in done.output
    assert "carol" in root("whoami").stdout
    root("login", "-u", "carol", typed=f"{SECOND}\n000000\n", code=8)
    assert "wrong" in root("second-factor", "delete", typed=f"{SECOND}\n\n", code=8).output
    root("second-factor", "delete", typed=f"{SECOND}\n{codes[0]}\n")
    root("login", "-u", "carol", typed=f"{SECOND}\n")
    with monkeypatch.context() as typing:
        said.clear()
        steps = iter((int(time.time()) // SECONDS,))
        typing.setattr("vantage6.cli.access.terminal.say", said.append)
        typing.setattr("vantage6.cli.access.click.prompt", prompt)
        root("second-factor", "create")
    root("login", "-u", "root", typed=f"{server[1]}\n")
    root("second-factor", "delete", "--user", carol, typed=f"{server[1]}\n\n")  # She has lost it.
    root("login", "-u", "carol", typed=f"{SECOND}\n")


@pytest.mark.attack
def test_a_lost_machine_is_logged_out(root: Shell, server: tuple[str, str], tmp_path: Path) -> None:
    with Client(server[0], known_organizations=tmp_path / "known.json") as lost:
        before = {each["id"] for each in json.loads(root("session", "list", "--json").stdout)}
        lost.authenticate("root", server[1])
        sessions = json.loads(root("session", "list", "--json").stdout)
        [other] = [each for each in sessions if each["id"] not in before]
        assert [each["current"] for each in sessions if each["id"] == other["id"]] == [False]
        assert [each.id for each in lost.session.list() if each.current] == [other["id"]]
        assert other["ip"] in root("session", "list").stdout
        root("session", "end", other["id"])
        root("session", "end", other["id"], code=1)
        with pytest.raises(Unauthenticated):
            list(lost.organization.list())
    assert "root" in root("whoami").stdout
