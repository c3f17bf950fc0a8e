"""Queries for the event log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from vantage6.server.store import bulk
from vantage6.server.store.locks import lock_events
from vantage6.server.store.tables import Event

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
        return await self._session.scalar(select(func.max(Event.id))) or 0

    async def of_task(self, task_id: int, after_id: int, limit: int) -> Sequence[Event]:
        """Events of a task and of its children, ascending."""
        query = select(Event).where(or_(Event.task_id == task_id, Event.parent_id == task_id), Event.id > after_id)
        return (await self._session.scalars(query.order_by(Event.id).limit(limit))).all()

    async def of_collaborations(self, ids: Collection[int] | None, after_id: int, limit: int) -> Sequence[Event]:
        """Events of some collaborations (None: of all), ascending."""
        query = select(Event).where(Event.id > after_id)
        if ids is not None:
            query = query.where(Event.collaboration_id.in_(ids))
        return (await self._session.scalars(query.order_by(Event.id).limit(limit))).all()
