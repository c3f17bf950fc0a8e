"""One upload used twice, and two streams of one upload."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from vantage6.api.v1 import payload_pb2, task_pb2
from vantage6.common.errors import DataLoss, FailedPrecondition, NotFound
from vantage6.server.domain.caller import Operation, Resource, Scope, UserCaller
from vantage6.server.domain.payloads import PayloadDesk
from vantage6.server.store.blobs import PART, Blobs

from .conftest import Hospitals
from .test_accounts import refused
from .test_tasks import create, sealed, upload


async def test_a_task_goes_without_the_input_that_another_one_uses(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    payload = await upload(hospitals, who, sealed(bytes(100_000)))
    target = task_pb2.TaskOrganization(id=hospitals.b, input_payload_id=payload.id)
    first = await create(hospitals, who, key="1", organizations=[target])
    second = await create(hospitals, who, key="2", organizations=[target])
    tasks, payloads = hospitals.live.stubs.tasks, hospitals.live.stubs.payloads
    await tasks.DeleteTask(task_pb2.DeleteTaskRequest(id=first.id), metadata=who)
    assert (await payloads.GetPayload(payload_pb2.GetPayloadRequest(id=payload.id), metadata=who)).complete
    await tasks.DeleteTask(task_pb2.DeleteTaskRequest(id=second.id), metadata=who)
    error = await refused(payloads.GetPayload(payload_pb2.GetPayloadRequest(id=payload.id), metadata=who))
    assert error.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.attack
async def test_a_second_stream_cannot_overwrite_what_was_checked(hospitals: Hospitals, tmp_path: Path) -> None:
    """The first stream holds back plain bytes until the second one, of sealed bytes, was found good."""
    desk = PayloadDesk(hospitals.live.database, Blobs(str(tmp_path / "here")))
    user_id, shared = hospitals.users["researcher_a"], hospitals.shared
    rules = {(Resource.TASK, Operation.CREATE): Scope.COLLABORATION}
    caller = UserCaller(user_id, "researcher_a", hospitals.a, frozenset({shared}), 1, rules)
    good = sealed(bytes(PART + 1000))
    payload = await desk.announce(caller, hospitals.shared, len(good), hashlib.sha256(good).digest(), 0, "")
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def plain() -> AsyncIterator[bytes]:
        begun.set()
        await go_on.wait()
        yield bytes(PART)

    async def right() -> AsyncIterator[bytes]:
        yield good

    first = asyncio.create_task(desk.append(caller, payload.id, 0, plain()))
    await begun.wait()
    assert (await desk.append(caller, payload.id, 0, right())).complete
    go_on.set()
    with pytest.raises(FailedPrecondition):
        await first
    assert b"".join([piece async for piece in desk.read(caller, payload.id, 0)]) == good


@dataclass
class Two:
    """Two server processes on one database and one blob store, and who may upload through them."""

    one: PayloadDesk
    other: PayloadDesk
    caller: UserCaller
    collaboration_id: int

    async def announce(self, data: bytes) -> str:
        return (await self.one.announce(self.caller, self.collaboration_id, len(data), b"", 0, "")).id

    async def append(self, desk: PayloadDesk, id_: str, offset: int, stream: AsyncIterator[bytes], good: bytes) -> bool:
        payload = await desk.append(self.caller, id_, offset, stream, lambda: hashlib.sha256(good).digest())
        return payload.complete

    async def stored(self, id_: str) -> bytes:
        return b"".join([piece async for piece in self.other.read(self.caller, id_, 0)])


@pytest.fixture
def two(hospitals: Hospitals, tmp_path: Path) -> Two:
    rules = {(Resource.TASK, Operation.CREATE): Scope.COLLABORATION}
    caller = UserCaller(
        hospitals.users["researcher_a"], "researcher_a", hospitals.a, frozenset({hospitals.shared}), 1, rules
    )
    one, other = (PayloadDesk(hospitals.live.database, Blobs(str(tmp_path / "blobs"))) for _ in range(2))
    return Two(one, other, caller, hospitals.shared)


async def stream(*pieces: bytes | asyncio.Event) -> AsyncIterator[bytes]:
    """Pieces, and moments to wait for."""
    for piece in pieces:
        if isinstance(piece, asyncio.Event):
            await piece.wait()
        else:
            yield piece


@pytest.mark.attack
@pytest.mark.row("M40")
async def test_two_streams_over_two_replicas_cannot_overwrite_what_was_checked(two: Two) -> None:
    good, go_on = sealed(os.urandom(2 * PART)), asyncio.Event()
    id_ = await two.announce(good)
    # The first stream is let in at the beginning, and brings its bytes when the second one was found good.
    stale = asyncio.create_task(two.append(two.one, id_, 0, stream(b"", go_on, bytes(len(good))), bytes(len(good))))
    await asyncio.sleep(0)
    assert await two.append(two.other, id_, 0, stream(good), good)
    go_on.set()
    with pytest.raises((DataLoss, FailedPrecondition)):
        await stale
    assert await two.stored(id_) == good


async def test_an_upload_goes_on_through_another_replica(two: Two) -> None:
    """Also when the first one stored more than it has said: the same bytes once more are no conflict."""
    good, never = sealed(os.urandom(3 * PART)), asyncio.Event()
    id_ = await two.announce(good)
    hanging = asyncio.create_task(two.append(two.one, id_, 0, stream(good[: 2 * PART], never), good))
    async with asyncio.timeout(20):
        while await two.one._blobs.ids() != [id_]:  # noqa: ASYNC110 - the store says nothing by itself
            await asyncio.sleep(0.01)
    assert await two.append(two.other, id_, 0, stream(good), good)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert await two.stored(id_) == good


async def test_the_digest_may_come_at_the_end(two: Two) -> None:
    good = sealed(os.urandom(PART + 5))
    id_ = await two.announce(good)
    payload = await two.one.append(two.caller, id_, 0, stream(good))
    assert (payload.received, payload.complete) == (len(good), False)  # All is there, and nobody knows whether it is.
    assert await two.append(two.other, id_, len(good), stream(b""), good)
    wrong = await two.announce(good)
    with pytest.raises(DataLoss):
        await two.append(two.one, wrong, 0, stream(good), b"other")
    with pytest.raises(NotFound):
        await two.one.get(two.caller, wrong)
