"""AlgorithmService as JSON over HTTP/1.1, for languages without gRPC: another way to the same servicer, no other rules.

`POST /AlgorithmService/METHOD` with the request as JSON. A stream of answers comes as lines of JSON; WriteOutput takes
the output itself as its body. What a stranger can make the node hold in memory is bounded before anything is parsed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, NoReturn, cast

import grpc
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from vantage6.api.v1 import algorithm_pb2
from vantage6.common.chunks import CHUNK
from vantage6.common.errors import (
    InvalidArgument,
    Metadata,
    NotFound,
    ResourceExhausted,
    Unimplemented,
    Vantage6Error,
    from_rpc_error,
)
from vantage6.node.proxy.guard import Context
from vantage6.node.proxy.servicer import Servicer

SERVICE = algorithm_pb2.DESCRIPTOR.services_by_name["AlgorithmService"]
MAX_CONNECTIONS = 32
MAX_VALUES = 200_000
"""Values in the JSON of one request: each takes a hundred times its text in memory, texts are taken as they are."""
SMALL = 64 * 1024
"""Bytes of a request that is read beside others; larger ones wait for one another."""
LINES = "application/x-ndjson"

_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
# What the library says of broken requests is the algorithm's text: it has no place in the node's log.
_SILENT = logging.getLogger("vantage6.node.proxy.web")
_SILENT.disabled = True


class WebDoor:
    """Listens on a socket of its own beside that of gRPC, with the same servicer behind it."""

    def __init__(self, servicer: Servicer, max_message: int, max_calls: int) -> None:
        self._servicer = servicer
        self._max_message = max_message
        self._max_calls = max_calls
        self._calls = 0
        self._large = asyncio.Lock()
        self._server: _Server | None = None
        self._listener: asyncio.AbstractServer | None = None

    async def start(self, path: Path) -> None:
        await asyncio.to_thread(path.unlink, missing_ok=True)
        self._server = _Server(
            self._handle, handler_cancellation=True, access_log=None, logger=_SILENT, auto_decompress=False,
            keepalive_timeout=15.0, lingering_time=2.0,
        )  # fmt: skip
        self._listener = await asyncio.get_running_loop().create_unix_server(self._server, str(path))
        await asyncio.to_thread(path.chmod, 0o666)

    async def stop(self) -> None:
        if self._listener and self._server:
            self._listener.close()
            self._server.pre_shutdown()
            await self._server.shutdown(0.001)  # Nothing is waited for; 0 would mean for ever.

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if self._calls >= self._max_calls:
                raise ResourceExhausted(f"at most {self._max_calls} calls at once")
            self._calls += 1
            try:
                return await self._call(request)
            finally:
                self._calls -= 1
        except Vantage6Error as error:
            # What is left of its body is not read: the connection ends with this answer.
            answer = web.json_response(_described(error), status=_HTTP.get(error.status, 500))
            answer.force_close()
            return answer

    async def _call(self, request: web.BaseRequest) -> web.StreamResponse:
        self._servicer.token.check(_metadata(request.headers))  # Before a byte of the body is read.
        method = SERVICE.methods_by_name.get(request.path.removeprefix("/AlgorithmService/"))
        if request.method != "POST" or method is None:
            raise NotFound("there is POST /AlgorithmService/METHOD, with a method of the contract")
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Unimplemented("content-encoding: none is understood")
        if request.headers.get("expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        context = cast("Context", _Context(request.headers))
        act = getattr(self._servicer, method.name)
        try:
            if method.client_streaming:
                async with aclosing(_pieces(request)) as pieces:
                    return _one(await act(pieces, context))
            message = await self._message(request, GetMessageClass(method.input_type)())
            if method.server_streaming:
                return await _many(request, act(message, context))
            return _one(await act(message, context))
        except _RefusedCall as error:
            raise from_rpc_error(error) from None

    async def _message(self, request: web.BaseRequest, message: Message) -> Message:
        length = request.content_length
        if length is not None and length <= SMALL:
            return await self._parsed(request, message)
        async with self._large:
            return await self._parsed(request, message)

    async def _parsed(self, request: web.BaseRequest, message: Message) -> Message:
        limit = self._max_message // 3 * 4 + SMALL  # As base64.
        body = bytearray()
        if (request.content_length or 0) > limit:
            raise _too_large(self._max_message)
        async for piece in _body(request):
            body += piece
            if len(body) > limit:
                raise _too_large(self._max_message)
        await asyncio.to_thread(_parse, body, message)
        if message.ByteSize() > self._max_message:
            raise _too_large(self._max_message)
        return message


class _Server(web.Server):
    """Hangs up on who opens too many connections."""

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()


class _RefusedCall(grpc.RpcError):
    """What the servicer told its context; reads like the failure of a stub's call."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Metadata) -> None:
        super().__init__(details)
        self._told = code, details, trailers

    def code(self) -> grpc.StatusCode:
        return self._told[0]

    def details(self) -> str:
        return self._told[1]

    def trailing_metadata(self) -> Any:
        return self._told[2]


class _Context:
    """What the servicer needs of gRPC's context."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._metadata = _metadata(headers)
        self._trailers: Metadata = ()

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        return self._metadata

    def set_trailing_metadata(self, trailers: Metadata) -> None:
        self._trailers = trailers

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        raise _RefusedCall(code, details, self._trailers)


def _metadata(headers: Mapping[str, str]) -> list[tuple[str, str | bytes]]:
    return [(key.lower(), value) for key, value in headers.items()]


def _parse(body: bytearray, message: Message) -> None:
    if sum(map(body.count, (b",", b":", b"[", b"{"))) > MAX_VALUES:
        raise ResourceExhausted(f"the JSON has more than {MAX_VALUES} values")
    try:
        if body and not body.lstrip().startswith(b"{"):
            raise InvalidArgument("the body is no object in JSON")
        if body:
            json_format.Parse(bytes(body), message)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"the body is no {message.DESCRIPTOR.name} in JSON: {str(error)[:200]}") from error


async def _body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    try:
        async for piece in request.content.iter_chunked(CHUNK):
            yield piece
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise InvalidArgument("the body breaks off, or is not framed as its headers say") from error


async def _pieces(request: web.BaseRequest) -> AsyncGenerator[algorithm_pb2.WriteOutputRequest, None]:
    async for piece in _body(request):
        yield algorithm_pb2.WriteOutputRequest(chunk=piece)


def _one(message: Message) -> web.Response:
    return web.Response(text=_text(message), content_type="application/json")


async def _many(request: web.BaseRequest, messages: AsyncGenerator[Message, None]) -> web.StreamResponse:
    """Each message as a line as soon as it is there. Who reads slowly is waited for, and nothing piles up."""
    response = web.StreamResponse(headers={"content-type": LINES})
    async with aclosing(messages):
        try:
            async for message in messages:
                await _write(request, response, _text(message))
        except _RefusedCall as error:
            if not response.prepared:
                raise
            line = json.dumps({"error": _described(from_rpc_error(error))})
            await _write(request, response, line)
    if not response.prepared:
        await response.prepare(request)
    await response.write_eof()
    return response


async def _write(request: web.BaseRequest, response: web.StreamResponse, line: str) -> None:
    if not response.prepared:
        await response.prepare(request)
    await response.write(line.encode() + b"\n")


def _text(message: Message) -> str:
    return json_format.MessageToJson(
        message, indent=None, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _described(error: Vantage6Error) -> dict[str, str]:
    return {"code": error.status.name, "reason": error.reason, "message": error.message}


def _too_large(limit: int) -> ResourceExhausted:
    return ResourceExhausted(f"the request has more than {limit} bytes")
