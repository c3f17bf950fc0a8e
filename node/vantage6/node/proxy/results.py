"""The results of a subtask, pushed by the server's events, fetched, opened, and their senders' signatures checked."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from typing import BinaryIO, cast

import grpc
import structlog

from vantage6.api.v1.algorithm_pb2 import SubtaskResult
from vantage6.api.v1.event_pb2 import Event, WatchRequest
from vantage6.api.v1.event_pb2_grpc import EventServiceStub
from vantage6.api.v1.result_pb2 import GetResultRequest, Result
from vantage6.api.v1.result_pb2_grpc import ResultServiceStub
from vantage6.common.chunks import CHUNK
from vantage6.common.errors import OutOfRange, Unavailable, Vantage6Error, from_rpc_error
from vantage6.node import states
from vantage6.node.proxy.directory import Directory
from vantage6.node.proxy.run import ProxiedRun
from vantage6.node.retry import PASSING, Backoff, pause, reached

log = structlog.get_logger(__name__)


class Results:
    """Waits for the results of one subtask. Goes on over lost connections, each result once."""

    def __init__(self, run: ProxiedRun, directory: Directory, task_id: int, task_key: str) -> None:
        self._run = run
        self._directory = directory
        self._task_id = task_id
        self._task_key = task_key
        self._events = EventServiceStub(run.channel)
        self._results = ResultServiceStub(run.channel)
        self._after: int | None = None
        self._seen: set[int] = set()
        self._complete = False

    async def stream(self) -> AsyncIterator[SubtaskResult]:
        """Yields each final result once, and ends when the task is complete."""
        backoff = Backoff()
        while True:
            try:
                async for result in self._watch():
                    backoff.reset()
                    yield result
                if self._complete:
                    return
                failure: Vantage6Error = Unavailable("the server ended the watch")
            except PASSING as error:
                failure = error
            except OutOfRange as error:
                if self._after is None:
                    raise
                # The events since are no longer kept: from the task's first one on; what was seen is left out.
                self._after, failure = None, error
            await pause(failure, backoff)

    async def _watch(self) -> AsyncIterator[SubtaskResult]:
        request = WatchRequest(task_id=self._task_id, after_id=self._after)
        call = self._events.Watch(request, metadata=self._run.metadata)
        try:
            async for event in call:
                if (result_id := self._finished(event)) is not None:
                    async for part in self._fetch(result_id):
                        yield part
                    self._seen.add(result_id)
                self._after = event.id or self._after
                if event.WhichOneof("kind") == "task" and event.task.task_id == self._task_id and event.task.complete:
                    self._complete = True
                    return
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    def _finished(self, event: Event) -> int | None:
        result = event.result
        if event.WhichOneof("kind") != "result" or result.task_id != self._task_id or result.state not in states.FINAL:
            return None
        return None if result.result_id in self._seen else result.result_id

    async def _fetch(self, result_id: int) -> AsyncIterator[SubtaskResult]:
        request = GetResultRequest(id=result_id)
        result = await reached(lambda: self._results.GetResult(request, metadata=self._run.metadata))
        answer = SubtaskResult(
            result_id=result.id,
            organization_id=result.organization_id,
            organization_name=result.organization_name,
            state=result.state,
            reason=result.reason,
            message=result.message,
        )
        # Opened to its end before the container sees a byte; in memory while it is small.
        with tempfile.SpooledTemporaryFile(max_size=CHUNK, dir=str(self._run.spool_folder)) as file:
            if result.state == states.COMPLETED:
                try:
                    await self._open(result, cast("BinaryIO", file))
                except Vantage6Error as error:
                    # One site's broken output is that site's failure, and never data.
                    log.warning("output_not_opened", result_id=result.id, reason=error.reason, message=error.message)
                    answer.state, answer.reason, answer.message = states.FAILED, error.reason, error.message
                    file.truncate(0)
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            while True:
                answer.output = await asyncio.to_thread(file.read, CHUNK)
                answer.more = file.tell() < size
                yield answer
                if not answer.more:
                    return
                answer = SubtaskResult(result_id=result.id)

    async def _open(self, result: Result, file: BinaryIO) -> None:
        run = self._run
        by = None
        if run.sealer.encrypted:
            member = (await self._directory.find([result.organization_id]))[result.organization_id]
            by = run.sealer.sender(member.id, member.name, member.public_key)
        into = run.sealer.incoming_output(self._task_key, result.organization_id, by, file, run.input_limit)
        await run.payloads.fetch(result.output_content, into, run.assignment.container_token)
