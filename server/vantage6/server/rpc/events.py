"""EventService: what happens, pushed to users and to containers that wait for their subtasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.api import httpbody_pb2
from google.protobuf import json_format

from vantage6.api.v1 import event_pb2, event_pb2_grpc
from vantage6.common.errors import InvalidArgument, NotFound, PermissionDenied
from vantage6.server.domain import permissions, tasks
from vantage6.server.domain.caller import Caller, ContainerCaller, Operation, Resource, UserCaller, current_call
from vantage6.server.domain.events import EventHub, Topic
from vantage6.server.domain.watching import WatchGuard
from vantage6.server.store.sql import Database

SSE = "text/event-stream"


class EventServicer(event_pb2_grpc.EventServiceServicer):
    def __init__(self, database: Database, hub: EventHub, guard: WatchGuard) -> None:
        self._database = database
        self._hub = hub
        self._guard = guard

    async def Watch(self, request: event_pb2.WatchRequest, context: Any) -> AsyncIterator[event_pb2.Event]:
        after_id = request.after_id if request.HasField("after_id") else None
        async for event in self._follow(request, after_id, context):
            yield event

    async def StreamEvents(
        self, request: event_pb2.StreamEventsRequest, context: Any
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        after_id = request.after_id if request.HasField("after_id") else _last_event_id(context)
        async for event in self._follow(request, after_id, context):
            yield httpbody_pb2.HttpBody(content_type=SSE, data=as_sse(event))

    async def _follow(
        self, request: event_pb2.WatchRequest | event_pb2.StreamEventsRequest, after_id: int | None, context: Any
    ) -> AsyncIterator[event_pb2.Event]:
        caller = current_call().caller
        watch = self._hub.open(await self._topic(caller, request))
        try:
            with self._guard.over(watch, caller, lambda caller: self._topic(caller, request)):
                begun = await self._hub.start(watch.topic) if after_id is None else None
                # From here on nothing is missed; who waits for this may create the task that it watches for.
                await context.send_initial_metadata(())
                async for event in self._hub.follow(watch, after_id, begun):
                    yield event
        finally:
            self._hub.close(watch)

    async def _topic(self, caller: Caller, request: event_pb2.WatchRequest | event_pb2.StreamEventsRequest) -> Topic:
        only_final = isinstance(request, event_pb2.WatchRequest) and request.only_final
        if request.HasField("task_id"):
            async with self._database.read() as store:
                task = await tasks.visible(store, caller, request.task_id)
                # Of its own task an algorithm would hear how the other sites are doing.
                siblings = isinstance(caller, ContainerCaller) and task.parent_id != caller.task_id
                # Who may see the task need not be one who is told of what happens: a node is not.
                if siblings or not await store.tasks.within(task, permissions.task_sight(caller, Resource.EVENT)):
                    raise PermissionDenied("You may not watch this task.")
            over = task.finished_at is not None
            return Topic(request.task_id, only_final=only_final, logs=_reads_logs(caller), over=over)
        if isinstance(caller, ContainerCaller):
            raise InvalidArgument("task_id: an algorithm watches its own subtasks", field="task_id")
        if not isinstance(caller, UserCaller):
            raise PermissionDenied("events are for users and algorithms")
        everything = permissions.visibility(caller, Resource.EVENT).everything
        visible = frozenset(
            collaboration_id
            for collaboration_id in caller.collaboration_ids
            if permissions.allows(caller, Resource.EVENT, Operation.VIEW, collaboration_ids=[collaboration_id])
        )
        if not request.HasField("collaboration_id"):
            seen = None if everything else visible
            return Topic(collaboration_ids=seen, only_final=only_final, logs=_reads_logs(caller))
        if not everything and request.collaboration_id not in visible:
            raise NotFound(f"there is no collaboration {request.collaboration_id} that you may see")
        seen = frozenset({request.collaboration_id})
        return Topic(collaboration_ids=seen, only_final=only_final, logs=_reads_logs(caller))


def _reads_logs(caller: Caller) -> bool:
    """Lines of a run are a part of its result; an algorithm has no use for those of others."""
    results, events = (permissions.scope_of(caller, each, Operation.VIEW) for each in (Resource.RESULT, Resource.EVENT))
    return isinstance(caller, UserCaller) and results is not None and events is not None and results >= events


def _last_event_id(context: Any) -> int | None:
    for key, value in context.invocation_metadata() or ():
        if key == "last-event-id" and str(value).isdigit():
            return int(value)
    return None


def as_sse(event: event_pb2.Event) -> bytes:
    """The event in the format of server-sent events; a comment for one that says nothing."""
    if event.WhichOneof("kind") is None:
        return b": still here\n\n"
    kind = event.WhichOneof("kind")
    data = json_format.MessageToJson(event, preserving_proto_field_name=True, indent=None)
    name = f"id: {event.id}\n" if event.id else ""
    return f"{name}event: {kind}\ndata: {data}\n\n".encode()
