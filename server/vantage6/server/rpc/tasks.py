"""TaskService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from vantage6.api.v1 import result_pb2, task_pb2, task_pb2_grpc
from vantage6.server.domain import tasks
from vantage6.server.domain.bus import Bus
from vantage6.server.domain.caller import Resource, current_call
from vantage6.server.domain.permissions import task_sight
from vantage6.server.domain.states import OPEN_TASK_STATES, TaskState
from vantage6.server.domain.subtasks import SubtaskLimits
from vantage6.server.rpc.convert_tasks import task_message
from vantage6.server.rpc.filters import include, performer_of, states_named
from vantage6.server.rpc.pages import page_of, send_page_metadata
from vantage6.server.rpc.parents import require_parent
from vantage6.server.rpc.requests import given, span
from vantage6.server.rpc.results import result_messages
from vantage6.server.rpc.streaming import in_portions
from vantage6.server.store.blobs import Blobs
from vantage6.server.store.results import KINDS, ResultFilter
from vantage6.server.store.sql import Database, Store
from vantage6.server.store.tables import Task
from vantage6.server.store.tasks import TaskFilter


class TaskServicer(task_pb2_grpc.TaskServiceServicer):
    def __init__(self, database: Database, bus: Bus, blobs: Blobs, limits: SubtaskLimits = tasks.STANDARD) -> None:
        self._database = database
        self._bus = bus
        self._blobs = blobs
        self.limits = limits

    async def GetTask(self, request: task_pb2.GetTaskRequest, context: Any) -> task_pb2.Task:
        embed = include(request, "results")
        async with self._database.read() as store:
            task = await tasks.visible(store, current_call().caller, request.id)
            return (await task_messages(store, [task], embed=embed))[0]

    async def ListTasks(self, request: task_pb2.ListTasksRequest, context: Any) -> AsyncIterator[task_pb2.Task]:
        embed, page = include(request, "results"), page_of(request)
        async with self._database.read() as store:
            await require_parent(store, context)
            wanted = TaskFilter(
                task_sight(current_call().caller, Resource.TASK),
                collaboration_id=request.collaboration_id if request.HasField("collaboration_id") else None,
                performer=await performer_of(store, request),
                parent_id=request.parent_id if request.HasField("parent_id") else None,
                run_id=request.run_id if request.HasField("run_id") else None,
                states=states_named(request, TaskState, OPEN_TASK_STATES),
                name=request.name if request.HasField("name") else None,
                image=given(request, "image"),
                initiator_id=given(request, "initiator_id"),
                user_id=given(request, "user_id"),
                created_at=span(request, "created_"),
            )
            total = await store.tasks.count(wanted) if page.size else None
            await send_page_metadata(context, page, total)
            async for rows in in_portions(store.tasks.find, wanted, page):
                for message in await task_messages(store, rows, embed=embed):
                    yield message

    async def CreateTask(self, request: task_pb2.CreateTaskRequest, context: Any) -> task_pb2.Task:
        # Not 201, as other creating calls: programs for 1.x want it so.
        await context.send_initial_metadata((("x-http-code", "200"),))
        return await self._database.transact(lambda store: self._create(store, request))

    async def _create(self, store: Store, request: task_pb2.CreateTaskRequest) -> task_pb2.Task:
        task = await tasks.create(store, self._bus, current_call().caller, request, self.limits)
        await store.flush()
        return (await task_messages(store, [task]))[0]

    async def CancelTask(self, request: task_pb2.CancelTaskRequest, context: Any) -> task_pb2.Task:
        return await self._database.transact(lambda store: self._cancel(store, request))

    async def _cancel(self, store: Store, request: task_pb2.CancelTaskRequest) -> task_pb2.Task:
        task = await tasks.cancel(store, self._bus, current_call().caller, request.id)
        await store.flush()
        return (await task_messages(store, [task]))[0]

    async def DeleteTask(self, request: task_pb2.DeleteTaskRequest, context: Any) -> task_pb2.DeleteTaskResponse:
        caller = current_call().caller
        payloads = await self._database.transact(lambda store: tasks.delete(store, self._bus, caller, request.id))
        for payload in payloads:
            await self._blobs.delete(payload.id, payload.size)
        return task_pb2.DeleteTaskResponse(msg=f"task {request.id} deleted, with its children and results")

    async def ListTaskResults(
        self, request: task_pb2.ListTaskResultsRequest, context: Any
    ) -> AsyncIterator[result_pb2.Result]:
        page, caller = page_of(request), current_call().caller
        async with self._database.read() as store:
            task = await tasks.visible(store, caller, request.task_id)
            wanted = ResultFilter(task_sight(caller, Resource.RESULT), task_id=task.id)
            total = await store.results.count(wanted) if page.size else None
            await send_page_metadata(context, page, total)
            async for rows in in_portions(store.results.find, wanted, page):
                contents = KINDS if request.include_content else ()
                for message in await result_messages(store, rows, contents=contents, plain_ids=True):
                    yield message


async def task_messages(store: Store, rows: Sequence[Task], *, embed: bool = False) -> list[task_pb2.Task]:
    """Messages for rows, with a constant number of queries; links cost a gRPC caller nothing."""
    call = current_call()
    if not call.rest:
        return [task_message(row) for row in rows]
    ids = [row.id for row in rows]
    children = await store.tasks.child_ids(ids)
    # A node sees the tasks that it takes part in: not each child or parent of them, and of the results its own.
    kin = {child for of_one in children.values() for child in of_one} | {row.parent_id for row in rows if row.parent_id}
    seen = await store.tasks.visible_ids(kin, task_sight(call.caller, Resource.TASK))
    of_tasks = ResultFilter(task_sight(call.caller, Resource.RESULT), task_ids=ids)
    links = {} if embed else await store.results.ids_of_tasks(of_tasks)
    embedded = await _embedded(store, of_tasks) if embed else None
    return [
        task_message(
            row,
            links.get(row.id, ()),
            [child for child in children.get(row.id, ()) if child in seen],
            parent_id=row.parent_id if row.parent_id in seen else None,
            results=None if embedded is None else embedded.get(row.id, ()),
        )
        for row in rows
    ]


async def _embedded(store: Store, wanted: ResultFilter) -> dict[int, list[result_pb2.Result]]:
    """Whole results by task."""
    found = await store.results.find(wanted)
    of_task: dict[int, list[result_pb2.Result]] = {}
    for row, message in zip(found, await result_messages(store, found, plain_ids=True), strict=True):
        message.ClearField("task")
        of_task.setdefault(row.task_id, []).append(message)
    return of_task
