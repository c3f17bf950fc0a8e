"""What every command of administrators does in the same way: words instead of traces, and a document for programs."""

from __future__ import annotations

import json

import pytest
import rich_click as click
from click.testing import CliRunner

from vantage6.common.background import AddressTaken
from vantage6.common.commands import Code, Commands, Stop, debug_option, facts_option, json_option, show, tell
from vantage6.common.errors import NotFound, Unavailable
from vantage6.common.terminal import write_json


@click.group(cls=Commands)
@debug_option
def main(*, debug: bool) -> None:
    """A program."""


@main.command()
@facts_option
@click.argument("how")
def work(how: str) -> None:
    failures: dict[str, Exception] = {
        "stop": Stop("it is \x1b[2Jhere", Code.EXISTS),
        "away": Unavailable("the server is away"),
        "unknown": NotFound("there is none"),
        "taken": AddressTaken("the port is taken"),
        "closed": PermissionError(13, "Permission denied", "/x"),
        "full": OSError(28, "No space left on device", "/x"),
        "file": FileNotFoundError(2, "No such file or directory", "/x"),
    }
    if how in failures:
        raise failures[how]
    if how == "leave":
        raise KeyboardInterrupt
    tell(file="/x")
    show("for people")


@main.command()
@json_option
def look(*, as_json: bool) -> None:
    if as_json:
        write_json({"good": False})
    raise Stop("it is bad", Code.CHECK)


CASES = {
    "stop": (Code.EXISTS, "[error] - it is ?[2Jhere"),
    "away": (Code.UNREACHABLE, "the server is away"),
    "unknown": (Code.FAILED, "there is none"),
    "taken": (Code.PORT, "the port is taken"),
    "closed": (Code.PERMISSION, "no permission for /x: run it as its owner, or with --user"),
    "file": (Code.FAILED, "/x: No such file or directory"),
    "full": (Code.DISK, "the disk is full (/x): make room, and do the same again"),
    "leave": (Code.INTERRUPTED, "interrupted"),
}


@pytest.mark.row("M24")
@pytest.mark.parametrize("how", CASES)
def test_a_failure_is_words_and_a_code(how: str) -> None:
    code, words = CASES[how]
    said = CliRunner().invoke(main, ["work", how])
    assert said.exit_code == code
    assert words in said.stderr
    assert "Traceback" not in said.output
    assert said.stdout == ""


def test_a_trace_is_shown_when_asked_for() -> None:
    said = CliRunner().invoke(main, ["--debug", "work", "away"])
    assert isinstance(said.exception, Unavailable)


def test_a_program_reads_one_document() -> None:
    assert CliRunner().invoke(main, ["work", "well"]).stdout == "for people\n"
    assert json.loads(CliRunner().invoke(main, ["work", "well", "--json"]).stdout) == {"ok": True, "file": "/x"}
    failed = CliRunner().invoke(main, ["work", "away", "--json"])
    assert failed.exit_code == Code.UNREACHABLE
    assert json.loads(failed.stdout) == {"ok": False, "code": 7, "message": "the server is away"}
    looked = CliRunner().invoke(main, ["look", "--json"])
    assert looked.exit_code == Code.CHECK
    assert json.loads(looked.stdout) == {"good": False}
