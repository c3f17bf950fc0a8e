"""The wizards on a real terminal: what is asked, what is shown, and what is written."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from vantage6.common.commands import Code

BIN = Path(sys.executable).parent
SECONDS = 60.0
DOWN, ENTER, INTERRUPT = "\x1b[B", "\r", "\x03"


class Terminal:
    """A program on a pseudo terminal."""

    def __init__(self, home: Path, *command: str) -> None:
        self.seen = ""
        self._from = 0
        places = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "DATA", "STATE", "CACHE")}
        environment = {**os.environ, **places, "HOME": str(home), "TERM": "xterm", "LINES": "50", "COLUMNS": "200"}
        environment.pop("VANTAGE6_NODE_API_KEY", None)
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=environment,
        )  # fmt: skip
        os.close(slave)

    def answer(self, question: str, reply: str) -> None:
        """Waits for a question that has not been answered yet."""
        end = time.monotonic() + SECONDS
        while (place := self.seen.find(question, self._from)) < 0:
            assert self._read(end), f"{question!r} was never asked:\n{self.seen[self._from :]}"
        self._from = place + len(question)
        os.write(self._master, reply.encode())

    def end(self) -> int:
        end = time.monotonic() + SECONDS
        while self._read(end):
            pass
        code = self._process.wait(SECONDS)
        os.close(self._master)
        return code

    def _read(self, end: float) -> bool:
        readable, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
        if not readable:
            self._process.kill()
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # How Linux says that the other side has closed.
            return False
        text = data.decode(errors="replace")
        self.seen += text
        if "\x1b[6n" in text:
            os.write(self._master, b"\x1b[1;1R")  # Where the cursor is: a terminal answers that.
        return bool(data)


@pytest.mark.row("M19")
def test_a_node_is_configured_by_questions(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "vnode", "new")
    terminal.answer("Name of the configuration", f"my north{ENTER}")
    terminal.answer("Address of the server", f"https://server.example{ENTER}")
    terminal.answer("API key", f"very-secret{ENTER}")
    terminal.answer("CA bundle", ENTER)
    terminal.answer("Private key", ENTER)
    terminal.answer("Database 'default'", f"/data/patients.csv{ENTER}")
    terminal.answer("Which kind?", f"{DOWN}{ENTER}")
    terminal.answer("Another database?", "n")
    terminal.answer("Images that may run", f"example/.*{ENTER}")
    terminal.answer("What runs the algorithms?", ENTER)
    terminal.answer("Write this to", "y")
    assert terminal.end() == Code.OK, terminal.seen
    path = tmp_path / "config" / "vantage6" / "node" / "my-north.yaml"
    assert yaml.safe_load(path.read_text())["application"] == {
        "name": "my-north",
        "server_url": "https://server.example",
        "api_key_file": str(path.with_name("my-north.api_key")),
        "databases": {"default": {"uri": "/data/patients.csv", "type": "parquet"}},
        "policy": {"allowed_images": ["example/.*"]},
        "runtime": "docker",
    }
    assert path.with_name("my-north.api_key").read_text() == "very-secret\n"
    assert "very-secret" not in terminal.seen
    shown, asked = terminal.seen.find("server_url: https://server.example"), terminal.seen.find("Write this to")
    assert 0 < shown < asked


@pytest.mark.row("M19")
def test_a_server_is_configured_by_questions_and_a_wrong_answer_is_said(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "vserver", "new", "--user")
    terminal.answer("Name of the configuration", f"central{ENTER}")
    terminal.answer("Where it listens", ENTER)
    terminal.answer("URL of the database", ENTER)
    terminal.answer("Email address of root", f"nobody{ENTER}")
    terminal.answer("no email address", f"@example.org{ENTER}")
    terminal.answer("Write this to", "y")
    assert terminal.end() == Code.OK, terminal.seen
    path = tmp_path / "config" / "vantage6" / "server" / "central.yaml"
    assert yaml.safe_load(path.read_text())["environments"]["prod"]["root_email"] == "nobody@example.org"


def test_saying_no_or_leaving_writes_nothing(tmp_path: Path) -> None:
    given = (
        "vserver",
        "new",
        "--user",
        "--name",
        "x",
        "--address",
        "127.0.0.1:1",
        "--uri",
        "",
        "--root-email",
        "a@b.example",
    )
    terminal = Terminal(tmp_path, *given)
    terminal.answer("Write this to", "n")
    assert terminal.end() == Code.FAILED
    terminal = Terminal(tmp_path, "vserver", "new", "--user")
    terminal.answer("Name of the configuration", INTERRUPT)
    assert terminal.end() == Code.INTERRUPTED, terminal.seen
    assert not (tmp_path / "config").exists()
