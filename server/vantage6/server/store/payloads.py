"""Queries for payloads; their bytes are in blobs.py."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from vantage6.server.store.tables import Content, Payload, Result, Task


class Payloads:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, payload_id: str) -> Payload | None:
        return await self._session.get(Payload, payload_id)

    async def by_ids(self, ids: Collection[str]) -> dict[str, Payload]:
        rows = await self._session.scalars(select(Payload).where(Payload.id.in_(ids)))
        return {payload.id: payload for payload in rows}

    async def by_key(self, creator: str, key: str) -> Payload | None:
        query = select(Payload).where(Payload.creator == creator, Payload.idempotency_key == key)
        return (await self._session.scalars(query)).one_or_none()

    async def uses(self, payload_id: str) -> list[tuple[Content, Result, Task]]:
        """Where a payload is the input, output or log."""
        query = (
            select(Content, Result, Task)
            .join(Result, Result.id == Content.result_id)
            .join(Task, Task.id == Result.task_id)
            .where(Content.payload_id == payload_id)
        )
        return [(content, result, task) for content, result, task in await self._session.execute(query)]

    async def of_tasks(self, task_ids: Collection[int]) -> list[Payload]:
        """Payloads that results of these tasks use."""
        query = (
            select(Payload)
            .join(Content, Content.payload_id == Payload.id)
            .join(Result, Result.id == Content.result_id)
            .where(Result.task_id.in_(task_ids))
        )
        return list((await self._session.scalars(query)).unique())

    async def used(self, collaboration_id: int) -> int:
        """Bytes that a collaboration has stored or announced."""
        query = select(func.coalesce(func.sum(Payload.size), 0)).where(Payload.collaboration_id == collaboration_id)
        return int((await self._session.execute(query)).scalar_one())

    async def abandoned(self, before: dt.datetime, limit: int) -> list[Payload]:
        """Announced before that moment, and not in use: half uploads, and whole ones that no task came for."""
        used = select(Content.payload_id).where(Content.payload_id == Payload.id).exists()
        query = select(Payload).where(Payload.created_at < before, ~used).order_by(Payload.id).limit(limit)
        return list(await self._session.scalars(query))

    async def expired(self, before: dt.datetime, limit: int) -> list[Content]:
        """Contents of results of tasks that ended before that moment."""
        query = (
            select(Content)
            .join(Result, Result.id == Content.result_id)
            .join(Task, Task.id == Result.task_id)
            .where(Task.finished_at.is_not(None), Task.finished_at < before)
            .limit(limit)
        )
        return list(await self._session.scalars(query))

    async def forget(self, content: Content) -> None:
        """Deletes one content; its payload is abandoned when it was the last."""
        await self._session.delete(content)

    async def advance(self, payload_id: str, received: int) -> None:
        """Says how far an upload is; never goes back."""
        behind = update(Payload).where(Payload.id == payload_id, Payload.received < received)
        await self._session.execute(behind.values(received=received))

    async def completed(self, payload_id: str, sha256: bytes) -> bool:
        """False if there is no such payload any more."""
        done = update(Payload).where(Payload.id == payload_id).values(complete=True, sha256=sha256)
        return bool((await self._session.execute(done)).rowcount)  # type: ignore[attr-defined]

    async def discard(self, payload_id: str) -> bool:
        """Deletes an upload unless it is complete; says whether it is gone."""
        unfinished = delete(Payload).where(Payload.id == payload_id, Payload.complete.is_(False))
        return bool((await self._session.execute(unfinished)).rowcount)  # type: ignore[attr-defined]

    async def disown(self, creator: str) -> None:
        """Its payloads are seen from now on by those alone who see what they belong to."""
        mine = update(Payload).where(Payload.creator == creator)
        await self._session.execute(mine.values(creator="", idempotency_key=None))

    def add(self, payload: Payload) -> None:
        self._session.add(payload)

    async def delete(self, payload: Payload) -> None:
        await self._session.delete(payload)
