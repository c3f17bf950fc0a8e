"""What the command lines show: tables, marks and colours, and names from elsewhere made harmless."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import IO, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

WRITTEN = "vantage6.json_written"
_HARMFUL = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def harmless(text: object, longest: int = 2000) -> str:
    """One line without control characters, terminal escapes or marks that turn the direction of writing (X15)."""
    shown = "".join("?" if unicodedata.category(char) in _HARMFUL else char for char in str(text)[: longest + 1])
    return shown if len(shown) <= longest else f"{shown[:longest]}…"


def coloured(stream: IO[str]) -> bool:
    """Whether a person reads it, and wants colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def console(*, errors: bool = False) -> Console:
    """A console for standard output, or for standard error."""
    stream = sys.stderr if errors else sys.stdout
    width = None if stream.isatty() else 200
    return Console(
        file=stream, no_color=not coloured(stream), highlight=False, soft_wrap=not stream.isatty(), width=width
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints rows below their headings. Cells are text, whatever they look like."""
    made = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        made.add_row(*(Text(harmless("" if cell is None else cell), style=_style(cell)) for cell in row))
    console().print(made)


_STYLES = {
    "online": "green", "ok": "green", "offline": "dim", "failed": "red", "warning": "yellow", "connecting": "yellow",
}  # fmt: skip


def _style(cell: object) -> str:
    return _STYLES.get(str(cell), "")


def write_json(value: Any, default: Callable[[Any], object] = str) -> None:
    """For programs: one document, always the whole of it."""
    if (ctx := click.get_current_context(silent=True)) is not None:
        ctx.meta[WRITTEN] = True
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=default))


def say(text: str) -> None:
    """News for the person at the terminal; on standard error, so that standard output stays data."""
    _mark("info", "blue", text)


def warn(text: str) -> None:
    """Something that should be looked at."""
    _mark("warn", "yellow", text)


def complain(text: str) -> None:
    """Why it did not work."""
    _mark("error", "red", text)


def _mark(word: str, colour: str, text: str) -> None:
    label = click.style(f"[{word}]", fg=colour) if coloured(sys.stderr) else f"[{word}]"
    lines = [harmless(line) for line in text.splitlines()] or [""]
    click.echo(f"{label}{' ' * (7 - len(word) - 1)}- " + "\n          ".join(lines), err=True)


def line(outcome: str, text: str) -> None:
    """One line of a check: how it is, and what."""
    shown = f"{outcome:8}"
    if coloured(sys.stdout) and outcome in _STYLES:
        shown = click.style(shown, fg=_STYLES[outcome])
    click.echo(f"{shown} {harmless(text)}")
