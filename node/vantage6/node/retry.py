"""Trying again: how long to wait, and what is worth it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc
import structlog

from vantage6.common.errors import Cancelled, DeadlineExceeded, Throttled, Unavailable, Vantage6Error, from_rpc_error

log = structlog.get_logger(__name__)

T = TypeVar("T")

PASSING = (Unavailable, DeadlineExceeded, Cancelled, Throttled)
"""Failures of the line or of a busy server, not of the request."""


@dataclass
class Backoff:
    """Waiting times that double from `first` to `most`, with jitter so that many nodes do not come in step."""

    first: float = 0.5
    most: float = 15.0
    _tries: int = 0

    def next(self) -> float:
        delay = min(self.most, self.first * 2.0 ** min(self._tries, 20))
        self._tries += 1
        return delay * random.uniform(0.5, 1.0)  # noqa: S311  # no secret

    def reset(self) -> None:
        self._tries = 0


async def reached(work: Callable[[], Awaitable[T]], backoff: Backoff | None = None) -> T:
    """Does `work` until the server has been reached; other failures are raised as our classes."""
    backoff = backoff or Backoff()
    while True:
        try:
            return await work()
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
        except PASSING as error:
            failure = error
        if not isinstance(failure, PASSING):
            raise failure
        await pause(failure, backoff)


async def pause(failure: Vantage6Error, backoff: Backoff) -> None:
    """Waits before the next attempt."""
    delay = backoff.next()
    log.info("server_not_reached", reason=failure.reason, message=failure.message, retry_seconds=round(delay, 2))
    await asyncio.sleep(delay)
