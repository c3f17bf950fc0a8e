"""A real Envoy before a small server that speaks some of the contract, remembers what reached it, and no more."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.struct_pb2 import NULL_VALUE, Value

from vantage6.api.v1 import (
    delivery_pb2,
    delivery_pb2_grpc,
    event_pb2,
    event_pb2_grpc,
    organization_pb2,
    organization_pb2_grpc,
    payload_pb2,
    payload_pb2_grpc,
    system_pb2,
    system_pb2_grpc,
    task_pb2,
    task_pb2_grpc,
)
from vantage6.common.channel import Endpoint, open_channel
from vantage6.common.errors import AlreadyExists, NotFound, Vantage6Error, to_metadata
from vantage6.gateway.certificates import Certificates, make_certificates
from vantage6.gateway.config import GatewayConfig, Tls
from vantage6.gateway.run import Gateway

MIB = 1024 * 1024
ORIGIN = "https://portal.example"
BODY_LIMIT = 2 * MIB


@dataclass
class Seen:
    """What reached the server."""

    calls: list[dict[str, str]] = field(default_factory=list)

    def note(self, context: Any) -> None:
        self.calls.append({key: value for key, value in context.invocation_metadata() if isinstance(value, str)})

    @property
    def last(self) -> dict[str, str]:
        return self.calls[-1]


async def fail(context: Any, error: Vantage6Error) -> None:
    await context.abort(error.status, error.message, to_metadata(error))


def null() -> Value:
    return Value(null_value=NULL_VALUE)


class Fake:
    def __init__(self, seen: Seen) -> None:
        self.seen = seen


class Organizations(Fake, organization_pb2_grpc.OrganizationServiceServicer):
    async def GetOrganization(self, request: Any, context: Any) -> Any:
        self.seen.note(context)
        if request.id == 404:
            await fail(context, NotFound('no organization "404"\nat all', field="id"))
        return organization_pb2.Organization(
            id=request.id, name="North", zipcode="", collaborations=null(), public_key=b"\x00pem"
        )

    async def ListOrganizations(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.seen.note(context)
        if request.name == "broken":
            await fail(context, NotFound("no collaboration"))
        await context.send_initial_metadata(
            (("x-total-count", "2"), ("link", '</api/organization?page=2>; rel="next"'))
        )
        if request.name != "nobody":
            for number in (1, 2):
                yield organization_pb2.Organization(id=number, name=request.name or f"Hospital {number}")

    async def CreateOrganization(self, request: Any, context: Any) -> Any:
        self.seen.note(context)
        if request.name == "taken":
            await fail(context, AlreadyExists("name 'taken' is taken"))
        return organization_pb2.Organization(id=7, name=request.name)

    async def UpdateOrganization(self, request: Any, context: Any) -> Any:
        fields = ",".join(descriptor.name for descriptor, _ in request.ListFields())
        return organization_pb2.Organization(id=request.id, name=fields)


class Tasks(Fake, task_pb2_grpc.TaskServiceServicer):
    async def GetTask(self, request: Any, context: Any) -> Any:
        raise RuntimeError(f"not masked here, request {request.id}")

    async def CreateTask(self, request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("x-http-code", "202"),))
        return task_pb2.Task(id=len(request.organizations), name=request.name)

    async def ListTasks(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(3000):
            yield task_pb2.Task(id=number, description="d" * 1000)


class Payloads(Fake, payload_pb2_grpc.PayloadServiceServicer):
    async def WritePayload(self, request_iterator: Any, context: Any) -> Any:
        name, size, largest = "", 0, 0
        async for request in request_iterator:
            name = name or request.id
            size, largest = size + len(request.content.data), max(largest, len(request.content.data))
        return payload_pb2.Payload(id=name, size=size, received=largest, complete=True)

    async def ReadPayload(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(int(request.offset)):
            yield HttpBody(content_type="application/octet-stream", data=bytes(MIB))


class Events(Fake, event_pb2_grpc.EventServiceServicer):
    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.seen.note(context)
        for number in (1, 2, 3):
            yield event_pb2.Event(id=number)

    async def StreamEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for number in (1, 2):
            data = f"id: {number}\nevent: task\ndata: {{}}\n\n".encode()
            yield HttpBody(content_type="text/event-stream", data=data)


class Delivery(Fake, delivery_pb2_grpc.DeliveryServiceServicer):
    async def Connect(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        async for message in request_iterator:
            yield delivery_pb2.ServerMessage(drain=delivery_pb2.Drain(message=str(message.window.size)))


class System(Fake, system_pb2_grpc.SystemServiceServicer):
    async def GetVersion(self, request: Any, context: Any) -> Any:
        return system_pb2.Version(version="9.9", contract_version="1.0")

    async def GetEntryPoint(self, request: Any, context: Any) -> Any:
        return system_pb2.EntryPoint(link=Value(string_value="/api"))

    async def GetOpenApi(self, request: Any, context: Any) -> Any:
        return HttpBody(content_type="application/json", data=b'{"openapi":"3.1.0"}')


# Any: the stubs want every method of a service, here most are missing on purpose.
SERVICERS: tuple[tuple[Any, Any], ...] = (
    (organization_pb2_grpc.add_OrganizationServiceServicer_to_server, Organizations),
    (task_pb2_grpc.add_TaskServiceServicer_to_server, Tasks),
    (payload_pb2_grpc.add_PayloadServiceServicer_to_server, Payloads),
    (event_pb2_grpc.add_EventServiceServicer_to_server, Events),
    (delivery_pb2_grpc.add_DeliveryServiceServicer_to_server, Delivery),
    (system_pb2_grpc.add_SystemServiceServicer_to_server, System),
)


@dataclass
class Stage:
    """The gateway, with what a test needs to call it and to look behind it."""

    gateway: Gateway
    certificates: Certificates
    seen: Seen
    log: Path

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.gateway.url, self.certificates.ca)

    def rest(self) -> httpx.AsyncClient:
        trust = ssl.create_default_context(cafile=str(self.certificates.ca))
        return httpx.AsyncClient(base_url=self.gateway.url, verify=trust, timeout=30)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    seen = Seen()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 16 * MIB)])
    for add, servicer in SERVICERS:
        add(servicer(seen), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    log = tmp_path_factory.mktemp("gateway") / "access.log"
    config = GatewayConfig(
        listen="127.0.0.1:0",
        servers=(f"127.0.0.1:{port}",),
        tls=Tls(certificate=certificates.certificate, key=certificates.key),
        cors_origins=(ORIGIN,),
        max_body_bytes=BODY_LIMIT,
        access_log=log,
        workers=1,
    )
    async with Gateway(config) as gateway:
        yield Stage(gateway, certificates, seen, log)
    await server.stop(0)


@pytest_asyncio.fixture(loop_scope="session")
async def rest(stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    async with stage.rest() as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def channel(stage: Stage) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(stage.endpoint) as opened:
        yield opened
