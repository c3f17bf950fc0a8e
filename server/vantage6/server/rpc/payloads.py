"""PayloadService: large contents, in chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.api import httpbody_pb2

from vantage6.api.v1 import payload_pb2, payload_pb2_grpc
from vantage6.common.chunks import CHUNK
from vantage6.common.errors import InvalidArgument
from vantage6.server import metrics
from vantage6.server.domain.caller import Resource, current_call
from vantage6.server.domain.payloads import PayloadDesk
from vantage6.server.rpc.links import API, link, value
from vantage6.server.store.tables import Payload

OCTETS = "application/octet-stream"


class PayloadServicer(payload_pb2_grpc.PayloadServiceServicer):
    def __init__(self, desk: PayloadDesk) -> None:
        self._desk = desk

    async def CreatePayload(self, request: payload_pb2.CreatePayloadRequest, context: Any) -> payload_pb2.Payload:
        payload = await self._desk.announce(
            current_call().caller,
            request.collaboration_id,
            _whole(request.size, "size"),
            request.sha256,
            request.result_id,
            request.idempotency_key,
        )
        return payload_message(payload)

    async def WritePayload(
        self, request_iterator: AsyncIterator[payload_pb2.WritePayloadRequest], context: Any
    ) -> payload_pb2.Payload:
        messages = aiter(request_iterator)
        first = await anext(messages, None)
        if first is None:
            raise InvalidArgument("id: the stream holds no message", field="id")
        offset = _whole(first.offset, "offset")
        stream = _Stream(first, messages)
        caller = current_call().caller
        return payload_message(await self._desk.append(caller, first.id, offset, stream, lambda: stream.sha256))

    async def GetPayload(self, request: payload_pb2.GetPayloadRequest, context: Any) -> payload_pb2.Payload:
        return payload_message(await self._desk.get(current_call().caller, request.id))

    async def ReadPayload(
        self, request: payload_pb2.ReadPayloadRequest, context: Any
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        offset = _whole(request.offset, "offset")
        async for piece in self._desk.read(current_call().caller, request.id, offset):
            metrics.sent(len(piece))
            for start in range(0, len(piece), CHUNK):
                yield httpbody_pb2.HttpBody(content_type=OCTETS, data=bytes(piece[start : start + CHUNK]))

    async def DeletePayload(
        self, request: payload_pb2.DeletePayloadRequest, context: Any
    ) -> payload_pb2.DeletePayloadResponse:
        await self._desk.delete(current_call().caller, request.id)
        return payload_pb2.DeletePayloadResponse(msg=f"payload {request.id} deleted")


class _Stream:
    """The contents of an upload's messages, and the digest that the last one says."""

    def __init__(
        self, first: payload_pb2.WritePayloadRequest, rest: AsyncIterator[payload_pb2.WritePayloadRequest]
    ) -> None:
        self._first: payload_pb2.WritePayloadRequest | None = first
        self._rest = rest
        self.sha256 = b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        message, self._first = self._first, None
        if message is None:
            message = await anext(self._rest)
        self.sha256 = message.sha256 or self.sha256
        data: bytes = message.content.data
        return data


def _whole(number: float, field: str) -> int:
    if not number.is_integer() or number < 0:
        raise InvalidArgument(f"{field}: a whole number of bytes", field=field)
    return int(number)


def payload_message(payload: Payload) -> payload_pb2.Payload:
    message = payload_pb2.Payload(
        id=payload.id,
        size=payload.size,
        received=payload.received,
        complete=payload.complete,
        sha256=payload.sha256,
    )
    message.create_time.FromDatetime(payload.created_at)
    call = current_call()
    if call.rest:
        methods = ["GET", *(["DELETE"] if payload.creator == call.caller.key else [])]
        message.link.CopyFrom(value({"id": payload.id, "link": f"{API}/payload/{payload.id}", "methods": methods}))
        within = payload.collaboration_id
        message.collaboration.CopyFrom(link(Resource.COLLABORATION, within, call, collaboration_ids=[within]))
    return message
