"""ResultService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

from vantage6.api.v1 import result_pb2, result_pb2_grpc, task_pb2
from vantage6.common.errors import NotFound
from vantage6.server.domain.caller import Resource, current_call
from vantage6.server.domain.permissions import task_sight
from vantage6.server.domain.states import OPEN, ResultState
from vantage6.server.rpc.convert_tasks import result_message, task_message
from vantage6.server.rpc.filters import include, performer_of, states_named
from vantage6.server.rpc.pages import page_of, send_page_metadata
from vantage6.server.rpc.requests import span
from vantage6.server.rpc.streaming import in_portions
from vantage6.server.store.results import KINDS, ResultFilter, Stored
from vantage6.server.store.sql import Database, Store
from vantage6.server.store.tables import Result, Task


class ResultServicer(result_pb2_grpc.ResultServiceServicer):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetResult(self, request: result_pb2.GetResultRequest, context: Any) -> result_pb2.Result:
        embed = include(request, "task")
        async with self._database.read() as store:
            wanted = ResultFilter(task_sight(current_call().caller, Resource.RESULT), ids=[request.id])
            rows = await store.results.find(wanted)
            if not rows:
                raise NotFound(f"there is no result {request.id} that you may see", id=request.id)
            return (await result_messages(store, rows, contents=KINDS, embed=embed))[0]

    async def ListResults(
        self, request: result_pb2.ListResultsRequest, context: Any
    ) -> AsyncIterator[result_pb2.Result]:
        embed, page = include(request, "task"), page_of(request)
        async with self._database.read() as store:
            wanted = ResultFilter(
                task_sight(current_call().caller, Resource.RESULT),
                states=states_named(request, ResultState, OPEN),
                task_id=request.task_id if request.HasField("task_id") else None,
                organization_id=request.organization_id if request.HasField("organization_id") else None,
                performer=await performer_of(store, request),
                finished_at=span(request, "finished_"),
                ids=request.ids or None,
            )
            kinds = tuple(request.content_kinds) or KINDS
            total = await store.results.count(wanted) if page.size else None
            await send_page_metadata(context, page, total)
            async for rows in in_portions(store.results.find, wanted, page):
                contents = kinds if request.include_content else ()
                for message in await result_messages(store, rows, contents=contents, embed=embed):
                    yield message


async def result_messages(
    store: Store, rows: Sequence[Result], *, contents: Sequence[str] = (), plain_ids: bool = False, embed: bool = False
) -> list[result_pb2.Result]:
    """Messages for rows, with a constant number of queries; REST always has all contents, as in 1.x."""
    rest = current_call().rest
    tasks = await store.tasks.by_ids({row.task_id for row in rows})
    of_result: dict[int, dict[str, Stored]] = {row.id: {} for row in rows}
    if contents or rest:
        kinds = KINDS if rest else contents
        for (result_id, kind), content in (await store.results.contents(list(of_result), *kinds)).items():
            of_result[result_id][kind] = content
    identities = await store.parties.identities({row.organization_id for row in rows})
    online = await store.parties.online_among(
        {row.organization_id for row in rows}, {task.collaboration_id for task in tasks.values()}
    )
    plain = await store.parties.plain_among({task.collaboration_id for task in tasks.values()}) if rest else set()
    embedded = await _embedded(store, tasks.values()) if embed and rest else {}
    messages = []
    for row in rows:
        task = tasks[row.task_id]
        message = result_message(
            row,
            of_result[row.id],
            task=task,
            plain_ids=plain_ids,
            embedded_task=embedded.get(task.id),
            encrypted=task.collaboration_id not in plain,
            organization_name=identities[row.organization_id].name,
            node_online=(row.organization_id, task.collaboration_id) in online,
        )
        messages.append(message)
    return messages


async def _embedded(store: Store, tasks: Collection[Task]) -> dict[int, task_pb2.Task]:
    """Those that the caller may see: who may see a result need not be one who may see its task."""
    kin = {task.id for task in tasks} | {task.parent_id for task in tasks if task.parent_id}
    seen = await store.tasks.visible_ids(kin, task_sight(current_call().caller, Resource.TASK))
    return {
        task.id: task_message(task, parent_id=task.parent_id if task.parent_id in seen else None)
        for task in tasks
        if task.id in seen
    }
