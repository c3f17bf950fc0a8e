"""Queries for the event log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from vantage6.server.store import bulk
from vantage6.server.store.locks import lock_events

GONE = "collaborations deleted in this transaction"
"""Key in a session's `info`: what happened in these, in the same transaction, is not kept."""


@dataclass
class NewEvent:
    """A row of the log to be; it has its id once it is written."""

    time: dt.datetime
    collaboration_id: int
    task_id: int
    parent_id: int | None
    body: bytes
    id: int = 0


class Logged(NamedTuple):
    """A row of the log."""

    id: int
    task_id: int
    parent_id: int | None
    body: bytes


_events = bulk.EVENTS.c
_COLUMNS = (_events.id, _events.task_id, _events.parent_id, _events.body)
_OF_TASK = (
    select(*_COLUMNS)
    .where(
        or_(_events.task_id == bindparam("task"), _events.parent_id == bindparam("task")),
        _events.id > bindparam("after"),
    )
    .order_by(_events.id)
    .limit(bindparam("limit"))
)
_LAST_ID = select(func.max(_events.id))


class Events:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._new: list[NewEvent] = []

    def add(self, event: NewEvent) -> None:
        """Keeps it until the end of the transaction, see locks.lock_events; it has no id before."""
        self._new.append(event)

    async def write(self) -> None:
        """Inserts the new events, as the last thing before the commit."""
        gone = self._session.info.get(GONE, ())
        events = [event for event in self._new if event.collaboration_id not in gone]
        if not events:
            return
        await self._session.flush()
        await lock_events(self._session)
        ids = await bulk.next_ids(self._session, bulk.EVENTS, len(events))
        for event, id_ in zip(events, ids, strict=True):
            event.id = id_
        await bulk.add(self._session, bulk.EVENTS, [vars(event) for event in events])

    async def last_id(self) -> int:
        return await self._session.scalar(_LAST_ID) or 0

    async def of_task(self, task_id: int, after_id: int, limit: int) -> Sequence[Logged]:
        """Events of a task and of its children, ascending."""
        which = {"task": task_id, "after": after_id, "limit": limit}
        return [Logged(*row) for row in await self._session.execute(_OF_TASK, which)]

    async def of_collaborations(self, ids: Collection[int] | None, after_id: int, limit: int) -> Sequence[Logged]:
        """Events of some collaborations (None: of all), ascending."""
        query = select(*_COLUMNS).where(_events.id > after_id)
        if ids is not None:
            query = query.where(_events.collaboration_id.in_(ids))
        return [Logged(*row) for row in await self._session.execute(query.order_by(_events.id).limit(limit))]
