"""The event log: written in the transaction that makes it true, pushed after the commit, replayed on demand."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

from vantage6.api.v1 import event_pb2
from vantage6.common.errors import Vantage6Error
from vantage6.server.domain.bus import Bus, Happened, Resync, Signal
from vantage6.server.domain.caller import NodeCaller
from vantage6.server.domain.states import FINAL
from vantage6.server.domain.watching import RecentLogs
from vantage6.server.store.bulk import Moving
from vantage6.server.store.events import NewEvent
from vantage6.server.store.sql import Database, Store
from vantage6.server.store.tables import Result, Task

REPLAY_PAGE = 500
QUIET_SECONDS = 20.0
"""Longest silence of a watch: proxies on the way end streams that are idle, usually after 60 seconds."""
BACKLOG = 1_000
"""Events kept in memory for one slow watcher; beyond that it reads the log again."""


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def record_task(store: Store, bus: Bus, task: Task, *, complete: bool, results: int = 0) -> None:
    """`results` says, with `complete`, how many the task has."""
    kind = event_pb2.TaskEvent(task_id=task.id, parent_id=task.parent_id or 0, complete=complete, results=results)
    kind.state = task.state  # type: ignore[assignment]  # Same numbers, see states.py.
    _record(store, bus, task, event_pb2.Event(task=kind))


def record_result(store: Store, bus: Bus, task: Task, result: Result | Moving) -> None:
    kind = event_pb2.ResultEvent(
        result_id=result.id,
        task_id=task.id,
        organization_id=result.organization_id,
        reason=result.reason,
        message=result.message,
    )
    kind.state = result.state  # type: ignore[assignment]
    _record(store, bus, task, event_pb2.Event(result=kind))


def _record(store: Store, bus: Bus, task: Task, event: event_pb2.Event) -> None:
    event.collaboration_id = task.collaboration_id
    time = now()
    event.time.FromDatetime(time)
    row = NewEvent(time, task.collaboration_id, task.id, task.parent_id, event.SerializeToString())
    store.events.add(row)
    task_id, parent_id = task.id, task.parent_id or 0

    def tell() -> None:
        # None: its collaboration was deleted by the same transaction, so the log does not have it.
        event.id = row.id
        bus.publish(Happened(event, task_id, parent_id))

    store.after_commit(tell)


def announce_node(bus: Bus, node: NodeCaller, *, online: bool) -> None:
    """Passed on to those who watch, not kept."""
    kind = event_pb2.NodeEvent(node_id=node.id, organization_id=node.organization_id, online=online)
    event = event_pb2.Event(collaboration_id=node.collaboration_id, node=kind)
    event.time.FromDatetime(now())
    bus.publish(Happened(event, 0, 0))


@dataclass(frozen=True)
class Topic:
    """What is watched: one task with its children, or collaborations (None: all of them)."""

    task_id: int | None = None
    collaboration_ids: frozenset[int] | None = None
    only_final: bool = False
    logs: bool = True
    # The task was complete when the watch began: nothing follows what the log has.
    over: bool = False

    def covers(self, happened: Happened) -> bool:
        if self.only_final and not is_final(happened.event):
            return False
        if not self.logs and happened.event.HasField("log"):
            return False
        if self.task_id is not None:
            return self.task_id in (happened.task_id, happened.parent_id)
        return self.collaboration_ids is None or happened.event.collaboration_id in self.collaboration_ids


def is_final(event: event_pb2.Event) -> bool:
    """Whether a result or a task became final by it."""
    if event.HasField("result"):
        return int(event.result.state) in FINAL
    return event.HasField("task") and event.task.complete


class Watch:
    """One watcher's place in the queue."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.overrun = False
        # What was printed before.
        self.recent: list[event_pb2.Event] = []
        self._error: Vantage6Error | None = None
        self._events: deque[event_pb2.Event] = deque()
        self._news = asyncio.Event()

    def push(self, event: event_pb2.Event) -> None:
        if not event.id and len(self._events) >= BACKLOG // 2:
            return  # What is not kept may be lost, and must not push out what is.
        if len(self._events) >= BACKLOG:
            self._events.clear()
            self.overrun = True
        self._events.append(event)
        self._news.set()

    def read_again(self) -> None:
        """Has the log read for what may have been missed."""
        self.overrun = True
        self._news.set()

    def end(self, error: Vantage6Error) -> None:
        """Whoever takes events gets this error from now on."""
        self._error = error
        self._news.set()

    async def take(self) -> list[event_pb2.Event]:
        """Waits for news and takes all events that are there; after a while without any, one that says nothing."""
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await self._news.wait()
        except TimeoutError:
            return [event_pb2.Event()]
        if self._error is not None:
            raise self._error
        self._news.clear()
        events = list(self._events)
        self._events.clear()
        return events


class EventHub:
    """Hands events to those who watch."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._by_task: defaultdict[int, set[Watch]] = defaultdict(set)
        self._others: set[Watch] = set()
        self._logs = RecentLogs()
        bus.subscribe(self._on_signal)

    def _on_signal(self, signal: Signal) -> None:
        if isinstance(signal, Resync):
            for watch in {*self._others, *(watch for watches in self._by_task.values() for watch in watches)}:
                watch.read_again()
        if not isinstance(signal, Happened):
            return
        self._logs.note(signal.event)
        watches: Collection[Watch] = self._others
        for task_id in {signal.task_id, signal.parent_id} & self._by_task.keys():
            watches = {*watches, *self._by_task[task_id]}
        for watch in watches:
            if watch.topic.covers(signal):
                watch.push(signal.event)

    def open(self, topic: Topic) -> Watch:
        """Registers a watch; from here on nothing is missed."""
        watch = Watch(topic)
        if topic.task_id is not None and topic.logs and not topic.only_final:
            watch.recent = self._logs.of(topic.task_id)
        self._place(topic).add(watch)
        return watch

    def close(self, watch: Watch) -> None:
        self._place(watch.topic).discard(watch)
        if watch.topic.task_id is not None and not self._by_task[watch.topic.task_id]:
            del self._by_task[watch.topic.task_id]

    def _place(self, topic: Topic) -> set[Watch]:
        return self._others if topic.task_id is None else self._by_task[topic.task_id]

    async def follow(
        self, watch: Watch, after_id: int | None, begun: int | None = None
    ) -> AsyncIterator[event_pb2.Event]:
        """Yields what the log has after `after_id` (None: nothing of it), then what happens; ends for one task.

        `begun` is where the log was when the caller was told that it watches (see `start`).
        """
        recent = watch.recent if not after_id else []  # Who goes on after an event has had them.
        if after_id is None:
            after_id = await self.start(watch.topic) if begun is None else begun
        async for event in self._replay(watch.topic, after_id):
            after_id = event.id
            yield event
            if _ends(watch.topic, event):
                return
        for event in recent:
            yield event
        while not watch.topic.over:
            events = await watch.take()
            if watch.overrun:
                watch.overrun = False
                events = [event async for event in self._replay(watch.topic, after_id)]
            for event in events:
                if event.id and event.id <= after_id:
                    continue
                after_id = event.id or after_id
                yield event
                if _ends(watch.topic, event):
                    return

    async def start(self, topic: Topic) -> int:
        """The last event that a new watch of the topic is not told of."""
        if topic.task_id is not None:
            return 0
        async with self._database.read() as store:
            return await store.events.last_id()

    async def _replay(self, topic: Topic, after_id: int) -> AsyncIterator[event_pb2.Event]:
        while True:
            async with self._database.read() as store:
                if topic.task_id is not None:
                    rows = await store.events.of_task(topic.task_id, after_id, REPLAY_PAGE)
                else:
                    rows = await store.events.of_collaborations(topic.collaboration_ids, after_id, REPLAY_PAGE)
            for row in rows:
                event = event_pb2.Event.FromString(row.body)
                event.id = after_id = row.id
                if is_final(event) or not topic.only_final:
                    yield event
            if len(rows) < REPLAY_PAGE:
                return


def _ends(topic: Topic, event: event_pb2.Event) -> bool:
    return event.HasField("task") and event.task.complete and event.task.task_id == topic.task_id
