"""A server on a small scale with the real envelopes: what it stores are envelopes, and its sites hold the keys."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.api import httpbody_pb2

from vantage6.api.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    collaboration_pb2,
    collaboration_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    organization_pb2,
    organization_pb2_grpc,
    payload_pb2,
    payload_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
    system_pb2,
    system_pb2_grpc,
    task_pb2,
    task_pb2_grpc,
    user_pb2,
    user_pb2_grpc,
)
from vantage6.common.chunks import CHUNK, INLINE_LIMIT, sha256
from vantage6.common.envelope import Binding, Purpose, open_sealed, seal
from vantage6.common.errors import AlreadyExists, NotFound, OutOfRange, Unauthenticated, Vantage6Error, to_metadata
from vantage6.common.keys import KeyPair, PublicKey
from vantage6.common.serialization import deserialize, serialize

OWN, NORTH, SOUTH = 1, 2, 3
COLLABORATION = 1
Context = Any


@dataclass
class Fake:
    """What the server knows, what the sites hold, and what is to go wrong."""

    encrypted: bool = True
    expires_in: int = 3600
    sites: dict[int, KeyPair] = field(default_factory=lambda: {NORTH: KeyPair.generate(), SOUTH: KeyPair.generate()})
    organizations: dict[int, organization_pb2.Organization] = field(default_factory=dict)
    tasks: dict[int, task_pb2.Task] = field(default_factory=dict)
    requests: list[task_pb2.CreateTaskRequest] = field(default_factory=list)
    results: dict[int, result_pb2.Result] = field(default_factory=dict)
    inputs: dict[int, bytes] = field(default_factory=dict)
    payloads: dict[str, bytearray] = field(default_factory=dict)
    announced: dict[str, payload_pb2.CreatePayloadRequest] = field(default_factory=dict)
    events: list[event_pb2.Event] = field(default_factory=list)
    happened: asyncio.Event = field(default_factory=asyncio.Event)
    watches: list[int] = field(default_factory=list)
    break_watch_after: list[int] = field(default_factory=list)
    # Instead: the token with which the watch began is over, and only a new one is taken.
    expire_watch_after: list[int] = field(default_factory=list)
    watching: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    refreshing: asyncio.Event = field(default_factory=asyncio.Event)
    # What was asked for: organizations one by one, and lists of results.
    looked_up: list[int] = field(default_factory=list)
    lists: list[result_pb2.ListResultsRequest] = field(default_factory=list)
    forgotten: int = 0
    break_write: int = 0
    break_read: int = 0
    refreshed: list[str] = field(default_factory=list)
    access: set[str] = field(default_factory=set)
    refresh: str = ""
    tokens: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for number, name in ((OWN, "University"), (NORTH, "Hospital North"), (SOUTH, "Hospital South")):
            pair = self.sites.get(number)
            key = pair.public.to_pem() if pair else b""
            self.organizations[number] = organization_pb2.Organization(id=number, name=name, public_key=key)

    def give_tokens(self) -> auth_pb2.TokenResponse:
        number = next(self.tokens)
        access, self.refresh = f"access-{number}", f"refresh-{number}"
        self.access = {access}
        return auth_pb2.TokenResponse(
            access_token=access, refresh_token=self.refresh, user_url="/api/user/9", expires_in=self.expires_in
        )

    # What sites do

    def happen(self, **kind: Any) -> None:
        self.events.append(event_pb2.Event(id=len(self.events) + 1, collaboration_id=COLLABORATION, **kind))
        self.happened.set()
        self.happened = asyncio.Event()

    def move(self, result_id: int, state: Any, **more: str) -> None:
        result = self.results[result_id]
        result.MergeFrom(result_pb2.Result(state=state, **more))  # type: ignore[arg-type]
        ids = {"result_id": result.id, "task_id": result.task_id, "organization_id": result.organization_id}
        self.happen(result=event_pb2.ResultEvent(**ids, state=state, **more))  # type: ignore[arg-type]

    def site_input(self, result_id: int) -> object:
        """What the site reads: opened with its own key, checked against the researcher's."""
        result = self.results[result_id]
        data = self.inputs[result_id]
        if self.encrypted:
            binding = self.binding(result, Purpose.INPUT)
            data = open_sealed(data, to=self.sites[result.organization_id], by=self.own_key(), binding=binding)
        return deserialize(data)

    def own_key(self) -> Any:
        return PublicKey.from_pem(self.organizations[OWN].public_key)

    def binding(self, result: result_pb2.Result, purpose: Purpose) -> Binding:
        key, site = self.tasks[result.task_id].key, result.organization_id
        ends = (OWN, site) if purpose is Purpose.INPUT else (site, OWN)
        return Binding(COLLABORATION, key, *ends, purpose)

    def complete(
        self, result_id: int, value: object, change: Callable[[bytes], bytes] = bytes, kind: str = "json"
    ) -> None:
        """A site returns a value; `change` is what happens to it on the way."""
        result = self.results[result_id]
        data = serialize(value, kind)
        if self.encrypted:
            binding = self.binding(result, Purpose.OUTPUT)
            data = seal(data, to=self.own_key(), by=self.sites[result.organization_id], binding=binding)
        data = change(data)
        if len(data) <= INLINE_LIMIT:
            result.output_content.inline = data
        else:
            result.output_content.payload_id = self.store(data)
        self.move(result_id, result_pb2.RESULT_STATE_COMPLETED)

    def store(self, data: bytes) -> str:
        name = f"payload-{len(self.payloads)}"
        self.payloads[name] = bytearray(data)
        self.announced[name] = payload_pb2.CreatePayloadRequest(size=len(data), sha256=sha256(data))
        return name

    def finish(self, task_id: int, state: int = task_pb2.TASK_STATE_COMPLETED) -> None:
        self.tasks[task_id].complete = True
        self.tasks[task_id].state = state  # type: ignore[assignment]
        self.happen(task=event_pb2.TaskEvent(task_id=task_id, state=state, complete=True))  # type: ignore[arg-type]


async def fail(context: Context, error: Vantage6Error) -> NoReturn:
    context.set_trailing_metadata(to_metadata(error))
    await context.abort(error.status, error.message)
    raise AssertionError


class Servicer(
    auth_pb2_grpc.AuthServiceServicer,
    collaboration_pb2_grpc.CollaborationServiceServicer,
    event_pb2_grpc.EventServiceServicer,
    organization_pb2_grpc.OrganizationServiceServicer,
    payload_pb2_grpc.PayloadServiceServicer,
    result_pb2_grpc.ResultServiceServicer,
    system_pb2_grpc.SystemServiceServicer,
    task_pb2_grpc.TaskServiceServicer,
    user_pb2_grpc.UserServiceServicer,
):
    """The RPCs that the client calls, over what the fake knows."""

    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    async def _check(self, context: Context) -> None:
        token = dict(context.invocation_metadata()).get("authorization", "").removeprefix("Bearer ")
        if token not in self.fake.access:
            await fail(context, Unauthenticated("log in"))

    async def CreateUserToken(self, request: Any, context: Context) -> auth_pb2.TokenResponse:
        if request.password != "secret":
            await fail(context, Unauthenticated("wrong name or password"))
        return self.fake.give_tokens()

    async def RefreshToken(self, request: Any, context: Context) -> auth_pb2.TokenResponse:
        self.fake.refreshed.append(request.refresh_token)
        self.fake.refreshing.set()
        await asyncio.sleep(0.05)  # others arrive meanwhile
        if request.refresh_token != self.fake.refresh:
            self.fake.access.clear()
            await fail(context, Unauthenticated("used before: the session is over"))
        return self.fake.give_tokens()

    async def GetVersion(self, request: Any, context: Context) -> system_pb2.Version:
        return system_pb2.Version(version="1.2.3")

    async def GetUser(self, request: Any, context: Context) -> user_pb2.User:
        await self._check(context)
        return user_pb2.User(id=request.id, username="alice", email="alice@example.org", organization_id=OWN)

    async def GetOrganization(self, request: Any, context: Context) -> organization_pb2.Organization:
        await self._check(context)
        self.fake.looked_up.append(request.id)
        return self.fake.organizations[request.id]

    async def ListOrganizations(self, request: Any, context: Context) -> AsyncIterator[organization_pb2.Organization]:
        await self._check(context)
        for each in self.fake.organizations.values():
            yield each

    async def UpdateOrganization(self, request: Any, context: Context) -> organization_pb2.Organization:
        await self._check(context)
        self.fake.organizations[request.id].public_key = request.public_key
        return self.fake.organizations[request.id]

    async def CreateOrganization(self, request: Any, context: Context) -> organization_pb2.Organization:
        await self._check(context)
        return await fail(context, AlreadyExists(f"the name {request.name} is taken"))

    async def GetCollaboration(self, request: Any, context: Context) -> collaboration_pb2.Collaboration:
        await self._check(context)
        ids = list(self.fake.organizations)
        return collaboration_pb2.Collaboration(
            id=request.id, name="study", encrypted=self.fake.encrypted, organization_ids=ids
        )

    async def CreateTask(self, request: task_pb2.CreateTaskRequest, context: Context) -> task_pb2.Task:
        await self._check(context)
        fake = self.fake
        fake.requests.append(request)
        task = task_pb2.Task(id=len(fake.tasks) + 1, state=task_pb2.TASK_STATE_PENDING, complete=False)
        task.name, task.image, task.key = request.name, request.image, request.key
        task.collaboration_id, task.initiator_id = request.collaboration_id, OWN
        fake.tasks[task.id] = task
        for each in request.organizations:
            number = len(fake.results) + 1
            fake.inputs[number] = each.input or bytes(fake.payloads[each.input_payload_id])
            name = fake.organizations[each.id].name
            fake.results[number] = result_pb2.Result(
                id=number,
                task_id=task.id,
                organization_id=each.id,
                organization_name=name,
                state=result_pb2.RESULT_STATE_PENDING,
                node_online=True,
            )
        fake.happen(task=event_pb2.TaskEvent(task_id=task.id, state=task_pb2.TASK_STATE_PENDING))
        return task

    async def GetTask(self, request: Any, context: Context) -> task_pb2.Task:
        await self._check(context)
        if request.id not in self.fake.tasks:
            await fail(context, NotFound(f"there is no task {request.id}"))
        return self.fake.tasks[request.id]

    async def ListTasks(self, request: Any, context: Context) -> AsyncIterator[task_pb2.Task]:
        await self._check(context)
        for each in self.fake.tasks.values():
            yield each

    async def GetResult(self, request: Any, context: Context) -> result_pb2.Result:
        await self._check(context)
        return self.fake.results[request.id]

    async def ListResults(self, request: Any, context: Context) -> AsyncIterator[result_pb2.Result]:
        await self._check(context)
        self.fake.lists.append(request)
        for each in self.fake.results.values():
            if each.task_id == request.task_id:
                yield each

    async def Watch(self, request: event_pb2.WatchRequest, context: Context) -> AsyncIterator[event_pb2.Event]:
        await self._check(context)
        fake = self.fake
        position = request.after_id
        fake.watches.append(position)
        fake.watching.put_nowait(position)
        if position and position <= fake.forgotten:
            await fail(context, OutOfRange("no longer kept"))
        sent = 0
        limit = fake.break_watch_after.pop(0) if fake.break_watch_after else -1
        expiry = fake.expire_watch_after.pop(0) if fake.expire_watch_after else -1
        while True:
            happened = fake.happened
            while position < len(fake.events):
                if sent == limit:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the server goes away")
                if sent == expiry:
                    fake.access.clear()
                    await fail(context, Unauthenticated("the token has expired"))
                event = fake.events[position]
                position, sent = position + 1, sent + 1
                yield event
                if event.WhichOneof("kind") == "task" and event.task.complete:
                    return
            await happened.wait()

    async def CreatePayload(self, request: payload_pb2.CreatePayloadRequest, context: Context) -> payload_pb2.Payload:
        await self._check(context)
        name = f"payload-{len(self.fake.payloads)}"
        self.fake.payloads[name], self.fake.announced[name] = bytearray(), request
        return self._payload(name)

    async def WritePayload(self, requests: AsyncIterator[Any], context: Context) -> payload_pb2.Payload:
        name = ""
        async for request in requests:
            if request.id:
                name = request.id
                if int(request.offset) != len(self.fake.payloads[name]):
                    await fail(context, OutOfRange("wrong offset"))
            self.fake.payloads[name] += request.content.data
            self.fake.announced[name].sha256 = request.sha256 or self.fake.announced[name].sha256
            if request.content.data and self.fake.break_write:
                self.fake.break_write -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")
        return self._payload(name)

    async def GetPayload(self, request: Any, context: Context) -> payload_pb2.Payload:
        return self._payload(request.id)

    async def ReadPayload(self, request: Any, context: Context) -> AsyncIterator[httpbody_pb2.HttpBody]:
        data = bytes(self.fake.payloads[request.id])
        for start in range(int(request.offset), len(data), CHUNK):
            yield httpbody_pb2.HttpBody(data=data[start : start + CHUNK])
            if self.fake.break_read:
                self.fake.break_read -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")

    def _payload(self, name: str) -> payload_pb2.Payload:
        announced, received = self.fake.announced[name], len(self.fake.payloads[name])
        return payload_pb2.Payload(
            id=name,
            size=announced.size,
            received=received,
            complete=received == announced.size,
            sha256=announced.sha256,
        )


async def serve(
    fake: Fake, credentials: grpc.ServerCredentials | None = None, kind: type[Any] | None = None
) -> tuple[grpc.aio.Server, str]:
    server = grpc.aio.server()
    servicer: Any = (kind or Servicer)(fake)  # type: ignore[abstract]
    auth_pb2_grpc.add_AuthServiceServicer_to_server(servicer, server)
    collaboration_pb2_grpc.add_CollaborationServiceServicer_to_server(servicer, server)
    event_pb2_grpc.add_EventServiceServicer_to_server(servicer, server)
    organization_pb2_grpc.add_OrganizationServiceServicer_to_server(servicer, server)
    payload_pb2_grpc.add_PayloadServiceServicer_to_server(servicer, server)
    result_pb2_grpc.add_ResultServiceServicer_to_server(servicer, server)
    system_pb2_grpc.add_SystemServiceServicer_to_server(servicer, server)
    task_pb2_grpc.add_TaskServiceServicer_to_server(servicer, server)
    user_pb2_grpc.add_UserServiceServicer_to_server(servicer, server)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    return server, f"{'https' if credentials else 'http'}://127.0.0.1:{port}"


def key_file(folder: Path, pair: KeyPair | None = None) -> Path:
    path = folder / "key.pem"
    (pair or KeyPair.generate()).save(path)
    return path
