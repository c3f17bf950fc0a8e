"""Who watches: no longer than the token and the rights with which they began, and what was printed before they came."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from vantage6.common.errors import Unauthenticated, Unavailable, Vantage6Error
from vantage6.server.domain.bus import Bus, Happened, Resync, RightsChanged, Signal
from vantage6.server.domain.caller import Caller, ContainerCaller, UserCaller
from vantage6.server.domain.secrets import now
from vantage6.server.domain.states import ACTIVE

if TYPE_CHECKING:
    from vantage6.api.v1 import event_pb2
    from vantage6.server.domain.accounts import AccountRules
    from vantage6.server.domain.events import Topic, Watch

log = structlog.get_logger()

MakeTopic = Callable[[Caller], Awaitable["Topic"]]
EXPIRED = "The access token with which this watch began has expired; go on with a new one, after the last event's id."
CHANGED = "Your rights have changed; watch again, after the last event's id."
LOG_OF_RESULT = 32 * 1024
LOGS_OF_ALL = 32 * 1024 * 1024


@dataclass(eq=False)
class Held:
    """An open watch; `topic` says what its caller may watch now."""

    watch: Watch
    caller: Caller
    topic: MakeTopic


class WatchGuard:
    """Ends watches: when their token expires, when its session is ended, when what they may see becomes another."""

    def __init__(self, accounts: AccountRules, bus: Bus) -> None:
        self._accounts = accounts
        self._held: set[Held] = set()
        self._due: set[Held] = set()
        self._work: asyncio.Task[None] | None = None
        bus.subscribe(self._on_signal)

    @contextmanager
    def over(self, watch: Watch, caller: Caller, topic: MakeTopic) -> Iterator[None]:
        """Guards a watch for as long as it is open."""
        held = Held(watch, caller, topic)
        self._held.add(held)
        until = caller.until if isinstance(caller, UserCaller | ContainerCaller) else None
        timer = None
        if until is not None:
            seconds = max(0.0, (until - now()).total_seconds())
            timer = asyncio.get_running_loop().call_later(seconds, watch.end, Unauthenticated(EXPIRED))
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            self._held.discard(held)
            self._due.discard(held)

    def _on_signal(self, signal: Signal) -> None:
        if isinstance(signal, RightsChanged):
            due = {held for held in self._held if _is_user(held.caller, signal.user_id)}
        elif isinstance(signal, Resync):
            due = set(self._held)
        elif isinstance(signal, Happened) and signal.event.HasField("result"):
            # A container's token ends with its run.
            due = {held for held in self._held if _is_run(held.caller, signal.event.result.result_id)}
        else:
            return
        self._due |= due
        if self._due and self._work is None:
            self._work = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        try:
            while self._due:
                held = self._due.pop()
                if (error := await self._why_not(held)) is not None:
                    held.watch.end(error)
        finally:
            self._work = None

    async def _why_not(self, held: Held) -> Vantage6Error | None:
        try:
            topic = await held.topic(await self._accounts.again(held.caller))
        except Vantage6Error as error:
            return error
        except Exception:  # Not known is not allowed.
            log.exception("watch_not_checked")
            return Unavailable(CHANGED)
        return None if replace(topic, over=held.watch.topic.over) == held.watch.topic else Unavailable(CHANGED)


def _is_user(caller: Caller, user_id: int) -> bool:
    return isinstance(caller, UserCaller) and user_id in (0, caller.id)


def _is_run(caller: Caller, result_id: int) -> bool:
    return isinstance(caller, ContainerCaller) and caller.result_id == result_id


@dataclass
class _Log:
    task_id: int
    size: int = 0
    events: deque[event_pb2.Event] = field(default_factory=deque)


class RecentLogs:
    """The last lines of what runs now, for those who come to watch later; in memory, as sealed as they came."""

    def __init__(self) -> None:
        self._by_result: OrderedDict[int, _Log] = OrderedDict()
        self._size = 0

    def note(self, event: event_pb2.Event) -> None:
        if event.HasField("result") and int(event.result.state) not in ACTIVE:
            self._forget(event.result.result_id)
        elif event.HasField("log"):
            self._add(event)

    def of(self, task_id: int) -> list[event_pb2.Event]:
        """Of the runs of one task."""
        return [event for kept in self._by_result.values() if kept.task_id == task_id for event in kept.events]

    def _add(self, event: event_pb2.Event) -> None:
        kept = self._by_result.setdefault(event.log.result_id, _Log(event.log.task_id))
        kept.events.append(event)
        self._grow(kept, len(event.log.lines))
        while kept.size > LOG_OF_RESULT and len(kept.events) > 1:
            self._grow(kept, -len(kept.events.popleft().log.lines))
        while self._size > LOGS_OF_ALL:
            self._forget(next(iter(self._by_result)))

    def _grow(self, kept: _Log, size: int) -> None:
        kept.size += size
        self._size += size

    def _forget(self, result_id: int) -> None:
        if kept := self._by_result.pop(result_id, None):
            self._size -= kept.size
