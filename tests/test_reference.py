"""The pages of commands and keys are those of the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from vantage6.node.cli import main as vnode
from vantage6.server.cli import main as vserver

ROOT = Path(__file__).resolve().parent.parent


def test_the_pages_say_what_the_code_says() -> None:
    command = [sys.executable, str(ROOT / "tools" / "reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("program", "group"), [("vserver", vserver), ("vnode", vnode)])
def test_every_command_has_help_and_an_example(program: str, group: click.Group) -> None:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            continue  # Its own commands say it.
        assert f"{program} {name}" in (command.help or ""), f"{program} {name}: add 'Example: {program} {name} …'"
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help or option.name in {"runtime", "log_format"}
