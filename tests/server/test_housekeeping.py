"""What is no longer needed goes, what is in use stays, and a quota is told clearly."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update

from vantage6.common.chunks import CHUNK, sha256
from vantage6.common.errors import NotFound, OutOfRange, ResourceExhausted, Unavailable
from vantage6.server.domain.housekeeping import Housekeeping
from vantage6.server.domain.payloads import PayloadDesk
from vantage6.server.store.blobs import PART, Blobs
from vantage6.server.store.tables import Content, Payload, Task

from .world import World, make_world

DAY = dt.timedelta(days=1)
DATA = os.urandom(PART + 100)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with make_world(f"sqlite+aiosqlite:///{tmp_path / 'server.db'}") as made:
        yield made


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(str(tmp_path / "blobs"))


@pytest.fixture
def desk(world: World, blobs: Blobs) -> PayloadDesk:
    return PayloadDesk(world.database, blobs, quota=3 * len(DATA))


async def announce(world: World, desk: PayloadDesk, key: str = "") -> str:
    return (await desk.announce(world.user, world.collaboration_id, len(DATA), sha256(DATA), 0, key)).id


async def pieces(data: bytes, breaks: bool = False) -> AsyncIterator[bytes]:
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]
    if breaks:
        raise Unavailable("the line broke")


async def uploaded(world: World, desk: PayloadDesk) -> str:
    id_ = await announce(world, desk)
    await desk.append(world.user, id_, 0, pieces(DATA))
    return id_


async def age(world: World, days: int = 2) -> None:
    """Everything has happened so many days ago."""
    async with world.database.write() as store:
        moment = dt.datetime.now(dt.UTC) - days * DAY
        await store.session.execute(update(Payload).values(created_at=moment))
        await store.session.execute(update(Task).values(finished_at=moment))


def housekeeping(world: World, blobs: Blobs, retention: dt.timedelta | None = None) -> Housekeeping:
    return Housekeeping(world.database, blobs, upload_age=DAY, retention=retention)


async def use(world: World, payload_id: str) -> None:
    task = await world.create_task(world.organizations[0])
    async with world.database.write() as store:
        (result,) = await store.results.of_tasks([task.id])
        store.session.add(Content(result_id=result.id, kind="output", payload_id=payload_id))


async def test_a_broken_upload_keeps_its_whole_parts_and_goes_on(world: World, desk: PayloadDesk) -> None:
    id_ = await announce(world, desk)
    with pytest.raises(Unavailable):
        await desk.append(world.user, id_, 0, pieces(DATA[: PART + 10], breaks=True))
    known = await desk.get(world.user, id_)
    assert (known.received, known.complete) == (PART, False)
    with pytest.raises(OutOfRange):
        await desk.append(world.user, id_, 0, pieces(DATA))
    await desk.append(world.user, id_, PART, pieces(DATA[PART:]))
    assert b"".join([piece async for piece in desk.read(world.user, id_, 0)]) == DATA
    assert b"".join([piece async for piece in desk.read(world.user, id_, PART - 5)]) == DATA[PART - 5 :]


async def test_half_uploads_and_unused_payloads_go_after_a_time(
    world: World, desk: PayloadDesk, blobs: Blobs, tmp_path: Path
) -> None:
    used, unused = await uploaded(world, desk), await uploaded(world, desk)
    half = await announce(world, desk)
    with pytest.raises(Unavailable):
        await desk.append(world.user, half, 0, pieces(DATA[:PART], breaks=True))
    await use(world, used)
    await housekeeping(world, blobs).tidy()
    assert len(await blobs.ids()) == 3
    await age(world)
    await housekeeping(world, blobs).tidy()
    assert await blobs.ids() == [used]
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [used]
    for gone in (unused, half):
        with pytest.raises(NotFound):
            await desk.get(world.user, gone)


async def test_blobs_without_a_row_go_at_once(world: World, blobs: Blobs) -> None:
    await blobs.write_part("orphan", 0, b"x")
    await blobs.write_part("orphan", 7, b"x")
    await housekeeping(world, blobs).tidy()
    assert await blobs.ids() == []


async def test_contents_go_when_their_retention_is_over_and_tasks_stay(
    world: World, desk: PayloadDesk, blobs: Blobs
) -> None:
    id_ = await uploaded(world, desk)
    await use(world, id_)
    await age(world, days=29)
    await housekeeping(world, blobs, retention=30 * DAY).tidy()
    assert await blobs.ids() == [id_]
    await age(world, days=31)
    await housekeeping(world, blobs, retention=None).tidy()
    assert await blobs.ids() == [id_]
    await housekeeping(world, blobs, retention=30 * DAY).tidy()
    assert await blobs.ids() == []
    assert (await world.task(1)).image == "image"


async def test_a_full_quota_says_what_to_do(world: World, desk: PayloadDesk) -> None:
    first = await announce(world, desk, "once")
    for _ in range(2):
        await announce(world, desk)
    with pytest.raises(ResourceExhausted, match="delete tasks that are no longer needed"):
        await announce(world, desk)
    assert await announce(world, desk, "once") == first
    await desk.delete(world.user, first)
    await announce(world, desk)
