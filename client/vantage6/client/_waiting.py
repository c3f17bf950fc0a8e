"""Waiting for a task: what happens is pushed, from its first event on and across reconnections; nothing is polled."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vantage6.api.v1 import event_pb2
from vantage6.client._models import Result, ResultState, Task
from vantage6.client._payloads import pause
from vantage6.common.errors import DeadlineExceeded, Internal, OutOfRange, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from vantage6.client._display import Display
    from vantage6.client._session import Session
    from vantage6.client._tasks import Results, Tasks

NO_EVENT = 0


@dataclass
class Site:
    """How one organization's part stands, as far as events told."""

    name: str
    state: ResultState = ResultState.PENDING
    reason: str = ""
    message: str = ""
    online: bool = True
    pulling: float = 0.0
    running: float | None = None
    since: float | None = None
    until: float | None = None


@dataclass
class View:
    """What is known of a task while it is waited for."""

    task: Task
    sites: dict[int, Site] = field(default_factory=dict)
    connected: bool = True

    def apply(self, event: event_pb2.Event, now: float) -> None:
        kind = event.WhichOneof("kind")
        if kind == "result" and event.result.task_id == self.task.id:
            self._move(event.result, now)
        elif kind == "progress" and event.progress.task_id == self.task.id:
            self._advance(event.progress)
        elif kind == "node" and event.node.organization_id in self.sites:
            self.sites[event.node.organization_id].online = event.node.online

    def _move(self, event: event_pb2.ResultEvent, now: float) -> None:
        name = f"organization {event.organization_id}"
        site = self.sites.setdefault(event.organization_id, Site(name))
        site.state = ResultState(event.state)
        site.reason, site.message = event.reason, event.message
        if site.state > ResultState.PENDING and not site.state.final:
            site.online = True
        if site.state is ResultState.RUNNING:
            site.since, site.until = now, None
        elif site.state.final:
            site.until = now
        else:
            site.since = site.until = None
            site.pulling, site.running = 0.0, None

    def _advance(self, event: event_pb2.ProgressEvent) -> None:
        site = self.sites.get(event.organization_id)
        if site is None:
            return
        if event.progress_kind == event_pb2.PROGRESS_KIND_PULLING:
            site.pulling = event.fraction
        else:
            site.running = event.fraction


class Waiting:
    """Follows tasks to their end."""

    def __init__(self, session: Session, tasks: Tasks, results: Results) -> None:
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
        with _display(view, shown=progress):
            async for event in self.events(id, lambda up: setattr(view, "connected", up)):
                view.apply(event, time.monotonic())
            task = await self._tasks.get(id)
            view.task = task
        return task

    async def final_results(self, id: int) -> AsyncIterator[int]:  # noqa: A002
        """Ids of the task's results as they become final; those that are so already come first."""
        given = set()
        task = await self._tasks.get(id)
        if not task.complete:
            async for event in self.events(id):
                if event.WhichOneof("kind") != "result" or event.result.task_id != id:
                    continue
                if ResultState(event.result.state).final and event.result.result_id not in given:
                    given.add(event.result.result_id)
                    yield event.result.result_id
        async for result in self._results.list(task=id):
            if result.state.final and result.id not in given:
                yield result.id

    async def events(
        self,
        id: int,  # noqa: A002
        connected: Callable[[bool], None] = lambda _: None,
    ) -> AsyncIterator[event_pb2.Event]:
        """The task's events from the first one, until it is complete."""
        last, attempt = NO_EVENT, 0
        while True:
            request = event_pb2.WatchRequest(task_id=id, after_id=last or None)
            try:
                async with aclosing(self._session.stream(self._session.events.Watch, request)) as events:
                    async for event in events:
                        connected(True)
                        attempt, last = 0, event.id or last
                        yield event
                        if event.WhichOneof("kind") == "task" and event.task.task_id == id and event.task.complete:
                            return
            except OutOfRange:
                if last == NO_EVENT:
                    raise
                last = NO_EVENT
            except Unavailable:
                connected(False)
            # The stream ended before the task did: the server is going away, or the task ended unseen.
            attempt += 1
            await pause(min(attempt, 7))
            if await self._ended(id):
                return

    async def _ended(self, id: int) -> bool:  # noqa: A002
        try:
            return (await self._tasks.get(id)).complete
        except (Unavailable, Internal):
            return False


def _site(result: Result) -> Site:
    """Names and presence come from here, states from the events, which begin with the first."""
    return Site(name=result.organization_name, online=result.node_online)


def _display(view: View, *, shown: bool) -> Display:
    from vantage6.client._display import Display  # noqa: PLC0415 - rich is slow to load

    return Display(view, shown=shown)
