"""One structured log line for each call. Never a message's content: it may hold a secret."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog

from vantage6.server import metrics
from vantage6.server.domain.caller import current_call
from vantage6.server.interceptors.wrapping import Enclosing

log = structlog.get_logger(__name__)


def telemetry() -> Enclosing:
    return Enclosing(_around)


@asynccontextmanager
async def _around(method: str, context: Any) -> AsyncIterator[None]:
    began = time.monotonic()
    ended = "CANCELLED"
    try:
        yield
        ended = "OK"
    except grpc.aio.AbortError:
        ended = _status(context)
        raise
    finally:
        call = current_call()
        seconds = time.monotonic() - began
        # Streams that nodes and listeners hold open would say nothing about the speed of an answer.
        lasting = method.endswith(("/Connect", "/StreamEvents", "/Watch"))
        metrics.called(method, ended, None if lasting else seconds)
        log.info(
            "call",
            method=method,
            caller=call.caller.key,
            peer=call.peer,
            door="rest" if call.rest else "grpc",
            status=ended,
            ms=round(seconds * 1000, 2),
        )


def _status(context: Any) -> str:
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else str(code)
