"""The pages of commands and keys are those of the code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from vantage6.cli.main import main as v6
from vantage6.node.cli import main as vnode
from vantage6.server.cli import main as vserver

ROOT = Path(__file__).resolve().parent.parent


def test_the_pages_say_what_the_code_says() -> None:
    command = [sys.executable, str(ROOT / "tools" / "reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_of_researchers_has_help_and_an_example() -> None:
    def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if isinstance(command, click.Group):
            for each, below in command.commands.items():
                yield from commands(f"{name} {each}", below)
        else:
            yield name, command

    for name, command in commands("v6", v6):
        assert f"Example: {name}" in (command.help or ""), f"{name}: add 'Example: {name} …'"
        assert all(option.help for option in command.params if isinstance(option, click.Option)), name


@pytest.mark.parametrize(("program", "group"), [("vserver", vserver), ("vnode", vnode)])
def test_every_command_has_help_and_an_example(program: str, group: click.Group) -> None:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            continue  # Its own commands say it.
        assert f"{program} {name}" in (command.help or ""), f"{program} {name}: add 'Example: {program} {name} …'"
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help or option.name in {"runtime", "log_format"}
