"""One way to wrap all four kinds of gRPC handlers, so that each interceptor says only what it adds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from vantage6.common.errors import InvalidArgument

Around = Callable[[str, Any], AbstractAsyncContextManager[None]]
"""Of the method's full name and the servicer context; encloses the whole call, a stream's included."""

_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


class Enclosing(grpc.aio.ServerInterceptor):
    """Runs every call inside `around(method, context)`.

    `decodes`: requests are decoded inside of it too. Otherwise gRPC does that before any interceptor, and tells the
    caller the text of the exception where it cannot.
    """

    def __init__(self, around: Around, *, decodes: bool = False) -> None:
        self._around = around
        self._decodes = decodes

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        wrap = self._streaming if handler.response_streaming else self._single
        name = _KINDS[handler.request_streaming, handler.response_streaming]
        make = getattr(grpc, f"{name}_rpc_method_handler")
        inner, deserializer = getattr(handler, name), handler.request_deserializer
        if self._decodes and deserializer is not None:
            inner = (_decoded_stream if handler.request_streaming else _decoded)(inner, deserializer)
            deserializer = None
        return make(wrap(method, inner), deserializer, handler.response_serializer)

    def _single(self, method: str, inner: Any) -> Any:
        async def call(request: Any, context: Any) -> Any:
            async with self._around(method, context):
                return await inner(request, context)

        return call

    def _streaming(self, method: str, inner: Any) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._around(method, context):
                answer = inner(request, context)
                if isinstance(answer, AsyncIterator):
                    async for message in answer:
                        yield message
                else:  # A handler that writes to its context.
                    await answer

        return call


def _decoded(inner: Any, deserializer: Callable[[bytes], Any]) -> Any:
    def call(request: bytes, context: Any) -> Any:
        message = _message(deserializer, request)
        if b"\0" in request:
            # PostgreSQL has no place for it in a text, SQLite has: here it ends for both.
            _refuse_nul(message)
        return inner(message, context)

    return call


def _decoded_stream(inner: Any, deserializer: Callable[[bytes], Any]) -> Any:
    async def messages(requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for request in requests:
            yield _message(deserializer, request)

    def call(requests: AsyncIterator[bytes], context: Any) -> Any:
        return inner(messages(requests), context)

    return call


def _message(deserializer: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return deserializer(data)
    except DecodeError as error:
        raise InvalidArgument("The request is no message of this method: it is damaged, or of another type.") from error


def _refuse_nul(message: Any, path: str = "") -> None:
    for field, value in message.ListFields():
        name = f"{path}{field.name}"
        for one in value if field.is_repeated else [value]:
            if field.type == field.TYPE_MESSAGE:
                _refuse_nul(one, f"{name}.")
            elif field.type == field.TYPE_STRING and "\0" in one:
                raise InvalidArgument(f"{name}: must not hold control characters.", field=name)
