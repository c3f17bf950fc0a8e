"""A page for those who watch over a server or a node: metrics for Prometheus, and whether it lives and is ready.

HTTP on an address of its own, which is to be a loopback one: nobody is asked who he is. `python -m
vantage6.common.monitoring` asks the page of this container, as the health check of the images does.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Self

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from vantage6.common.background import AddressTaken

log = structlog.get_logger(__name__)

VARIABLE = "VANTAGE6_MONITORING"
"""Stands in for the setting `monitoring`: images say it, so that their health checks find the page."""
ADDRESS = r"^\[?[\w.:-]+\]?:\d{1,5}$"
REQUEST_SECONDS = 10.0
LARGEST_REQUEST = 8192

_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_MOST_REASONS = 100
_reasons: set[str] = set()


@dataclass(frozen=True)
class Watched:
    """What the page shows: the metrics as Prometheus reads them, and why it is not ready (empty: it is)."""

    metrics: Callable[[], Awaitable[bytes]]
    ready: Callable[[], Awaitable[str]]

    @classmethod
    def of(cls, registry: CollectorRegistry, ready: Callable[[], Awaitable[str]],
           refresh: Callable[[], Awaitable[None]]) -> Self:  # fmt: skip
        """The metrics of a registry; `refresh` brings its gauges up to date."""

        async def metrics() -> bytes:
            await refresh()
            return generate_latest(registry)

        return cls(metrics, ready)


@contextlib.asynccontextmanager
async def monitored(address: str, watched: Watched) -> AsyncIterator[int]:
    """Serves the page inside the context, and says at which port; without an address there is none."""
    if not address:
        yield 0
        return
    host, _, port = address.rpartition(":")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _answer(watched, reader, writer)

    try:
        server = await asyncio.start_server(answer, host.strip("[]"), int(port), limit=LARGEST_REQUEST)
    except OSError as error:
        raise AddressTaken(
            f"monitoring: {address} cannot be listened on ({error.strerror}). Change 'monitoring' in the "
            "configuration, or end the program that has the port"
        ) from error
    bound = int(server.sockets[0].getsockname()[1])
    log.info("monitoring", address=f"{host}:{bound}")
    async with server:
        yield bound


async def _answer(watched: Watched, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            status, kind, body = await _page(watched, head.split(b" ", 2)[:2])
            words = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close"
            writer.write(words.encode() + b"\r\n\r\n" + body)
            await writer.drain()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        log.debug("monitoring_request_broken")  # A caller's business.
    finally:
        writer.close()


async def _page(watched: Watched, request: list[bytes]) -> tuple[str, str, bytes]:
    plain = "text/plain; charset=utf-8"
    match request:
        case [b"GET", b"/metrics"]:
            return "200 OK", CONTENT_TYPE_LATEST, await watched.metrics()
        case [b"GET", b"/health/live"]:
            return "200 OK", plain, b"alive\n"
        case [b"GET", b"/health/ready"]:
            why = await watched.ready()
            return ("503 Service Unavailable", plain, f"{why}\n".encode()) if why else ("200 OK", plain, b"ready\n")
        case [b"GET", _]:
            return "404 Not Found", plain, b"there are /metrics, /health/live and /health/ready\n"
        case _:
            return "405 Method Not Allowed", plain, b"only GET\n"


def reason_label(reason: str) -> str:
    """A reason as a label: others choose it, so neither its form nor the number of different ones is unlimited."""
    if not reason:
        return ""
    if reason in _reasons:
        return reason
    if len(_reasons) >= _MOST_REASONS or not _REASON.fullmatch(reason):
        return "OTHER"
    _reasons.add(reason)
    return reason


def main() -> int:
    """Exit code 0 if the page at VANTAGE6_MONITORING says that its program lives."""
    host, _, port = os.environ.get(VARIABLE, "").rpartition(":")
    if not host:
        print(f"{VARIABLE} names no address", file=sys.stderr)
        return 1
    try:
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=REQUEST_SECONDS)
        connection.request("GET", "/health/live")
        return 0 if connection.getresponse().status == http.HTTPStatus.OK else 1
    except OSError as error:
        print(f"{host}:{port}: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
