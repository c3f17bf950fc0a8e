"""The server as a node sees it: real gRPC, tables in memory, and levers for the tests."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody

from vantage6.api.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    delivery_pb2_grpc,
    event_pb2_grpc,
    organization_pb2_grpc,
    payload_pb2_grpc,
    result_pb2_grpc,
    task_pb2_grpc,
)
from vantage6.api.v1.delivery_pb2 import Hello, NodeMessage, Report, ReportAccepted, ServerMessage, Welcome
from vantage6.api.v1.event_pb2 import Event, WatchRequest
from vantage6.api.v1.organization_pb2 import Organization
from vantage6.api.v1.payload_pb2 import Payload
from vantage6.api.v1.result_pb2 import Result, ResultState
from vantage6.api.v1.task_pb2 import CancelTaskRequest, CreateTaskRequest, GetTaskRequest, Task

Context = grpc.aio.ServicerContext[Any, Any]
API_KEY = "the-api-key"
CONTAINER_TOKEN = "container-token"
PATIENCE = 10.0


class Connection:
    """One node's stream, seen from the server."""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello
        self.out: asyncio.Queue[ServerMessage | None] = asyncio.Queue()
        self.gone = asyncio.Event()

    def send(self, **message: Any) -> None:
        self.out.put_nowait(ServerMessage(**message))

    def close(self) -> None:
        self.out.put_nowait(None)


class FakeServer(
    auth_pb2_grpc.AuthServiceServicer,
    delivery_pb2_grpc.DeliveryServiceServicer,
    organization_pb2_grpc.OrganizationServiceServicer,
    task_pb2_grpc.TaskServiceServicer,
    event_pb2_grpc.EventServiceServicer,
    result_pb2_grpc.ResultServiceServicer,
    payload_pb2_grpc.PayloadServiceServicer,
):
    def __init__(self) -> None:
        self.welcome = Welcome(
            contract_version="1.0",
            node_id=11,
            node_name="north",
            organization_id=1,
            organization_name="North",
            collaboration_id=7,
            collaboration_name="study",
            encrypted=True,
            heartbeat_seconds=5,
        )
        self.organizations: dict[int, Organization] = {}
        self.connections: asyncio.Queue[Connection] = asyncio.Queue()
        self.reports: asyncio.Queue[Report] = asyncio.Queue()
        self.messages: list[NodeMessage] = []
        # Says whether a report is accepted, so that a test can lose the answer.
        self.accepts: Callable[[Report], bool] = lambda _: True
        self.tasks: dict[int, Task] = {}
        self.task_requests: list[CreateTaskRequest] = []
        self.cancelled_tasks: list[int] = []
        self.results: dict[int, Result] = {}
        self.events: list[Event] = []
        self.watches: list[WatchRequest] = []
        # A watch ends with UNAVAILABLE after so many events, once.
        self.break_watch_after: int | None = None
        self.news = asyncio.Condition()
        self.payloads: dict[str, tuple[Payload, bytearray]] = {}
        # The first upload breaks after so many bytes.
        self.break_upload_after: int | None = None
        # Each download breaks after so many messages.
        self.break_download_after: int | None = None
        self.offsets: list[int] = []
        self.tokens: list[str] = []
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        server = grpc.aio.server()
        auth_pb2_grpc.add_AuthServiceServicer_to_server(self, server)
        delivery_pb2_grpc.add_DeliveryServiceServicer_to_server(self, server)
        organization_pb2_grpc.add_OrganizationServiceServicer_to_server(self, server)
        task_pb2_grpc.add_TaskServiceServicer_to_server(self, server)
        event_pb2_grpc.add_EventServiceServicer_to_server(self, server)
        result_pb2_grpc.add_ResultServiceServicer_to_server(self, server)
        payload_pb2_grpc.add_PayloadServiceServicer_to_server(self, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        if self._server:
            await self._server.stop(grace=0)

    async def connection(self) -> Connection:
        return await asyncio.wait_for(self.connections.get(), PATIENCE)

    async def report(self, state: int) -> Report:
        """The next report with this state; others before it are passed over."""
        while True:
            report = await asyncio.wait_for(self.reports.get(), PATIENCE)
            if report.state == state:
                return report

    async def happen(self, event: Event) -> None:
        async with self.news:
            event.id = len(self.events) + 1
            self.events.append(event)
            self.news.notify_all()

    async def finish(self, result: Result) -> None:
        """A result becomes final, and its watchers hear of it."""
        self.results[result.id] = result
        event = Event(collaboration_id=7)
        event.result.result_id, event.result.task_id = result.id, result.task_id
        event.result.organization_id, event.result.state = result.organization_id, result.state
        await self.happen(event)

    # AuthService

    async def CreateNodeToken(
        self, request: auth_pb2.CreateNodeTokenRequest, context: Context
    ) -> auth_pb2.TokenResponse:
        if request.api_key != API_KEY:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown API key")
        return auth_pb2.TokenResponse(access_token="node-token", expires_in=3600)

    # DeliveryService

    async def Connect(
        self, request_iterator: AsyncIterator[NodeMessage], context: Context
    ) -> AsyncIterator[ServerMessage]:
        self._see(context)
        first = await anext(aiter(request_iterator))
        connection = Connection(first.hello)
        yield ServerMessage(welcome=self.welcome)
        self.connections.put_nowait(connection)
        reader = asyncio.create_task(self._read(request_iterator, connection))
        try:
            while (message := await connection.out.get()) is not None:
                yield message
        finally:
            connection.gone.set()
            reader.cancel()

    async def _read(self, requests: AsyncIterator[NodeMessage], connection: Connection) -> None:
        async for message in requests:
            self.messages.append(message)
            if message.WhichOneof("message") == "report":
                report = message.report
                self.reports.put_nowait(report)
                if self.accepts(report):
                    accepted = ReportAccepted(result_id=report.result_id, epoch=report.epoch, state=report.state)
                    connection.send(accepted=accepted)

    # OrganizationService

    async def ListOrganizations(self, request: Any, context: Context) -> AsyncIterator[Organization]:
        self._see(context)
        for organization in self.organizations.values():
            yield organization

    async def UpdateOrganization(self, request: Any, context: Context) -> Organization:
        if self.welcome.public_key:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "there is a key")
        self.welcome.public_key = request.public_key
        return Organization(id=request.id, public_key=request.public_key)

    async def GetOrganization(self, request: Any, context: Context) -> Organization:
        return Organization(id=request.id, public_key=self.welcome.public_key)

    # TaskService

    async def CreateTask(self, request: CreateTaskRequest, context: Context) -> Task:
        self._see(context)
        self.task_requests.append(request)
        id_ = 100 + len(self.tasks)
        self.tasks[id_] = Task(id=id_, key=request.key, parent_id=5, collaboration_id=request.collaboration_id)
        return self.tasks[id_]

    async def GetTask(self, request: GetTaskRequest, context: Context) -> Task:
        if request.id not in self.tasks:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such task")
        return self.tasks[request.id]

    async def CancelTask(self, request: CancelTaskRequest, context: Context) -> Task:
        self.cancelled_tasks.append(request.id)
        return self.tasks[request.id]

    # EventService, ResultService

    async def Watch(self, request: WatchRequest, context: Context) -> AsyncIterator[Event]:
        self._see(context)
        self.watches.append(request)
        at = request.after_id
        while True:
            async with self.news:
                while len(self.events) <= at:
                    await self.news.wait()
            event = self.events[at]
            at += 1
            yield event
            if self.break_watch_after == at:
                self.break_watch_after = None
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the line broke")
            if event.task.complete:
                return

    async def GetResult(self, request: Any, context: Context) -> Result:
        self._see(context)
        return self.results[request.id]

    # PayloadService

    async def CreatePayload(self, request: Any, context: Context) -> Payload:
        self._see(context)
        payload, _ = self.payloads.setdefault(
            request.idempotency_key,
            (Payload(id=request.idempotency_key, size=request.size, sha256=request.sha256), bytearray()),
        )
        return payload

    async def GetPayload(self, request: Any, context: Context) -> Payload:
        if request.id not in self.payloads:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such payload")
        return self.payloads[request.id][0]

    async def WritePayload(self, request_iterator: Any, context: Context) -> Payload:
        payload, data = None, bytearray()
        async for request in request_iterator:
            if payload is None:
                payload, data = self.payloads[request.id]
                if request.offset != len(data):
                    await context.abort(grpc.StatusCode.OUT_OF_RANGE, "wrong offset")
            data += request.content.data
            payload.sha256 = request.sha256 or payload.sha256
            payload.received = len(data)
            if self.break_upload_after is not None and len(data) >= self.break_upload_after:
                self.break_upload_after = None
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the line broke")
        assert payload is not None
        assert hashlib.sha256(data).digest() == payload.sha256
        payload.complete = True
        return payload

    async def ReadPayload(self, request: Any, context: Context) -> AsyncIterator[HttpBody]:
        _, data = self.payloads[request.id]
        self.offsets.append(int(request.offset))
        for start in range(int(request.offset), len(data), 1 << 20):
            if self.break_download_after is not None and start - request.offset >= self.break_download_after << 20:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the line broke")
            yield HttpBody(data=bytes(data[start : start + (1 << 20)]))

    def payload(self, data: bytes, id_: str) -> str:
        """Puts a payload into the store."""
        known = Payload(id=id_, complete=True, size=len(data), received=len(data), sha256=hashlib.sha256(data).digest())
        self.payloads[id_] = (known, bytearray(data))
        return id_

    def _see(self, context: Context) -> None:
        metadata = dict(context.invocation_metadata() or ())
        self.tokens.append(str(metadata.get("authorization", "")).removeprefix("Bearer "))


def result(id_: int, task_id: int, organization_id: int, state: ResultState.ValueType, output: bytes = b"") -> Result:
    found = Result(id=id_, task_id=task_id, organization_id=organization_id, state=state)
    found.organization_name = f"organization {organization_id}"
    found.output_content.inline = output
    return found
