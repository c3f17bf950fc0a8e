"""What runs print: pushed while they run, and the end of it from their results."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING

from vantage6.client import _contract as v1
from vantage6.client._models import LogLine, Organization, Result, ResultState, Task
from vantage6.client._parties import Collaborations, Organizations
from vantage6.common.envelope import Purpose

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from vantage6.client._encryption import Encryption
    from vantage6.client._session import Session
    from vantage6.client._waiting import Waiting

REMEMBERED = 5_000
"""Lines of one result that are known to have been shown, when the end of its log comes with its outcome."""


class Logs:
    """The lines of one task's runs, each once."""

    def __init__(self, session: Session, encryption: Encryption, waiting: Waiting, task: Task) -> None:
        self._session = session
        self._encryption = encryption
        self._waiting = waiting
        self._task = task
        self._senders: dict[int, Organization] = {}
        self._shown: dict[int, Counter[str]] = {}

    async def lines(self, only: int | None = None) -> AsyncGenerator[LogLine, None]:
        """Ends with the task, or with the result `only`."""
        self._encryption.required(await Collaborations(self._session).get(self._task.collaboration_id))
        async with aclosing(self._waiting.events(self._task.id)) as events:
            async for event in events:
                id_ = self._of(event)
                if id_ is None or only not in (None, id_):
                    continue
                for line in await self._live(event) if event.HasField("log") else await self._kept(id_):
                    yield line
                if event.HasField("result") and only is not None:
                    return
        # The end went by unseen, or events are no longer kept.
        request = v1.result_pb2.ListResultsRequest(task_id=self._task.id)
        async for message in self._session.stream(self._session.results.ListResults, request):
            if only in (None, message.id):
                for line in await self._kept(message.id):
                    yield line

    def _of(self, event: v1.event_pb2.Event) -> int | None:
        """The result that has printed something or has come to its end, if it is one of this task."""
        if event.HasField("log") and event.log.task_id == self._task.id:
            return event.log.result_id
        final = event.HasField("result") and ResultState(event.result.state).final
        return event.result.result_id if final and event.result.task_id == self._task.id else None

    async def _live(self, event: v1.event_pb2.Event) -> list[LogLine]:
        said = event.log
        lines = await self._opened(said.lines, said.organization_id, said.result_id)
        shown = self._shown.setdefault(said.result_id, Counter())
        shown.update(line.text for line in lines)
        if shown.total() > REMEMBERED:
            shown.clear()
            shown.update(line.text for line in lines)
        return lines

    async def _kept(self, id_: int) -> list[LogLine]:
        """The end of a log, without what was shown before."""
        message = await self._session.ask(self._session.results.GetResult, v1.result_pb2.GetResultRequest(id=id_))
        if not message.HasField("log_content"):
            return []
        result = Result.read(message)
        lines = await self._opened(message.log_content.inline, result.organization_id, id_)
        shown = self._shown.get(id_, Counter())
        self._shown[id_] = shown | Counter(line.text for line in lines)
        fresh = []
        for line in lines:
            if shown[line.text]:
                shown[line.text] -= 1
            else:
                fresh.append(line)
        return fresh

    async def _opened(self, data: bytes, organization_id: int, result_id: int) -> list[LogLine]:
        if organization_id not in self._senders:
            self._senders[organization_id] = await Organizations(self._session).get(organization_id)
        sender = self._senders[organization_id]
        text = (await self._encryption.open_line(data, sender, self._task, Purpose.LOG)).decode(errors="replace")
        # Nothing in it that a terminal obeys.
        clean = ("".join(c if c.isprintable() or c == "\t" else " " for c in line) for line in text.split("\n"))
        return [LogLine(sender.id, sender.name, result_id, line) for line in list(clean)[: text.count("\n") or None]]
