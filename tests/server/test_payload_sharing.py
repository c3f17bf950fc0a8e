"""One upload used twice, and two streams of one upload."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from vantage6.api.v1 import payload_pb2, task_pb2
from vantage6.common.errors import FailedPrecondition
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
