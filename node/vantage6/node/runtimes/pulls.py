"""Pulls of images: each once for all runs that want it, and a slow registry holds up nobody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from vantage6.node.runtimes.base import ImageUnreachable, Progress

STALL_SECONDS = 300.0
"""Without any news from the engine for so long, a pull is given up."""
RUNNING = 32
"""Pulls of different images at the same time."""

Ensure = Callable[[str, Callable[[float], None]], str]


@dataclass
class _Pull:
    task: asyncio.Task[str]
    listeners: list[Progress] = field(default_factory=list)


class Pulls:
    """`ensure` is the blocking work: image and report in, digest out."""

    def __init__(self, ensure: Ensure, stall_seconds: float = STALL_SECONDS) -> None:
        self._ensure = ensure
        self._stall = stall_seconds
        self._running: dict[str, _Pull] = {}
        self._room = asyncio.Semaphore(RUNNING)

    async def pull(self, image: str, progress: Progress | None) -> str:
        """Joins a pull of the same image that is under way; a caller that goes away leaves it to the others."""
        pull = self._running.get(image)
        if pull is None:
            pull = self._running[image] = _Pull(asyncio.create_task(self._work(image), name=f"pull {image}"))
            pull.task.add_done_callback(lambda task: self._done(image, task))
        if progress is not None:
            pull.listeners.append(progress)
        try:
            return await asyncio.shield(pull.task)
        finally:
            if progress is not None and progress in pull.listeners:
                pull.listeners.remove(progress)

    async def close(self) -> None:
        """Waits for nobody; the engine may go on fetching."""
        tasks = [pull.task for pull in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, image: str, task: asyncio.Task[str]) -> None:
        del self._running[image]
        if not task.cancelled():
            task.exception()  # Whoever still waits is told; when all have gone, nobody needs to be.

    async def _work(self, image: str) -> str:
        loop = asyncio.get_running_loop()
        async with self._room:
            try:
                async with asyncio.timeout(self._stall) as limit:

                    def heard(part: float) -> None:
                        # News that comes after the end are of nobody's interest.
                        with suppress(RuntimeError):
                            limit.reschedule(loop.time() + self._stall)
                        self._tell(image, part)

                    return await _in_thread(
                        lambda: self._ensure(image, lambda part: _say(loop, heard, part)), f"pull-{image}"
                    )
            except TimeoutError as error:
                raise ImageUnreachable(
                    f"image {image}: its registry has sent nothing for {self._stall:.0f} seconds", image=image
                ) from error

    def _tell(self, image: str, part: float) -> None:
        if pull := self._running.get(image):
            for listener in list(pull.listeners):
                listener(part)


def _say(loop: asyncio.AbstractEventLoop, heard: Callable[[float], None], part: float) -> None:
    with suppress(RuntimeError):  # The loop is closed: the node has stopped.
        loop.call_soon_threadsafe(heard, part)


async def _in_thread(function: Callable[[], str], name: str) -> str:
    """Not a pool's thread: one that the engine never answers must not keep the node from ending."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[str] = loop.create_future()

    def settle(value: str | None, error: BaseException | None) -> None:
        if not result.done():
            result.set_exception(error) if error else result.set_result(value or "")

    def work() -> None:
        value, failure = None, None
        try:
            value = function()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            failure = error
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await result
