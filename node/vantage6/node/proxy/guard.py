"""Around every call of a container: the token before, the status after."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
import structlog

from vantage6.common.errors import Internal, Unimplemented, Vantage6Error, to_metadata
from vantage6.node.proxy.tokens import RunToken

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class Guarded(Protocol):
    """A servicer that knows which token it wants to see."""

    token: RunToken


S = TypeVar("S", bound=Guarded)
Q = TypeVar("Q")
A = TypeVar("A")


def answering(method: Callable[[S, Q, Context], Awaitable[A]]) -> Callable[[S, Q, Context], Awaitable[A]]:
    """Guards a method with one answer."""

    @functools.wraps(method)
    async def call(self: S, request: Q, context: Context) -> A:
        try:
            self.token.check(_metadata(context))
            return await method(self, request, context)
        except Exception as error:  # noqa: BLE001  # all of them become a status
            await _abort(context, error)

    return call


def streaming(method: Callable[[S, Q, Context], AsyncIterator[A]]) -> Callable[[S, Q, Context], AsyncIterator[A]]:
    """Guards a method with a stream of answers."""

    @functools.wraps(method)
    async def call(self: S, request: Q, context: Context) -> AsyncIterator[A]:
        try:
            self.token.check(_metadata(context))
            async for answer in method(self, request, context):
                yield answer
        except Exception as error:  # noqa: BLE001  # all of them become a status
            await _abort(context, error)

    return call


def _metadata(context: Context) -> list[tuple[str, str | bytes]]:
    return [(str(key), value) for key, value in context.invocation_metadata() or ()]


async def _abort(context: Context, error: Exception) -> NoReturn:
    if isinstance(error, NotImplementedError):
        failure: Vantage6Error = Unimplemented("this version of the node does not have it")
    elif isinstance(error, Vantage6Error):
        failure = error
    elif isinstance(error, grpc.aio.AbortError):
        raise error
    else:
        # Its text could tell the algorithm of the node's insides.
        log.error("proxy_call_failed", exc_info=error)
        failure = Internal("the node met an error of its own; its log knows more")
    context.set_trailing_metadata(to_metadata(failure))
    await context.abort(failure.status, failure.message)
