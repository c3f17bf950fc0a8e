"""Native gRPC through the same port and TLS: untouched, in all four shapes of call, and never taken for REST."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody

from vantage6.api.v1 import delivery_pb2, event_pb2, organization_pb2, payload_pb2
from vantage6.api.v1.delivery_pb2_grpc import DeliveryServiceStub
from vantage6.api.v1.event_pb2_grpc import EventServiceStub
from vantage6.api.v1.organization_pb2_grpc import OrganizationServiceStub
from vantage6.api.v1.payload_pb2_grpc import PayloadServiceStub
from vantage6.api.v1.user_pb2 import GetUserRequest
from vantage6.api.v1.user_pb2_grpc import UserServiceStub
from vantage6.common.errors import NotFound, from_rpc_error

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.row("D05"),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("gateway"),
]

MIB = 1024 * 1024


async def test_unary(channel: grpc.aio.Channel) -> None:
    organization = await OrganizationServiceStub(channel).GetOrganization(organization_pb2.GetOrganizationRequest(id=5))
    assert organization.name == "North"


@pytest.mark.attack
async def test_the_door_mark_cannot_be_faked(channel: grpc.aio.Channel, stage: Any) -> None:
    request = organization_pb2.GetOrganizationRequest(id=5)
    metadata = (("x-vantage6-door", "rest"), ("x-forwarded-for", "6.6.6.6"))
    await OrganizationServiceStub(channel).GetOrganization(request, metadata=metadata)
    assert "x-vantage6-door" not in stage.seen.last
    assert stage.seen.last["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.attack
async def test_native_grpc_to_a_rest_path_reaches_no_method(channel: grpc.aio.Channel, stage: Any) -> None:
    stage.seen.calls.clear()
    call: Any = channel.unary_unary("/api/organization/5")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert not stage.seen.calls


async def test_errors_come_back_as_their_class(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await OrganizationServiceStub(channel).GetOrganization(organization_pb2.GetOrganizationRequest(id=404))
    error = from_rpc_error(caught.value)
    assert isinstance(error, NotFound)
    assert error.metadata == {"field": "id"}


async def test_a_service_that_the_server_lacks_is_unimplemented(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await UserServiceStub(channel).GetUser(GetUserRequest(id=1))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_the_gateways_own_errors_are_plain_text(channel: grpc.aio.Channel) -> None:
    call: Any = channel.unary_unary("/elsewhere.Service/Method")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert (caught.value.details() or "").startswith("unknown path")


async def test_server_stream_is_not_marked(channel: grpc.aio.Channel, stage: Any) -> None:
    events = [event.id async for event in EventServiceStub(channel).Watch(event_pb2.WatchRequest())]
    assert events == [1, 2, 3]
    assert "x-vantage6-door" not in stage.seen.last


@pytest.mark.row("D02")
async def test_bidirectional_stream(channel: grpc.aio.Channel) -> None:
    stream = DeliveryServiceStub(channel).Connect()
    for size in (1, 2, 3):  # each is answered before the next is sent
        await stream.write(delivery_pb2.NodeMessage(window=delivery_pb2.Window(size=size)))
        answer = await stream.read()
        assert isinstance(answer, delivery_pb2.ServerMessage)
        assert answer.drain.message == str(size)
    await stream.done_writing()
    assert await stream.code() == grpc.StatusCode.OK


async def test_client_stream_has_no_body_limit(channel: grpc.aio.Channel) -> None:
    async def chunks() -> AsyncIterator[payload_pb2.WritePayloadRequest]:
        for _ in range(16):
            yield payload_pb2.WritePayloadRequest(id="x", content=HttpBody(data=bytes(MIB)))

    payload = await PayloadServiceStub(channel).WritePayload(chunks())
    assert payload.size == 16 * MIB


async def test_grpc_web(rest: httpx.AsyncClient) -> None:
    message = organization_pb2.GetOrganizationRequest(id=5).SerializeToString()
    frame = b"\x00" + len(message).to_bytes(4, "big") + message
    answer = await rest.post(
        "/vantage6.api.v1.OrganizationService/GetOrganization",
        content=frame,
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
    )
    size = int.from_bytes(answer.content[1:5], "big")
    assert organization_pb2.Organization.FromString(answer.content[5 : 5 + size]).name == "North"
    assert b"grpc-status:0" in answer.content[5 + size :].replace(b" ", b"")


@pytest.mark.attack
async def test_a_client_that_does_not_trust_the_certificate_sends_nothing(stage: Any) -> None:
    async with grpc.aio.secure_channel(f"127.0.0.1:{stage.gateway.port}", grpc.ssl_channel_credentials()) as untrusting:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await OrganizationServiceStub(untrusting).GetOrganization(organization_pb2.GetOrganizationRequest(id=5))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
