"""Follows a blocking stream of the SDK from the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from vantage6.node.runtimes.docker_events import STREAM_BROKE, cut, release

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from docker.types.daemon import CancellableStream

log = logging.getLogger(__name__)

_AHEAD = 16


async def follow(stream: CancellableStream[bytes]) -> AsyncGenerator[bytes, None]:
    """The chunks of the stream; at most a few are read ahead, so a run that says much does not fill our memory."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
    room, stopped = threading.Semaphore(_AHEAD), threading.Event()

    def read() -> None:
        try:
            for chunk in stream:
                room.acquire()
                if stopped.is_set():
                    return
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
        except STREAM_BROKE as error:
            log.debug("a log broke off: %s", type(error).__name__)
        if not stopped.is_set():
            loop.call_soon_threadsafe(chunks.put_nowait, None)

    # A thread of its own: a log lasts as long as its run, and would keep a thread of a pool from short calls.
    reader = threading.Thread(target=read, name="docker-log", daemon=True)
    reader.start()
    try:
        while (chunk := await chunks.get()) is not None:
            room.release()
            yield chunk
    finally:
        stopped.set()
        room.release()
        await asyncio.to_thread(_end, stream, reader)


def _end(stream: CancellableStream[bytes], reader: threading.Thread) -> None:
    cut(stream)
    reader.join(timeout=5)
    release(stream)
