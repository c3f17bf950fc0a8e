"""Waiting for a task: what happens is pushed, from its first event on and across reconnections; nothing is polled."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from vantage6.client import _contract as v1
from vantage6.client._models import Organization, Result, ResultState, Task
from vantage6.client._parties import Organizations
from vantage6.client._payloads import pause
from vantage6.client._view import Site, View
from vantage6.common.errors import (
    DeadlineExceeded,
    Internal,
    OutOfRange,
    Unauthenticated,
    Unavailable,
    Vantage6Error,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from vantage6.client._display import Display
    from vantage6.client._encryption import Encryption
    from vantage6.client._session import Session
    from vantage6.client._tasks import Results, Tasks

NO_EVENT = 0


class Waiting:
    """Follows tasks to their end."""

    def __init__(self, session: Session, encryption: Encryption, tasks: Tasks, results: Results) -> None:
        self._encryption = encryption
        self._session = session
        self._tasks = tasks
        self._results = results

    async def wait(self, task: Task | int, *, progress: bool, timeout: float | None) -> Task:  # noqa: ASYNC109
        """Returns the task in its final state; `timeout` (seconds) ends the waiting, not the task."""
        id = task if isinstance(task, int) else task.id  # noqa: A001
        try:
            async with asyncio.timeout(timeout):
                final = await self._wait(id, progress=progress)
        except TimeoutError:
            raise DeadlineExceeded(f"task {id} is not done after {timeout:g} s; it goes on") from None
        # Envelopes are bound to the key that the task was created with, so the one that is known here counts.
        return final if isinstance(task, int) else replace(final, key=task.key)

    async def _wait(self, id: int, *, progress: bool) -> Task:  # noqa: A002
        task = await self._tasks.get(id)
        if task.complete:
            return task
        view = View(task)
        async for result in self._results.list(task=id):
            view.sites[result.organization_id] = _site(result)
        with _display(view, shown=progress) as display:
            organizations = await self._organizations(task) if display.shown else {}
            view.names = {each.id: each.name for each in organizations.values()}
            async for event in self.events(id, lambda up: setattr(view, "connected", up)):
                sender = organizations.get(event.progress.organization_id)
                text = await self._text(event.progress, sender, task) if sender else ""
                view.apply(event, time.monotonic(), text)
            task = await self._tasks.get(id)
            view.task = task
        return task

    async def _organizations(self, task: Task) -> dict[int, Organization]:
        found = Organizations(self._session).list(collaboration=task.collaboration_id)
        return {each.id: each async for each in found}

    async def _text(self, event: v1.event_pb2.ProgressEvent, sender: Organization, task: Task) -> str:
        """What a run says of its progress; nothing if it is of a subtask, or does not open as that site's."""
        if event.task_id != task.id or not event.text:
            return ""
        try:
            text = (await self._encryption.open_line(event.text, sender, task)).decode(errors="replace")
        except Vantage6Error:  # for looking at only: the result itself is held to more
            return ""
        return "".join(letter if letter.isprintable() else " " for letter in text)

    async def final_results(self, id: int) -> AsyncGenerator[list[int], None]:  # noqa: A002
        """Ids of the task's results as they become final: each time all that did since the last time."""
        given: set[int] = set()
        count = 0
        async with aclosing(_gathered(self.events(id, only_final=True))) as batches:
            async for batch in batches:
                fresh = [each for each in dict.fromkeys(_final(batch, id)) if each not in given]
                given.update(fresh)
                if fresh:
                    yield fresh
                count = next((event.task.results for event in batch if _ends(event, id)), count)
        if count and len(given) == count:
            return
        # The end went by while we were cut off, or events are no longer kept.
        results = [result async for result in self._results.list(task=id)]
        if rest := [result.id for result in results if result.state.final and result.id not in given]:
            yield rest

    async def events(
        self,
        id: int,  # noqa: A002
        connected: Callable[[bool], None] = lambda _: None,
        *,
        only_final: bool = False,
    ) -> AsyncGenerator[v1.event_pb2.Event, None]:
        """The task's events from the first one, until it is complete."""
        last, attempt = NO_EVENT, 0
        while True:
            request = v1.event_pb2.WatchRequest(task_id=id, after_id=last or None, only_final=only_final)
            used, heard = await self._session.fresh(), False
            try:
                async with aclosing(self._session.stream(self._session.events.Watch, request)) as events:
                    async for event in events:
                        connected(True)
                        heard, attempt, last = True, 0, event.id or last
                        yield event
                        if _ends(event, id):
                            return
            except OutOfRange:
                if last == NO_EVENT:
                    raise
                last = NO_EVENT
            except Unauthenticated:
                # The token with which the watch began is over: a new one goes on after the last event, if there is one.
                if not heard or not await self._session.renewed(used):
                    raise
                continue
            except Unavailable:
                connected(False)
            # The stream ended before the task did: the server is going away, or the task ended unseen.
            attempt += 1
            await pause(min(attempt, 7))
            if await self._completed(id, connected):
                return

    async def _completed(self, id: int, connected: Callable[[bool], None]) -> bool:  # noqa: A002
        """Whether the task is, as far as somebody answers."""
        try:
            complete = (await self._tasks.get(id)).complete
        except (Unavailable, Internal):
            return False
        connected(True)
        return complete


def _ends(event: v1.event_pb2.Event, task_id: int) -> bool:
    return event.WhichOneof("kind") == "task" and event.task.task_id == task_id and event.task.complete


def _final(events: Iterable[v1.event_pb2.Event], task_id: int) -> Iterator[int]:
    """The results of the task that became final."""
    for event in events:
        ours = event.WhichOneof("kind") == "result" and event.result.task_id == task_id
        if ours and ResultState(event.result.state).final:
            yield event.result.result_id


async def _gathered(events: AsyncGenerator[v1.event_pb2.Event, None]) -> AsyncGenerator[list[v1.event_pb2.Event], None]:
    """What has come since the last look, all at once; waits only while there is nothing."""
    come: list[v1.event_pb2.Event] = []
    news = asyncio.Event()

    async def read() -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    come.append(event)
                    news.set()
        finally:
            news.set()

    reader = asyncio.create_task(read())
    try:
        while come or not reader.done():
            await news.wait()
            news.clear()
            if come:
                taken, come[:] = list(come), []
                yield taken
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


def _site(result: Result) -> Site:
    """Names and presence come from here, states from the events, which begin with the first."""
    return Site(name=result.organization_name, online=result.node_online)


def _display(view: View, *, shown: bool) -> Display:
    from vantage6.client._display import Display  # noqa: PLC0415 - rich is slow to load

    return Display(view, shown=shown)
