"""Queries for payloads; their bytes are in blobs.py."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select
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

    def add(self, payload: Payload) -> None:
        self._session.add(payload)

    async def delete(self, payload: Payload) -> None:
        await self._session.delete(payload)
