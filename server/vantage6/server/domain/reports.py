"""Takes the nodes' reports: many in one transaction, each accepted exactly once, acknowledged after the commit."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from vantage6.api.v1 import content_pb2, delivery_pb2
from vantage6.common.chunks import INLINE_LIMIT
from vantage6.common.envelope import looks_sealed
from vantage6.common.faults import point
from vantage6.server import metrics
from vantage6.server.domain.bus import Bus
from vantage6.server.domain.caller import NodeCaller
from vantage6.server.domain.events import now
from vantage6.server.domain.results import move, settle, try_again
from vantage6.server.domain.states import ACTIVE, FINAL, ResultState, Verdict, is_retried, judge
from vantage6.server.store.bulk import Moving
from vantage6.server.store.results import NewContent
from vantage6.server.store.sql import Database, Store
from vantage6.server.store.tables import Payload, Task

log = structlog.get_logger()

BATCH = 512
MAX_WAITING = 4 * BATCH
"""Reports that wait for the database; beyond that the nodes' streams are not read."""


class Reporter(Protocol):
    """The connection that a report came on."""

    node: NodeCaller

    def send(self, message: delivery_pb2.ServerMessage) -> None: ...

    def released(self, result_id: int) -> None: ...

    def drop(self, reason: str) -> None: ...


@dataclass(frozen=True)
class Item:
    reporter: Reporter
    report: delivery_pb2.Report


@dataclass(frozen=True)
class Refusal:
    reason: str
    message: str


@dataclass
class Batch:
    """The rows that a transaction's reports are about."""

    results: dict[int, Moving]
    tasks: dict[int, Task]
    payloads: dict[str, Payload]
    encrypted: dict[int, bool]
    # What the reports change.
    moved: dict[int, Moving] = field(default_factory=dict)
    contents: list[NewContent] = field(default_factory=list)
    unsettled: dict[int, Task] = field(default_factory=dict)


class ReportDesk:
    """Queues reports and commits them together: one transaction costs about the same for one report as for many."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._queue: asyncio.Queue[Item] = asyncio.Queue(MAX_WAITING)
        # By collaboration, for which it never changes.
        self._encrypted: dict[int, bool] = {}

    def submit(self, reporter: Reporter, report: delivery_pb2.Report) -> None:
        """Queues a report; raises `asyncio.QueueFull` where `submit_in_turn` would wait."""
        self._queue.put_nowait(Item(reporter, report))

    async def submit_in_turn(self, reporter: Reporter, report: delivery_pb2.Report) -> None:
        """Queues a report, first come, first served, as soon as there is room."""
        await self._queue.put(Item(reporter, report))

    async def run(self) -> None:
        while True:
            items = [await self._queue.get()]
            while len(items) < BATCH and not self._queue.empty():
                items.append(self._queue.get_nowait())
            await self._accept_or_drop(items)
            for _ in items:
                self._queue.task_done()

    async def idle(self) -> None:
        """Waits until all that was submitted is accepted, refused or given up."""
        await self._queue.join()

    async def _accept_or_drop(self, items: list[Item]) -> None:
        try:
            await self._accept(items)
        except Exception:  # One bad report or a database that is away must not end the desk.
            log.exception("reports_not_committed", count=len(items))
            if len(items) > 1:
                for item in items:
                    await self._accept_or_drop([item])
                return
            # Not acknowledged, so the node says it again when it has reconnected.
            items[0].reporter.drop("the report could not be stored")

    async def _accept(self, items: list[Item]) -> None:
        await self._database.transact(lambda store: self._accept_in(store, items))

    async def _accept_in(self, store: Store, items: list[Item]) -> None:
        store.after_commit(lambda: point("server.report.after_commit"))
        batch = await self._load(store, items)
        for item in items:
            refusal = self._apply(store, batch, item)
            _answer_after_commit(store, item, refusal)
        if batch.moved:
            await store.results.save(batch.moved.values())
            await store.results.add_contents(batch.contents)
            await settle(store, self._bus, batch.unsettled.values())
        point("server.report.before_commit")

    async def _load(self, store: Store, items: list[Item]) -> Batch:
        results, tasks = await _load_rows(store, {item.report.result_id for item in items})
        payload_ids = {
            content.payload_id
            for item in items
            for content in (item.report.output, item.report.log)
            if content.WhichOneof("place") == "payload_id"
        }
        payloads = await store.payloads.by_ids(payload_ids) if payload_ids else {}
        for collaboration_id in {task.collaboration_id for task in tasks.values()} - self._encrypted.keys():
            collaboration = await store.parties.collaboration(collaboration_id)
            self._encrypted[collaboration_id] = collaboration is None or collaboration.encrypted
        return Batch(results, tasks, payloads, self._encrypted)

    def _apply(self, store: Store, batch: Batch, item: Item) -> Refusal | None:
        report = item.report
        result = batch.results.get(report.result_id)
        task = batch.tasks.get(result.task_id) if result else None
        # The same answer for another node's result as for none: ids are no secret, but their owners are.
        if result is None or task is None or not _owns(item.reporter.node, result, task):
            return Refusal("NOT_FOUND", f"result {report.result_id} is not assigned to this node")
        # PENDING again: the assignment was taken back, whoever still speaks of it.
        if report.epoch != result.epoch or result.state == ResultState.PENDING:
            return Refusal("LEASE_LOST", "the result was cancelled, ended or given out again meanwhile")
        state = ResultState(report.state) if report.state in ResultState._value2member_map_ else None
        verdict = judge(ResultState(result.state), state) if state else Verdict.REFUSE
        if state is None or verdict is Verdict.REFUSE:
            return Refusal("INVALID_STATE", f"no move from {ResultState(result.state).name} to {report.state}")
        if verdict is Verdict.KNOWN:
            if state is ResultState.ASSIGNED:
                metrics.delivered(result.assigned_at, now())
            return None
        if refusal := _check_contents(report, batch, batch.encrypted[task.collaboration_id]):
            state, report = ResultState.FAILED, _failure_of(report, refusal)
        self._write(store, batch, report, task, result, state)
        batch.moved[result.id] = result
        if result.state not in ACTIVE:
            # Between the active states a task's own state stays as it is.
            batch.unsettled[task.id] = task
        return None

    def _write(
        self,
        store: Store,
        batch: Batch,
        report: delivery_pb2.Report,
        task: Task,
        result: Moving,
        state: ResultState,
    ) -> None:
        if report.HasField("start_time"):
            result.started_at = _time(report.start_time)
        if report.HasField("finish_time"):
            result.finished_at = _time(report.finish_time)
        # A lost run has one reason, whatever its node calls it.
        reason = "LOST" if state is ResultState.LOST else report.reason[:64]
        retried = is_retried(state, reason, failures=task.retry_failures)
        (try_again if retried else move)(store, self._bus, task, result, state, reason, report.message[:4000])
        for kind in ("output", "log") if result.state in FINAL else ():
            if report.HasField(kind):
                metrics.received(len(getattr(report, kind).inline))
                batch.contents.append(_content_row(result.id, kind, getattr(report, kind)))


def _content_row(result_id: int, kind: str, content: content_pb2.Content) -> NewContent:
    if content.WhichOneof("place") == "payload_id":
        return NewContent(result_id, kind, None, content.payload_id)
    return NewContent(result_id, kind, content.inline)


async def _load_rows(store: Store, ids: set[int]) -> tuple[dict[int, Moving], dict[int, Task]]:
    if store.shared:
        tasks = await store.tasks.locked(await store.results.task_ids(ids))
        # Read after the lock, so that they are as the last transaction left them.
        return await store.results.moving(ids), tasks
    results = await store.results.moving(ids)
    return results, await store.tasks.by_ids({result.task_id for result in results.values()})


def _owns(node: NodeCaller, result: Moving, task: Task) -> bool:
    return (node.organization_id, node.collaboration_id) == (result.organization_id, task.collaboration_id)


def _check_contents(report: delivery_pb2.Report, batch: Batch, encrypted: bool) -> Refusal | None:
    for kind, content in (("output", report.output), ("log", report.log)):
        place = content.WhichOneof("place")
        if place == "inline":
            if len(content.inline) > INLINE_LIMIT:
                return Refusal("TOO_LARGE", f"{kind} of {len(content.inline)} bytes: upload it as a payload")
            if looks_sealed(content.inline) != encrypted:
                return Refusal("NOT_SEALED", f"{kind} is {'not ' if encrypted else ''}sealed, which this "
                               "collaboration forbids")  # fmt: skip
        elif place == "payload_id":
            payload = batch.payloads.get(content.payload_id)
            if payload is None or not payload.complete or payload.result_id != report.result_id:
                return Refusal("PAYLOAD_MISSING", f"{kind}: payload {content.payload_id!r} is not complete")
    return None


def _failure_of(report: delivery_pb2.Report, refusal: Refusal) -> delivery_pb2.Report:
    """A final state is due even where the contents cannot be taken: nothing stays open for ever."""
    failed = delivery_pb2.Report(
        result_id=report.result_id, epoch=report.epoch, reason=refusal.reason, message=refusal.message
    )
    if report.HasField("start_time"):
        failed.start_time.CopyFrom(report.start_time)
    return failed


def _answer_after_commit(store: Store, item: Item, refusal: Refusal | None) -> None:
    report, reporter = item.report, item.reporter

    def answer() -> None:
        if refusal:
            refused = delivery_pb2.ReportRefused(
                result_id=report.result_id,
                epoch=report.epoch,
                state=report.state,
                reason=refusal.reason,
                message=refusal.message,
            )
            reporter.send(delivery_pb2.ServerMessage(refused=refused))
        else:
            accepted = delivery_pb2.ReportAccepted(result_id=report.result_id, epoch=report.epoch, state=report.state)
            reporter.send(delivery_pb2.ServerMessage(accepted=accepted))
        if refusal or ResultState(report.state) in FINAL:
            reporter.released(report.result_id)

    store.after_commit(answer)


def _time(timestamp: Timestamp) -> dt.datetime:
    return timestamp.ToDatetime(tzinfo=dt.UTC)
