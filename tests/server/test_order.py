"""Events become visible in the order of their ids, also while two transactions write them at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from vantage6.server.domain.events import now
from vantage6.server.store.events import NewEvent

from .world import add_rows, replica

if TYPE_CHECKING:
    from tests.postgres import Postgres

WAITING = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")


@pytest.mark.row("M27")
@pytest.mark.postgres
async def test_an_event_is_not_visible_before_those_with_lower_ids(postgres: Postgres, empty_template: str) -> None:
    """Else who reads on from the higher id would never see the lower one."""
    url = postgres.create(empty_template)
    async with replica(url, await add_rows(url)) as world:
        task = await world.create_task()

        def event() -> NewEvent:
            return NewEvent(now(), world.collaboration_id, task.id, None, b"")

        async def write_another() -> None:
            async with world.database.write() as store:
                store.events.add(event())

        async with world.database.read() as store:
            seen = await store.events.last_id()
        async with world.database.write() as slow:
            slow.events.add(event())
            await slow.events.write()
            slow.events._new.clear()
            # It has its id, and its commit is still to come.
            other = asyncio.create_task(write_another())
            async with asyncio.timeout(20), world.database.read() as store:
                while not other.done() and not await store.session.scalar(WAITING):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert await store.events.last_id() == seen
        await other
        async with world.database.read() as store:
            assert await store.events.last_id() == seen + 2
    postgres.drop(url)
