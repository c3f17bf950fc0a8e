"""How long a list of tasks is, without counting a million rows for each page of it.

What a filter finds among older tasks does not change as long as no task is deleted: it is counted once and remembered,
and only newer ones are counted again. `changed` notes, in the transaction itself, what makes the memory worthless, so
that it holds for several server processes as well.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from functools import cache
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningInsert

from vantage6.server.store.tables import Sequence, Task

KEPT = 1_000
SETTLED = dt.timedelta(minutes=5)
"""By then each transaction has ended: no task appears any more among those with lower ids."""
_NAME = "task_changes"

Count = Callable[[int, int | None], Awaitable[int]]
"""Counts the rows with an id after the first number and, if there is a second, up to it."""


class Counts:
    """One server process's memory: by filter the number of changes at that time, the last id, and the count."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, tuple[int, int, int]] = OrderedDict()

    async def count(self, session: AsyncSession, key: Hashable, count: Count) -> int:
        """All rows of the filter that `key` stands for."""
        changes = await session.scalar(select(Sequence.value).where(Sequence.name == _NAME)) or 0
        old = select(Task.id).where(Task.created_at < dt.datetime.now(dt.UTC) - SETTLED)
        settled = await session.scalar(old.order_by(Task.id.desc()).limit(1)) or 0
        known, until, number = self._known.get(key, (changes, 0, 0))
        if known != changes or settled < until:
            until = number = 0
        if settled > until:
            number += await count(until, settled)
            self._known[key] = (changes, settled, number)
        if key in self._known:
            self._known.move_to_end(key)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return number + await count(max(until, settled), None)


async def changed(session: AsyncSession) -> None:
    """Tasks were deleted, or lost their initiator or user."""
    await next_value(session, _NAME)


async def next_value(session: AsyncSession, name: str) -> int:
    """Counts up a named number; it never goes back."""
    statement = _counting_up(session.get_bind().dialect.name)
    number: int = (await session.execute(statement, {"of_name": name})).scalar_one()
    return number


@cache
def _counting_up(dialect: str) -> ReturningInsert[Any]:
    insert = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(Sequence)
    return (
        insert.values(name=bindparam("of_name"), value=1)
        .on_conflict_do_update(index_elements=["name"], set_={"value": Sequence.value + 1})
        .returning(Sequence.value)
    )
