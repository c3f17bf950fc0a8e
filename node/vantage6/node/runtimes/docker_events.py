"""One thread that hears of the end of containers, for all waits: no thread per run, no asking again and again."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import DockerException
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker import DockerClient
    from docker.types.daemon import CancellableStream

log = logging.getLogger(__name__)

STREAM_BROKE = (DockerException, requests.RequestException, HTTPError, OSError, ValueError, AttributeError)
"""What reading an answer raises when the engine goes away, or when the stream is closed under the reader."""

_AGAIN_AFTER = 1.0


def cut(stream: CancellableStream[Any]) -> None:
    """Ends a stream under its reader, who finds its end or an error."""
    try:
        stream.close()
    except STREAM_BROKE as error:
        log.debug("a stream was over already: %s", type(error).__name__)


def release(stream: CancellableStream[Any]) -> None:
    """Closes the connection when nobody reads any more; the SDK itself leaves it to the garbage collector."""
    stream._response.close()  # type: ignore[attr-defined]  # noqa: SLF001 - it has no other way


class Endings:
    """Wakes who waits for a container whenever it may have ended; they look for themselves then."""

    def __init__(self, client: DockerClient, label: str) -> None:
        self._client = client
        self._filters = {"type": "container", "event": ["die", "destroy"], "label": label}
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._closing = threading.Event()
        self._changing = threading.Lock()
        self._stream: CancellableStream[dict[str, Any]] | None = None
        self._thread = threading.Thread(target=self._listen, name="docker-events", daemon=True)
        self._thread.start()

    def watch(self, container: str) -> tuple[asyncio.Event, Callable[[], None]]:
        """An event that is set at each news of the container, and how to end the watch."""
        event = asyncio.Event()
        self._waiting.setdefault(container, set()).add(event)

        def end() -> None:
            events = self._waiting.get(container, set())
            events.discard(event)
            if not events:
                self._waiting.pop(container, None)

        return event, end

    def close(self) -> None:
        """Ends the thread; blocks shortly."""
        with self._changing:
            self._closing.set()
            stream = self._stream
        if stream is not None:
            cut(stream)
        self._thread.join(timeout=5)
        if stream is not None and not self._thread.is_alive():  # Under its reader it would wait for ever.
            release(stream)

    def _listen(self) -> None:
        since = int(time.time())
        while not self._closing.is_set():
            try:
                # With `since`, what happened before the subscription is told too: no gap at a reconnection.
                stream = self._client.events(since=since, filters=self._filters, decode=True)
                with self._changing:  # Whoever closes finds it, or it is not read.
                    self._stream = stream
                    if self._closing.is_set():
                        break
                self._tell(None)
                for event in stream:
                    since = int(event.get("time", since))
                    self._tell(event["Actor"]["ID"])
            # A message that is no event breaks the stream off as well: who waits must not wait for a dead thread.
            except (*STREAM_BROKE, KeyError, TypeError) as error:
                if not self._closing.is_set():
                    log.warning("the engine's events broke off, trying again: %s", type(error).__name__)
            if self._stream is not None and not self._closing.is_set():
                release(self._stream)
            self._closing.wait(_AGAIN_AFTER)
        if self._stream is not None:
            release(self._stream)

    def _tell(self, container: str | None) -> None:
        if not self._closing.is_set():
            self._loop.call_soon_threadsafe(self._wake, container)

    def _wake(self, container: str | None) -> None:
        for name, events in self._waiting.items():
            if container in {None, name}:
                for event in events:
                    event.set()
