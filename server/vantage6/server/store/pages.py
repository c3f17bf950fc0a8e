"""Which part of a table a list query returns: the page that was asked for, and the rows that the caller may see."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import Select, func, select

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import InstrumentedAttribute

T = TypeVar("T")

NOBODY: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Page:
    """`number` and `size` are both given or both None, which means the whole list."""

    number: int | None = None
    size: int | None = None
    descending: bool = False
    # One of the names that the list can be sorted by.
    sort: str = "id"


@dataclass(frozen=True)
class Slice(Generic[T]):
    """`total` counts the whole list and is None where no page was asked for, because nobody needs it then."""

    items: list[T] = field(default_factory=list)
    total: int | None = None


@dataclass(frozen=True)
class Span:
    """From `after` on, and before `before`; None is no limit."""

    after: dt.datetime | None = None
    before: dt.datetime | None = None

    def clauses(self, column: InstrumentedAttribute[Any]) -> list[ColumnElement[bool]]:
        after = [] if self.after is None else [column >= self.after]
        return after if self.before is None else [*after, column < self.before]


ANY_TIME = Span()


def clauses_of(wanted: Any, model: type[Any]) -> list[ColumnElement[bool]]:
    """The fields of a filter that are named like columns of the model: equal to what is given, or within a span."""
    found: list[ColumnElement[bool]] = []
    for one in fields(wanted):
        given, column = getattr(wanted, one.name), getattr(model, one.name, None)
        if column is None or given is None:
            continue
        found += given.clauses(column) if isinstance(given, Span) else [column == given]
    return found


@dataclass(frozen=True)
class Visibility:
    """A row may be seen if any of the four says so, and if it lies `within` the collaboration, where one is set.

    `own_id` is the user's id for users, the node's id for nodes and the task's id for containers.
    """

    everything: bool = False
    own_id: int | None = None
    organization_ids: frozenset[int] = NOBODY
    collaboration_ids: frozenset[int] = NOBODY
    within: int | None = None


async def fetch(
    session: AsyncSession, query: Select[T], key: InstrumentedAttribute[int] | ColumnElement[Any], page: Page,
    **sorts: InstrumentedAttribute[Any],
) -> Slice[T]:  # fmt: skip
    """Runs `query` for one page or for everything, ordered by `key` or by what the page names of `sorts`."""
    ordered = query
    if page.sort != "id":
        chosen = sorts[page.sort]
        ordered = query.order_by((chosen.desc() if page.descending else chosen.asc()).nulls_last())
    # The id decides between equals, so that no row is on two pages.
    ordered = ordered.order_by(key.desc() if page.descending else key)
    if page.number is None or page.size is None:
        return Slice(list(await session.scalars(ordered)))
    total = await session.scalar(select(func.count()).select_from(query.order_by(None).subquery()))
    part = ordered.offset((page.number - 1) * page.size).limit(page.size)
    return Slice(list(await session.scalars(part)), total or 0)
