"""Prints what the client gave, as a table for people or as JSON for programs."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vantage6.cli import tables
from vantage6.common import terminal

if TYPE_CHECKING:
    from vantage6.client import TaskResult


def plain(row: object) -> dict[str, object]:
    """One of the client's values as JSON fields, less those that are not for showing; states by their names."""
    assert dataclasses.is_dataclass(row)  # noqa: S101 - the client gives nothing else
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row) if field.repr}
    return {name: str(value) if isinstance(value, enum.Enum) else value for name, value in values.items()}


def _other(value: object) -> object:
    """What JSON has no word for, whole: an abbreviation would pass for the result."""
    if dataclasses.is_dataclass(value):
        return plain(value)
    return str(value) if isinstance(value, Path) else tables.plain(value)


def write_results(results: Sequence[TaskResult], file: Path | None) -> None:
    """What organizations returned: as tables into a file whose name asks for them, else as JSON."""
    suffix = file.suffix.lower() if file else ""
    if file and suffix in tables.SUFFIXES:
        file.write_bytes(tables.content(results, suffix))
    else:
        write([plain(each) for each in results], file)


def write(value: object, file: Path | None = None) -> None:
    if file is None:
        terminal.write_json(value, _other)
    else:
        text = json.dumps(value, indent=2, ensure_ascii=False, default=_other)
        file.write_text(text + "\n", encoding="utf-8")


def show(rows: Iterable[object], columns: Sequence[str], *, as_json: bool) -> None:
    """Many values, of which people see some columns."""
    if as_json:
        write([plain(row) for row in rows])
        return
    headings = [column.removesuffix("_id").replace("_", " ") for column in columns]
    terminal.table(headings, [[_cell(getattr(row, column)) for column in columns] for row in rows])


def show_one(row: object, *, as_json: bool) -> None:
    """One value with all its fields."""
    if as_json:
        write(plain(row))
        return
    terminal.table(["", ""], [(name.replace("_", " "), _cell(value)) for name, value in plain(row).items()])


def _cell(value: object) -> str:
    if isinstance(value, dt.datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M")
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value)
    return "" if value is None else str(value)
