"""The pages of commands and keys are those of the code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from vantage6.cli.main import main as v6
from vantage6.common.commands import MEANINGS, Code
from vantage6.node.cli import main as vnode
from vantage6.server.cli import main as vserver

ROOT = Path(__file__).resolve().parent.parent


def test_the_pages_say_what_the_code_says() -> None:
    command = [sys.executable, str(ROOT / "tools" / "reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


PROGRAMS: dict[str, click.Group] = {"vserver": vserver, "vnode": vnode, "v6": v6}
STREAMS = {"vserver attach", "vserver shell", "vnode attach"}
"""What ends when somebody leaves it has no result that a program could read."""


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for each, below in command.commands.items():
            yield from commands(f"{name} {each}", below)
    else:
        yield name, command


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_has_help_and_an_example(program: str) -> None:
    for name, command in commands(program, PROGRAMS[program]):
        lines = [line.strip().removeprefix("Example: ") for line in (command.help or "").splitlines()]
        assert any(name in line for line in lines), f"{name}: add 'Example: {name} …'"
        for option in command.params:
            known = option.name in {"runtime", "log_format"} and program != "v6"
            assert not isinstance(option, click.Option) or option.help or known, f"{name} {option.name}"


@pytest.mark.parametrize("program", ["vserver", "vnode"])
def test_every_command_of_administrators_speaks_to_programs_too(program: str) -> None:
    silent = {
        name for name, command in commands(program, PROGRAMS[program])
        if not any("--json" in option.opts for option in command.params)
    }  # fmt: skip
    assert silent <= STREAMS


@pytest.mark.parametrize("program", PROGRAMS)
def test_shells_complete_commands_options_and_names(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "dirs"))
    shell = ShellComplete(PROGRAMS[program], {}, program, f"_{program.upper()}_COMPLETE")

    def complete(words: list[str], begun: str) -> set[str]:
        return {found.value for found in shell.get_completions(words, begun)}

    assert complete([], "") >= set(PROGRAMS[program].commands)
    if program == "v6":
        return
    assert complete(["start"], "--env") == {"--environment"}
    assert complete(["start", "--environment"], "te") == {"test"}
    for folder, name in (("home", "mine"), ("dirs", "ours")):
        place = tmp_path / folder / "vantage6" / {"vnode": "node", "vserver": "server"}[program]
        place.mkdir(parents=True)
        (place / f"{name}.yaml").write_text("")
    assert complete(["start", "--name"], "") == {"mine", "ours"}
    assert complete(["start", "--name"], "o") == {"ours"}
    assert complete(["start", "--user", "--name"], "") == {"mine"}


def test_every_exit_code_has_its_meaning_on_the_page() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    assert set(MEANINGS) == set(Code)
    for code, meaning in MEANINGS.items():
        assert f"| {int(code)} | {meaning} |" in page
