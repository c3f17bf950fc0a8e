"""Writes docs/commands.md and docs/configuration.md from the commands and the settings themselves; `--check` compares.

A setting's meaning is the text below its field. docs/reference-*.yaml come from `reference_files`.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from tools.reference_files import reference_files
from vantage6.cli.main import main as v6
from vantage6.common.commands import MEANINGS
from vantage6.common.settings import section_of
from vantage6.gateway.config import GatewayConfig
from vantage6.node.cli import main as vnode
from vantage6.node.config import API_KEY_VARIABLE, NodeConfig
from vantage6.node.options import PASSWORD_VARIABLE, DockerOptions, SandboxOptions
from vantage6.server.cli import main as vserver
from vantage6.server.config import URI_VARIABLE, ServerConfig
from vantage6.server.mail import PASSWORD_VARIABLE as MAIL_VARIABLE

DOCS = Path(__file__).resolve().parent.parent / "docs"
MADE = "<!-- made by tools/reference.py (make docs); do not edit -->\n"


def commands() -> str:
    """Every command and option of `vserver`, `vnode` and `v6`, and the exit codes."""
    parts = [MADE, "# Commands\n", "Server first, then node, then researcher. All of them say `--help`.\n", _codes(),
             _completion()]  # fmt: skip
    for name, group in (("vserver", vserver), ("vnode", vnode)):
        parts.append(f"## {name}\n\n{_paragraph(group)}\n")
        parts += _below(name, group, set())
    shared: set[str | None] = {option.name for option in v6.commands["logout"].params}
    parts += [f"## v6\n\n{_paragraph(v6)}\n\n{_connection()}", *_below("v6", v6, shared)]
    return "\n".join(parts)


def _completion() -> str:
    """How a shell learns the commands, their options and the names of configurations."""
    lines = "\n".join(
        f'    eval "$(_{name.upper()}_COMPLETE=bash_source {name})"' for name in ("vserver", "vnode", "v6")
    )
    return (
        "## Completion\n\nIn `~/.bashrc`; `zsh_source` for zsh, and `fish_source` for fish. The names of "
        f"configurations are completed as well.\n\n{lines}\n"
    )


def _below(program: str, group: click.Group, shared: set[str | None]) -> Iterator[str]:
    """The commands of a group, those of its own groups with them; less the options that all of them have."""
    for name in sorted(group.commands):
        command = group.commands[name]
        if isinstance(command, click.Group):
            yield from _below(f"{program} {name}", command, shared)
            continue
        kept = [each for each in command.params if each.name not in shared]
        yield _command(program, click.Command(name, params=kept, help=command.help))


def _connection() -> str:
    """The options that nearly all commands of `v6` have."""
    rows = "\n".join(_option(each) for each in v6.commands["logout"].params if isinstance(each, click.Option))
    return (
        "All commands that go to a server have these; `v6 login` remembers them. Each may be in the environment too, "
        f"as `VANTAGE6_SERVER` and so on.\n\n| option | meaning |\n|---|---|\n{rows}\n"
    )


def _codes() -> str:
    rows = "\n".join(f"| {int(code)} | {text} |" for code, text in MEANINGS.items())
    return f"## Exit codes\n\n| code | meaning |\n|---|---|\n{rows}\n"


def _paragraph(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").split("\n\n", 1)[0].split("\nExample")[0].replace("\n", " ").strip()


def _command(program: str, command: click.Command) -> str:
    help_text = inspect.cleandoc(command.help or "")
    examples = re.findall(rf"^(?:Example: |\s+)((?:pass show .*)?{program} .*)$", help_text, re.MULTILINE)
    arguments = "".join(f" {each.make_metavar(_context(command))}" for each in command.params if _is_argument(each))
    rows = "\n".join(_option(each) for each in command.params if isinstance(each, click.Option) and not each.hidden)
    blocks = "\n".join(f"    {example}" for example in examples)
    table = f"| option | meaning |\n|---|---|\n{rows}\n" if rows else ""
    return f"### {program} {command.name}{arguments}\n\n{_paragraph(command)}\n\n{blocks}\n\n{table}"


def _is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def _context(command: click.Command) -> click.Context:
    return click.Context(command)


def _option(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    kind = "" if option.is_flag else f" {_escaped(option.make_metavar(_context(click.Command('x'))))}"
    default = option.default if option.show_default else None
    text = (option.help or "").rstrip(".")
    return f"| {names}{kind} | {_escaped(text)}{f' (default {default})' if default is not None else ''} |"


def _escaped(text: str) -> str:
    """For one cell of a table, which is one line."""
    return " ".join(text.split()).replace("|", "\\|")


def configuration() -> str:
    """Every key of the three configuration files."""
    intro = (
        "Node and server: everything stands below `application:`, or below `environments:` and `prod:`, `acc:`, "
        "`test:` or `dev:`; each of them is a whole configuration. `vnode files` and `vserver files` say "
        "where they are. "
        "Relative paths are relative to the folder of the file. An unknown key, a wrong type or a key that is there "
        "twice is an error that names file, line, key and the nearest valid one.\n\n"
        "All of them with examples, to copy from: [node](reference-node.yaml), [server](reference-server.yaml), "
        "[gateway](reference-gateway.yaml).\n\n"
        "Secrets need not stand in the file. They may be in a file of their own (`api_key_file`, `password_file`, "
        "`jwt_secret_file`, `root_password_file`), or in the environment:\n\n"
        "| variable | of | in place of |\n|---|---|---|\n"
        f"| `{API_KEY_VARIABLE}` | node | `api_key` |\n"
        f"| `{PASSWORD_VARIABLE}HOST` | node | `runtime_options.registries.HOST.password`; in HOST all but letters and "
        "digits is `_`, and letters are capitals |\n"
        "| `https_proxy`, `no_proxy` (or in capitals) | node | `proxy` |\n"
        f"| `{URI_VARIABLE}` | server | `uri` |\n"
        f"| `{MAIL_VARIABLE}` | server | `mail.password` |\n"
        "| `VANTAGE6_MONITORING` | all | `monitoring` |\n"
    )
    parts = [MADE, "# Configuration\n", intro]
    for title, model, prefix in TABLES:
        rows = "\n".join(f"| `{key}` | {default} | {_escaped(text)} |" for key, default, text in keys(model, prefix))
        parts.append(f"## {title}\n\n| key | default | meaning |\n|---|---|---|\n{rows}\n")
    return "\n".join(parts)


TABLES: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("Node", NodeConfig, ""),
    ("Node with the runtime docker", DockerOptions, "runtime_options."),
    ("Node with the runtime sandbox", SandboxOptions, "runtime_options."),
    ("Server", ServerConfig, ""),
    ("Gateway", GatewayConfig, ""),
)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, default and meaning, sections with what is in them."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner = section_of(model, (name,))
        section = inner is not model
        yield key, "" if section else _default(field.default), " ".join((field.description or "").split())
        if section:
            many = "dict[" in str(field.annotation)
            yield from keys(inner, f"{key}.LABEL." if many else f"{key}.")


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, Path) and value.is_absolute():
        return "from the package"
    if isinstance(value, Enum):
        value = value.value
    return "" if value in (None, "", [], {}, ()) else f"`{value}`"


def main() -> int:
    wrong = []
    pages = {"commands.md": commands(), "configuration.md": configuration(), **reference_files()}
    for name, text in pages.items():
        path = DOCS / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            wrong.append(name)
    if wrong:
        print(f"not as the code says: {', '.join(wrong)}; run: make docs")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
