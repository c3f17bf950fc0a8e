"""One way to wrap all four kinds of gRPC handlers, so that each interceptor says only what it adds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc

Around = Callable[[str, Any], AbstractAsyncContextManager[None]]
"""Of the method's full name and the servicer context; encloses the whole call, a stream's included."""

_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


class Enclosing(grpc.aio.ServerInterceptor):
    """Runs every call inside `around(method, context)`."""

    def __init__(self, around: Around) -> None:
        self._around = around

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
        wrapped = wrap(method, getattr(handler, name))
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

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
