"""Prints what the client gave, as a table for people or as JSON for programs."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def plain(row: object) -> dict[str, object]:
    """One of the client's values as JSON fields, less those that are not for showing; states by their names."""
    assert dataclasses.is_dataclass(row)  # noqa: S101 - the client gives nothing else
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row) if field.repr}
    return {name: str(value) if isinstance(value, enum.Enum) else value for name, value in values.items()}


def _other(value: object) -> object:
    """What JSON has no word for: times in RFC 3339, bytes in base64."""
    if dataclasses.is_dataclass(value):
        return plain(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


def write(value: object, file: Path | None = None) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_other)
    if file is None:
        click.echo(text)
    else:
        file.write_text(text + "\n", encoding="utf-8")


def show(rows: Sequence[object], columns: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        write([plain(row) for row in rows])
        return
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(_cell(getattr(row, column))) for column in columns))
    Console().print(table)


def _cell(value: object) -> str:
    if isinstance(value, dt.datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    return "" if value is None else str(value)
