"""The pages of commands and keys are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from pydantic import BaseModel

from tools import reference
from tools.reference_files import INSTEAD, uncommented
from vantage6.cli.main import main as v6
from vantage6.common.commands import MEANINGS, Code
from vantage6.common.settings import load_yaml
from vantage6.gateway.config import GatewayConfig
from vantage6.gateway.config import load as load_gateway
from vantage6.node.cli import main as vnode
from vantage6.node.config import NodeConfig
from vantage6.node.config import load_config as load_node
from vantage6.node.options import DockerOptions
from vantage6.server.cli import main as vserver
from vantage6.server.config import ServerConfig
from vantage6.server.config import load_config as load_server

ROOT = Path(__file__).resolve().parent.parent


def test_the_pages_say_what_the_code_says() -> None:
    command = [sys.executable, "-m", "tools.reference", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("title", "model", "prefix"), reference.TABLES, ids=str)
def test_every_key_has_its_meaning_in_one_row(title: str, model: type[BaseModel], prefix: str) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    table = page.split(f"## {title}\n")[1].split("\n## ")[0].strip().splitlines()[2:]
    found = list(reference.keys(model, prefix))
    assert len(found) == len(table)
    for (key, _, meaning), row in zip(found, table, strict=True):
        assert len(meaning) > 8, f"{title} {key}: say below the field what it means"
        cells = re.split(r"(?<!\\)\|", row.strip("|"))
        assert (len(cells), cells[0].strip()) == (3, f"`{key}`"), row
        assert cells[2].strip(), row


@pytest.mark.parametrize("page", ["commands.md", "configuration.md"])
def test_every_row_of_a_table_is_one_line(page: str) -> None:
    inside = False
    for number, line in enumerate((ROOT / "docs" / page).read_text().splitlines(), 1):
        if inside and line:
            assert line.startswith("| "), f"{page}:{number}: {line}"
            assert line.endswith(" |"), f"{page}:{number}: {line}"
        inside = bool(line) and (inside or line.startswith("|---"))


def test_hidden_options_are_on_no_page() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    hidden = {
        name for program in PROGRAMS for _, command in commands(program, PROGRAMS[program])
        for option in command.params if isinstance(option, click.Option) and option.hidden for name in option.opts
    }  # fmt: skip
    assert "--dockerized" in hidden
    assert not {name for name in hidden if name in page}


KINDS: dict[str, tuple[type[BaseModel], Callable[[Path], BaseModel]]] = {
    "node": (NodeConfig, load_node), "server": (ServerConfig, load_server), "gateway": (GatewayConfig, load_gateway),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_file_loads_with_and_without_what_is_optional(kind: str, tmp_path: Path) -> None:
    model, load = KINDS[kind]
    text = (ROOT / "docs" / f"reference-{kind}.yaml").read_text()
    path = tmp_path / f"{kind}.yaml"
    path.write_text(text)
    plain = load(path)
    for name, field in model.model_fields.items():
        if name not in {*plain.model_fields_set, "name"} and not field.is_required():
            assert getattr(plain, name) == field.get_default(call_default_factory=True), name
    whole = uncommented(text)
    path.write_text(whole)
    load(path)
    lines = load_yaml(path).lines
    keys = [key for key, *_ in reference.keys(model)]
    keys += [key for key, *_ in reference.keys(DockerOptions, "runtime_options.")] if kind == "node" else []
    for key in keys:
        label = {"databases": "default"}.get(key.split(".")[0], "registry.example:443")
        place = ("application", *(label if part == "LABEL" else part for part in key.split(".")))
        assert place in lines or (key in INSTEAD and f"# {key.split('.')[-1]}: " in text), key


def test_the_wizard_s_names_are_in_the_reference_file() -> None:
    """An administrator who made a file with the wizard finds each of its lines there."""
    text = (ROOT / "docs" / "reference-node.yaml").read_text()
    for name in ("name", "server_url", "api_key_file", "ca_file", "private_key", "databases", "policy", "runtime"):
        assert re.search(rf"^  #?{name}:", text, re.MULTILINE), name


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
