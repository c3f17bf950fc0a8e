"""Many rows at once, without an object of the mapper for each: for what a task with a thousand results does.

Here and in its neighbours, a statement that every task needs is made once, with its values as parameters: SQLAlchemy
takes longer to put a statement together, and to find it among those it has compiled, than SQLite takes to run it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Table, bindparam, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from vantage6.server.store.locks import is_shared
from vantage6.server.store.tables import Content, Event, Result, Task, table_of


@dataclass(slots=True)
class Moving:
    """A result that is about to change: the columns of its row, written back by `save`."""

    id: int
    task_id: int
    organization_id: int
    state: int
    reason: str = ""
    message: str = ""
    epoch: int = 0
    losses: int = 0
    assigned_at: dt.datetime | None = None
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None


RESULTS, CONTENTS, EVENTS, TASKS = table_of(Result), table_of(Content), table_of(Event), table_of(Task)
_FIELDS = tuple(field.name for field in fields(Moving))
COLUMNS = [RESULTS.c[name] for name in _FIELDS]
_CHANGING = [name for name in _FIELDS if name not in ("id", "task_id", "organization_id")]
_SAVE = (
    update(RESULTS)
    .where(RESULTS.c.id == bindparam("of_id"))
    .values({name: bindparam(f"new_{name}") for name in _CHANGING})
)


_LOAD = select(*COLUMNS).where(RESULTS.c.id.in_(bindparam("ids", expanding=True))).order_by(RESULTS.c.id)
_INSERT = {table: insert(table) for table in (RESULTS, CONTENTS, EVENTS)}
_NEXT_IDS = text(
    "SELECT nextval(CAST(pg_get_serial_sequence(:name, 'id') AS regclass)) FROM generate_series(1, :count)"
)
_LAST_ID = text("SELECT seq FROM sqlite_sequence WHERE name = :name")


async def load(session: AsyncSession, ids: Collection[int]) -> dict[int, Moving]:
    """Results as the database has them now, in the order of the ids."""
    rows = await session.execute(_LOAD, {"ids": list(ids)})
    return {row.id: Moving(*row) for row in rows}


async def save(session: AsyncSession, results: Collection[Moving]) -> None:
    """Writes what may have changed."""
    if results:
        values = [
            {"of_id": result.id, **{f"new_{name}": getattr(result, name) for name in _CHANGING}} for result in results
        ]
        await session.execute(_SAVE, values)


async def add(session: AsyncSession, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts rows; asks for nothing back, so that the driver takes them all in one go."""
    if rows:
        await session.execute(_INSERT[table], rows)


async def add_results(session: AsyncSession, results: Collection[Moving]) -> None:
    await add(session, RESULTS, [{name: getattr(result, name) for name in _FIELDS} for result in results])


async def next_ids(session: AsyncSession, table: Table, count: int) -> list[int]:
    """Ids for rows that this transaction inserts, ascending; none of them was ever given out before.

    SQLite has one writer, which is who asks; the counter of its AUTOINCREMENT follows the ids that are inserted.
    """
    if is_shared(session):
        return sorted(await session.scalars(_NEXT_IDS, {"name": table.name, "count": count}))
    last = await session.scalar(_LAST_ID, {"name": table.name}) or 0
    return list(range(last + 1, last + 1 + count))
