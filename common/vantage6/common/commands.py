"""What `vserver` and `vnode` have in common: options, exit codes, and failures as words instead of traces."""

from __future__ import annotations

import errno
import functools
import subprocess
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click
from click.exceptions import Exit as Leave

from vantage6.common import terminal
from vantage6.common.background import AddressTaken, AlreadyRunning
from vantage6.common.contexts import Context, Kind, Scope, configurations, find
from vantage6.common.errors import PermissionDenied, Unauthenticated, Unavailable, Vantage6Error
from vantage6.common.findings import Fault, Finding
from vantage6.common.settings import APPLICATION, ENVIRONMENTS, ConfigError, FileClosed, FileMissing, NotYaml

Command = TypeVar("Command", bound=Callable[..., None])
_FACTS = "vantage6.facts"


class Code(IntEnum):
    """Exit codes of `vserver` and `vnode`; docs/commands.md shows them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    RUNNING = 4
    NOT_RUNNING = 5
    ENGINE = 6
    UNREACHABLE = 7
    REFUSED = 8
    CHECK = 9
    TIMEOUT = 10
    PORT = 11
    EXISTS = 12
    SCHEMA = 13
    YAML = 14
    MISSING = 15
    PERMISSION = 16
    CLOCK = 17
    DISK = 18
    INTERRUPTED = 130


MEANINGS = {
    Code.OK: "it worked",
    Code.FAILED: "it failed; the message says why",
    Code.USAGE: "an option or argument is wrong",
    Code.CONFIG: "the configuration cannot be used: a key or a value is wrong",
    Code.RUNNING: "it runs already",
    Code.NOT_RUNNING: "it does not run",
    Code.ENGINE: "the Docker engine does not answer, or lacks the image",
    Code.UNREACHABLE: "the server cannot be reached",
    Code.REFUSED: "the server refused: a wrong API key, key pair or permission",
    Code.CHECK: "a check failed",
    Code.TIMEOUT: "it was started and is not online (or has not stopped) in time",
    Code.PORT: "the port is taken by another program",
    Code.EXISTS: "something is there already and was left alone",
    Code.SCHEMA: "the database has the schema of another version",
    Code.YAML: "the file is no YAML",
    Code.MISSING: "there is no such configuration or file",
    Code.PERMISSION: "this user may not read or write a file or folder",
    Code.CLOCK: "the clock is off",
    Code.DISK: "the disk is full",
    Code.INTERRUPTED: "Ctrl-C",
}


class Stop(Exception):
    """Ends a command with a message and an exit code."""

    def __init__(self, message: str, code: Code = Code.FAILED) -> None:
        super().__init__(message)
        self.message, self.code = message, code


def code_of(error: Vantage6Error) -> Code:
    """The exit code of a failure."""
    for kind, code in (
        (NotYaml, Code.YAML), (FileMissing, Code.MISSING), (FileClosed, Code.PERMISSION),
        (ConfigError, Code.CONFIG), (AlreadyRunning, Code.RUNNING), (AddressTaken, Code.PORT),
        (Unavailable, Code.UNREACHABLE), (Unauthenticated, Code.REFUSED), (PermissionDenied, Code.REFUSED),
    ):  # fmt: skip
        if isinstance(error, kind):
            return code
    return Code.FAILED


_BY_KIND: dict[Fault, Code] = {
    "disk": Code.DISK, "permission": Code.PERMISSION, "port": Code.PORT, "schema": Code.SCHEMA,
    "engine": Code.ENGINE, "unreachable": Code.UNREACHABLE, "refused": Code.REFUSED, "clock": Code.CLOCK,
}  # fmt: skip


def code_of_findings(bad: Sequence[Finding]) -> Code:
    """The exit code for what a check found; what is wrong on this machine first, it may be why the rest is."""
    kinds = {finding.kind for finding in bad}
    found = next((code for kind, code in _BY_KIND.items() if kind in kinds), None)
    return found or (Code.CONFIG if kinds == {"config"} else Code.CHECK)


class Commands(click.RichGroup):
    """A group whose commands fail with one clear message; `--debug` shows the trace as well."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
        except (Stop, Vantage6Error, OSError, subprocess.SubprocessError) as error:
            if ctx.params.get("debug"):
                raise
            text, code = told(error)
            terminal.complain(text)
            _write_facts(ctx, ok=False, code=int(code), message=text)
            raise Leave(code) from error
        except (KeyboardInterrupt, click.Abort) as error:
            terminal.warn("interrupted; nothing more was done")
            raise Leave(Code.INTERRUPTED) from error
        _write_facts(ctx, ok=True)
        return result


def told(error: Exception) -> tuple[str, Code]:
    """What is said of a failure, and the exit code for it."""
    if isinstance(error, Stop):
        return error.message, error.code
    if isinstance(error, Vantage6Error):
        return error.message, code_of(error)
    if isinstance(error, PermissionError):
        return f"no permission for {error.filename}: run it as its owner, or with --user", Code.PERMISSION
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        where = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{where}: make room, and do the same again", Code.DISK
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}", Code.FAILED
    return str(error), Code.FAILED


debug_option = click.option("--debug", is_flag=True, help="Show the trace of a failure, for a report of it.")


def _hear_json(ctx: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    ctx.meta[_FACTS] = ctx.meta.get(_FACTS, {}) if value else None
    return value


# For commands that write a document of their own; if they fail before, what went wrong is the document.
json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_hear_json, help="For programs instead of people."
)
# For commands whose document is what they `tell`.
facts_option = click.option(
    "--json", is_flag=True, callback=_hear_json, expose_value=False, help="For programs instead of people."
)


def tell(**facts: object) -> None:
    """What a program wants to know of a command that worked."""
    heard = _heard(click.get_current_context(silent=True))
    if heard is not None:
        heard.update(facts)


def show(text: str, *, nl: bool = True) -> None:
    """For people, on standard output; nothing where a program reads that."""
    if _heard(click.get_current_context(silent=True)) is None:
        click.echo(text, nl=nl)


def _heard(ctx: click.Context | None) -> dict[str, object] | None:
    facts: dict[str, object] | None = ctx.meta.get(_FACTS) if ctx is not None else None
    return facts


def _write_facts(ctx: click.Context, **facts: object) -> None:
    heard = _heard(ctx)
    if heard is not None and not ctx.meta.get(terminal.WRITTEN):
        terminal.write_json({**facts, **heard})


def _names(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """For the shell: the configurations there are."""
    kind = Kind.SERVER if "server" in ctx.command_path else Kind.NODE
    scopes = [Scope(chosen)] if (chosen := ctx.params.get("scope")) else list(Scope)
    found = {path.stem for scope in scopes for path in configurations(kind, scope)}
    return sorted(name for name in found if name.startswith(begun))


name_option = click.option(
    "-n", "--name", shell_complete=_names, help="Name of the configuration; may be left out when there is only one."
)
environment_option = click.option(
    "-e", "--environment", type=click.Choice([APPLICATION, *ENVIRONMENTS]), help="Which part of the configuration."
)


def scope_option(default: Scope) -> Callable[[Command], Command]:
    """--user and --system, as the parameter `scope`."""

    def add(command: Command) -> Command:
        for scope in (Scope.SYSTEM, Scope.USER):
            mark = " (default)" if scope is default else ""
            text = f"Configurations of {'this user' if scope is Scope.USER else 'the machine'}{mark}."
            command = click.option(f"--{scope}", "scope", flag_value=scope.value, default=None, help=text)(command)
        return command

    return add


def context_options(kind: Kind, default: Scope) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """--name, --config, --environment, --user and --system; the command gets them as `context`."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def found(
            *args: Any, name: str | None, config: Path | None, environment: str | None, scope: str | None, **more: Any
        ) -> None:
            place = Scope(scope) if scope else default
            command(find(kind, name=name, config=config, environment=environment, scope=place), *args, **more)

        wrapped: Callable[..., None] = scope_option(default)(found)
        wrapped = environment_option(wrapped)
        file = click.Path(dir_okay=False, path_type=Path)
        wrapped = click.option("-c", "--config", type=file, help="A configuration file; wins over --name.")(wrapped)
        return name_option(wrapped)

    return add


def same_again(context: Context) -> list[str]:
    """The options that mean this context, for a process that is started with them."""
    where = ["--config", str(context.path)] if context.by_file else ["--name", context.name]
    return [*where, "--environment", context.environment, f"--{context.scope}"]
