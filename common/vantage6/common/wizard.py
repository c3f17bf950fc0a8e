"""Questions of `new`: an answer that was given as an option is not asked for, and without a terminal nothing is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import click

from vantage6.common import terminal
from vantage6.common.commands import Code, Stop, show, tell
from vantage6.common.settings import APPLICATION, ConfigError, read

Check = Callable[[str], str]
"""Returns the answer as it is to be used, or raises an error whose text says what is wrong."""


def _questions() -> ModuleType:
    """Imported when somebody is asked: it takes a third of a second, which every command would wait for."""
    import questionary  # noqa: PLC0415

    return questionary


def attended() -> bool:
    """Whether somebody can answer."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def answer(
    given: str | None, option: str, question: str, *, default: str | None = None, secret: bool = False,
    check: Check = lambda text: text,
) -> str:  # fmt: skip
    """The option's value, else the person's answer, else the default."""
    if given is not None:
        return _checked(given, check, option)
    if not attended():
        if default is not None:
            return _checked(default, check, option)
        raise Stop(f"{option} is missing, and nobody can be asked: this is no terminal", Code.USAGE)

    def good(text: str) -> bool | str:
        try:
            check(text)
        except (ValueError, ConfigError) as error:
            return str(error)
        return True

    if secret:
        return check(_said(_questions().password(question, validate=good).ask()))
    return check(_said(_questions().text(question, default=default or "", validate=good).ask()))


def choice(given: str | None, option: str, question: str, among: Sequence[str], default: str) -> str:
    """One of several."""
    if given is not None:
        return given
    if not attended():
        return default
    return _said(_questions().select(question, choices=list(among), default=default).ask())


def more(question: str) -> bool:
    """Whether another one follows; nobody is asked where nobody is."""
    return attended() and bool(_said(_questions().confirm(question, default=False).ask()))


def _said(reply: object) -> str:
    if reply is None:  # Ctrl-C
        raise click.Abort
    return str(reply) if not isinstance(reply, bool) else ("yes" if reply else "")


def _checked(text: str, check: Check, option: str) -> str:
    try:
        return check(text)
    except (ValueError, ConfigError) as error:
        raise Stop(f"{option}: {error}", Code.USAGE) from error


def write_configuration(path: Path, environment: str, section: str, *, yes: bool) -> None:
    """Shows what will be written, asks, and writes it; an environment that is there is never overwritten."""
    text = _with_section(path, environment, section)
    show(f"# {path}\n{section}")
    if not yes:
        if not attended():
            raise Stop("say --yes: nobody can be asked whether this may be written", Code.USAGE)
        if not _said(_questions().confirm(f"Write this to {path}?", default=True).ask()):
            raise Stop("nothing was written", Code.FAILED)
    write_new(path, text, replace=path.exists())
    tell(configuration_file=str(path), environment=environment)


def refuse_existing(path: Path, environment: str) -> None:
    """Before the first question: what is there stays."""
    if path.exists() and environment in read(path).environments():
        raise Stop(f"{path} has an environment {environment!r} already; it was left alone", Code.EXISTS)


def _with_section(path: Path, environment: str, section: str) -> str:
    below = "".join(f"  {line}\n" if line else "\n" for line in section.splitlines())
    if environment != APPLICATION:
        below = "".join(f"  {line}" if line.strip() else line for line in below.splitlines(keepends=True))
        below = f"  {environment}:\n{below}"
    if not path.exists():
        return f"{APPLICATION}:\n{below}" if environment == APPLICATION else f"environments:\n{below}"
    refuse_existing(path, environment)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if environment == APPLICATION:
        return "".join([f"{APPLICATION}:\n{below}", *lines])
    for number, line in enumerate(lines):
        if line.rstrip() == "environments:":
            return "".join([*lines[: number + 1], below, *lines[number + 1 :]])
    if "environments" in read(path).content:
        raise Stop(f"{path}: put 'environments:' on a line of its own, so that one can be added", Code.CONFIG)
    return "".join([*lines, f"environments:\n{below}"])


def write_new(path: Path, text: str, *, replace: bool = False) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            unfinished.replace(path)
        else:
            os.link(unfinished, path)  # Fails where something is; `replace` would not.
    except FileExistsError as error:
        raise Stop(f"{path} exists and was left alone", Code.EXISTS) from error
    finally:
        unfinished.unlink(missing_ok=True)
    terminal.say(f"written: {path}")
