"""The wizards on a real terminal: what is asked, what is shown, and what is written; and the pages that show it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vantage6.common.commands import Code

from .captures import CAPTURES, captured, page_with
from .terminal import DOWN, ENTER, INTERRUPT, Terminal


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


@pytest.mark.row("M19")
@pytest.mark.parametrize("name", CAPTURES)
def test_the_page_shows_what_is_on_the_terminal(name: str) -> None:
    page = CAPTURES[name].page
    assert page.read_text() == page_with(name, captured(name)), "run: python -m tests.flows.captures"
