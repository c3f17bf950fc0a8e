"""`vserver check`: each line says what was tested, how it is and the fix; and what a start says of the same faults."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from click.testing import CliRunner, Result

from vantage6.common.commands import Code
from vantage6.server.cli import main
from vantage6.server.mail import PASSWORD_VARIABLE, MailConfig
from vantage6.server.store.migrate import expected_revision


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Machine:
    """One configuration whose settings are right."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.settings: dict[str, object] = {"address": f"127.0.0.1:{free_port()}"}
        self.more: dict[str, object] = {}

    def run(self, *arguments: str) -> Result:
        path = self.folder / "central.yaml"
        path.write_text(yaml.safe_dump({"application": self.settings, **self.more}))
        done = CliRunner().invoke(main, [arguments[0], "--config", str(path), *arguments[1:]])
        assert "Traceback" not in done.output, done.output
        return done


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.delenv("VANTAGE6_DB_URI", raising=False)
    return Machine(tmp_path, monkeypatch)


def test_a_server_in_order_before_and_after_its_first_start(machine: Machine) -> None:
    said = machine.run("check")
    assert said.exit_code == Code.OK, said.output
    lines = said.output.splitlines()
    for begin in ("ok       environment application: ", "ok       data folder: ", "ok       database: sqlite",
                  "skipped  schema: the database is empty; the first start makes it", "skipped  token secret: ",
                  "ok       address: 127.0.0.1:"):  # fmt: skip
        assert any(line.startswith(begin) for line in lines), begin
    assert lines[-1].endswith(" is free")
    assert machine.run("migrate").exit_code == Code.OK
    (machine.folder / "data" / "token.secret").write_text("x")
    (machine.folder / "data" / "token.secret").chmod(0o644)
    said = machine.run("check")
    assert said.exit_code == Code.OK
    assert f"ok       schema: {expected_revision()}" in said.output
    assert "warning  token secret: " in said.output
    assert f"fix: chmod 600 {machine.folder / 'data' / 'token.secret'}" in said.output
    (machine.folder / "data" / "token.secret").chmod(0o600)
    plain = json.loads(machine.run("check", "--json").output)
    assert plain["good"] is True
    assert {each["outcome"] for each in plain["findings"]} == {"ok"}


def closed(machine: Machine) -> None:
    machine.settings["data_dir"] = "/sys/kernel/closed"


def no_room(machine: Machine) -> None:
    machine.patch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 10**8))


def no_database(machine: Machine) -> None:
    machine.settings["uri"] = f"postgresql+asyncpg://u:hunter2@127.0.0.1:{free_port()}/x"


def not_our_address(machine: Machine) -> None:
    machine.settings["address"] = "192.0.2.1:5001"


def another_environment(machine: Machine) -> None:
    machine.more["environments"] = {"dev": {"adress": "127.0.0.1:1"}}


CASES: dict[Callable[[Machine], None], tuple[Code, str, str]] = {
    closed: (Code.PERMISSION, "failed   data folder: /sys/kernel/closed: ", "give the server's user the right"),
    no_room: (Code.DISK, "(0.1 GiB free)", "make room: nothing can be written down"),
    no_database: (Code.UNREACHABLE, "failed   database: it cannot be reached: ", "check 'uri', and that the database"),
    not_our_address: (Code.CHECK, "failed   address: 192.0.2.1:5001: ", "or change 'address'"),
    another_environment: (Code.CONFIG, "failed   environment dev: ", "correct the lines that are named"),
}  # fmt: skip


@pytest.mark.row("M24")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_each_fault_has_its_line_its_fix_and_its_code(machine: Machine, case: Callable[[Machine], None]) -> None:
    code, words, fix = CASES[case]
    case(machine)
    said = machine.run("check")
    assert words in said.output, said.output
    assert fix in said.output.split(words)[1], said.output
    assert said.exit_code == code
    assert "hunter2" not in said.output


@pytest.mark.row("M24")
def test_a_port_that_is_taken_is_said_by_check_and_start(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        machine.settings["address"] = f"127.0.0.1:{other.getsockname()[1]}"
        said = machine.run("check")
        assert said.exit_code == Code.PORT
        assert "fix: end the program that has the port, or change 'address'" in said.output


@pytest.mark.row("M24")
def test_a_start_without_its_database_is_words_and_a_code(machine: Machine) -> None:
    no_database(machine)
    said = machine.run("start", "--foreground")
    assert said.exit_code == Code.UNREACHABLE, said.output
    assert "the server stopped: the database cannot be reached: " in said.output
    assert "hunter2" not in said.output


def test_the_mail_server_s_password_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "from the environment")
    given = {"host": "mail.example", "sender": "a@b.example", "user": "u"}
    assert MailConfig.model_validate(given).secret() == "from the environment"
    assert MailConfig.model_validate({**given, "password": "own"}).secret() == "own"
    (tmp_path / "password").write_text("from the file\n")
    assert MailConfig.model_validate({**given, "password_file": tmp_path / "password"}).secret() == "from the file"
