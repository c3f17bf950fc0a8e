"""PayloadService: large contents, in chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from vantage6.api.v1 import payload_pb2, payload_pb2_grpc
from vantage6.common.chunks import CHUNK, Bytes
from vantage6.common.errors import InvalidArgument
from vantage6.common.payload_wire import body_bytes, request_message
from vantage6.server import metrics
from vantage6.server.domain.caller import Resource, current_call
from vantage6.server.domain.payloads import PayloadDesk
from vantage6.server.rpc.links import API, link, value
from vantage6.server.store.tables import Payload

Request = payload_pb2.WritePayloadRequest | memoryview
"""A message of an upload; one that holds content only comes as that content."""


def serve(servicer: PayloadServicer, server: grpc.aio.Server) -> None:
    """As the generated function; the messages with content are read and written without copying it about."""
    payload_pb2_grpc.add_PayloadServiceServicer_to_server(servicer, server)
    own: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "WritePayload": grpc.stream_unary_rpc_method_handler(
            servicer.WritePayload, request_message, payload_pb2.Payload.SerializeToString
        ),
        "ReadPayload": grpc.unary_stream_rpc_method_handler(
            servicer.ReadPayload, payload_pb2.ReadPayloadRequest.FromString, body_bytes
        ),
    }
    # A handler that is registered later for the same method takes its place.
    server.add_registered_method_handlers("vantage6.api.v1.PayloadService", own)


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

    async def WritePayload(self, request_iterator: AsyncIterator[Request], context: Any) -> payload_pb2.Payload:
        messages = aiter(request_iterator)
        first = await anext(messages, None)
        if first is None or isinstance(first, memoryview):
            raise InvalidArgument("id: the stream's first message has to say it", field="id")
        offset = _whole(first.offset, "offset")
        stream = _Stream(first, messages)
        caller = current_call().caller
        return payload_message(await self._desk.append(caller, first.id, offset, stream, lambda: stream.sha256))

    async def GetPayload(self, request: payload_pb2.GetPayloadRequest, context: Any) -> payload_pb2.Payload:
        return payload_message(await self._desk.get(current_call().caller, request.id))

    # `serve` writes the message around it.
    async def ReadPayload(self, request: payload_pb2.ReadPayloadRequest, context: Any) -> AsyncIterator[Bytes]:
        offset = _whole(request.offset, "offset")
        async for piece in self._desk.read(current_call().caller, request.id, offset):
            metrics.sent(len(piece))
            for start in range(0, len(piece), CHUNK):
                yield piece[start : start + CHUNK]

    async def DeletePayload(
        self, request: payload_pb2.DeletePayloadRequest, context: Any
    ) -> payload_pb2.DeletePayloadResponse:
        await self._desk.delete(current_call().caller, request.id)
        return payload_pb2.DeletePayloadResponse(msg=f"payload {request.id} deleted")


class _Stream:
    """The contents of an upload's messages, and the digest that the last one says."""

    def __init__(self, first: payload_pb2.WritePayloadRequest, rest: AsyncIterator[Request]) -> None:
        self._first: payload_pb2.WritePayloadRequest | None = first
        self._rest = rest
        self.sha256 = b""

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        message: Request | None
        message, self._first = self._first, None
        if message is None:
            message = await anext(self._rest)
        if isinstance(message, memoryview):
            return message
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
