"""A server and, before it, an Envoy gateway with TLS, each in a process of its own, with organizations to work with."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc

from benchmarks.children import Child
from vantage6.api.v1 import auth_pb2, collaboration_pb2, node_pb2, organization_pb2, user_pb2
from vantage6.api.v1.auth_pb2_grpc import AuthServiceStub
from vantage6.api.v1.collaboration_pb2_grpc import CollaborationServiceStub
from vantage6.api.v1.node_pb2_grpc import NodeServiceStub
from vantage6.api.v1.organization_pb2_grpc import OrganizationServiceStub
from vantage6.api.v1.user_pb2_grpc import UserServiceStub
from vantage6.client.client import AsyncClient
from vantage6.common.channel import Endpoint, open_channel
from vantage6.common.keys import KeyPair
from vantage6.gateway.certificates import make_certificates

T = TypeVar("T")
PASSWORD = "correct horse battery staple 7"
AT_ONCE = 32


@dataclass(frozen=True)
class Party:
    """An organization with its node."""

    organization_id: int
    api_key: str
    keys: KeyPair


@dataclass
class Deployment:
    folder: Path
    server: Child
    gateway: Child | None
    address: str
    """Of the server itself, which speaks without TLS."""
    url: str
    """Where clients and nodes connect: the gateway, or the server itself where there is none."""
    ca_file: Path | None
    root_token: str
    parties: list[Party] = field(default_factory=list)
    collaboration_id: int = 0

    @property
    def database(self) -> Path:
        return self.folder / "data" / "server.db"

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.url, self.ca_file)

    def channel(self, token: str = "", endpoint: Endpoint | None = None) -> grpc.aio.Channel:
        return open_channel(endpoint or self.endpoint, token=lambda: token)

    @property
    def direct(self) -> Endpoint:
        return Endpoint(f"http://{self.address}")

    @asynccontextmanager
    async def researcher(self) -> AsyncIterator[AsyncClient]:
        """A client that is logged in as a user of the first organization, with its key."""
        known = self.folder / "known.json"
        async with AsyncClient(self.url, ca_file=self.ca_file, known_organizations=known) as client:
            await client.authenticate("researcher", PASSWORD)
            path = self.folder / "researcher.pem"
            if not path.exists():
                self.parties[0].keys.save(path)
            await client.setup_encryption(path)
            yield client


@asynccontextmanager
async def deployment(folder: Path, *, gateway: bool = True, heartbeat: float = 30) -> AsyncIterator[Deployment]:
    """Starts the parts; heartbeats are rare, so that they do not count as the work that is measured."""
    folder.mkdir()  # noqa: ASYNC240 - before anything is measured
    async with AsyncExitStack() as stack:
        address = f"127.0.0.1:{free_port()}"
        config = _write(
            folder / "server.yaml",
            {"address": address, "root_password_file": "root-password", "heartbeat_seconds": heartbeat},
        )
        server = Child(
            "vantage6.server.cli", "start", "--foreground", "--config", str(config), log=folder / "server.log"
        )
        await stack.enter_async_context(server)
        await server.wait_for("server_listening")
        url, ca_file, envoy = f"http://{address}", None, None
        if gateway:
            certificates = make_certificates(folder / "certificates")
            listen = f"127.0.0.1:{free_port()}"
            tls = {"certificate": str(certificates.certificate), "key": str(certificates.key)}
            gateway_config: dict[str, object] = {
                "listen": listen,
                "servers": [address],
                "tls": tls,
                "access_log": "none",
                # One address asks for what many would.
                "requests_per_second": 0,
            }
            path = _write(folder / "gateway.yaml", gateway_config)
            envoy = Child("vantage6.gateway", "--config", str(path), log=folder / "gateway.log")
            await stack.enter_async_context(envoy)
            await envoy.wait_for("gateway ready")
            url, ca_file = f"https://{listen}", certificates.ca
        password = (folder / "root-password").read_text(encoding="utf-8").strip()
        async with open_channel(Endpoint(f"http://{address}")) as channel:
            request = auth_pb2.CreateUserTokenRequest(username="root", password=password)
            token = (await AuthServiceStub(channel).CreateUserToken(request)).access_token
        yield Deployment(folder, server, envoy, address, url, ca_file, token)


async def populate(made: Deployment, count: int, *, encrypted: bool = True) -> None:
    """Organizations with keys and nodes, one collaboration of all, and a researcher of the first."""
    async with made.channel(made.root_token, made.direct) as channel:
        organizations, nodes = OrganizationServiceStub(channel), NodeServiceStub(channel)
        keys = [KeyPair.generate() for _ in range(count)]

        async def organization(index: int) -> int:
            request = organization_pb2.CreateOrganizationRequest(
                name=f"organization {index}", public_key=keys[index].public.to_pem()
            )
            return int((await organizations.CreateOrganization(request)).id)

        ids = await some_at_once([lambda i=i: organization(i) for i in range(count)])  # type: ignore[misc]
        request = collaboration_pb2.CreateCollaborationRequest(name="study", organization_ids=ids, encrypted=encrypted)
        collaboration = await CollaborationServiceStub(channel).CreateCollaboration(request)
        made.collaboration_id = collaboration.id

        async def node(index: int) -> Party:
            request = node_pb2.CreateNodeRequest(
                collaboration_id=collaboration.id, organization_id=ids[index], name=f"node-{index}"
            )
            return Party(ids[index], (await nodes.CreateNode(request)).api_key, keys[index])

        made.parties = await some_at_once([lambda i=i: node(i) for i in range(count)])  # type: ignore[misc]
        user = user_pb2.CreateUserRequest(
            username="researcher", email="researcher@study.example", password=PASSWORD, roles="researcher",
            organization_id=ids[0],
        )  # fmt: skip
        await UserServiceStub(channel).CreateUser(user)


async def some_at_once(works: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(work: Callable[[], Awaitable[T]]) -> T:
        async with limit:
            return await work()

    return list(await asyncio.gather(*(one(work) for work in works)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write(path: Path, settings: dict[str, object]) -> Path:
    # JSON is YAML.
    path.write_text(json.dumps({"application": settings}), encoding="utf-8")
    return path
