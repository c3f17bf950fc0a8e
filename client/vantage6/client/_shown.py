"""How values and lists show in a notebook: as tables, with everything that came from a server escaped."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")

AT_ONCE = 100
"""So many rows of a list a notebook shows."""


class Shown:
    """A value that a notebook shows as a table of its fields; those that `repr` leaves out are left out."""

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{_escaped(name)}</th><td>{_escaped(value)}</td></tr>" for name, value in fields(self))
        return f"<table>{rows}</table>"


class Rows(Iterator[T], Generic[T]):
    """An iterator over a server's list. A notebook shows its next rows as a table, and they stay to be iterated."""

    def __init__(self, rows: Iterable[T]) -> None:
        self._rest = iter(rows)
        self._ahead: deque[T] = deque()

    def __next__(self) -> T:
        return self._ahead.popleft() if self._ahead else next(self._rest)

    def _repr_html_(self) -> str:
        self._ahead.extend(islice(self._rest, AT_ONCE + 1 - len(self._ahead)))
        return table(list(islice(self._ahead, AT_ONCE)), more=len(self._ahead) > AT_ONCE)

    def close(self) -> None:
        """Ends the call behind it; what has arrived stays."""
        close = getattr(self._rest, "close", None)
        if close is not None:
            close()


def fields(value: object) -> list[tuple[str, object]]:
    """Names and values of a dataclass's fields, less those that are not for showing."""
    assert dataclasses.is_dataclass(value)  # noqa: S101 - the client gives nothing else
    return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr]


def table(rows: Sequence[object], *, more: bool = False) -> str:
    if not rows:
        return "<p>nothing</p>"
    head = "".join(f"<th>{_escaped(name)}</th>" for name, _ in fields(rows[0]))
    lines = ["".join(f"<td>{_escaped(value)}</td>" for _, value in fields(row)) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    rest = "<p>and more</p>" if more else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def _escaped(value: object) -> str:
    if value is None:
        text = ""
    elif isinstance(value, dt.datetime):
        text = value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    elif isinstance(value, enum.Enum):
        text = str(value)
    elif isinstance(value, tuple):
        text = ", ".join(str(each) for each in value)
    else:
        text = str(value)
    from html import escape  # noqa: PLC0415 - slow to load, and for notebooks only

    return escape(text)
