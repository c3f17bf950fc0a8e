"""A real grpc.aio server in this process, with a small world in it."""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from argon2 import PasswordHasher

from vantage6.api.v1 import (
    audit_pb2_grpc,
    auth_pb2,
    auth_pb2_grpc,
    collaboration_pb2_grpc,
    event_pb2_grpc,
    node_pb2_grpc,
    organization_pb2_grpc,
    payload_pb2_grpc,
    result_pb2_grpc,
    role_pb2_grpc,
    system_pb2_grpc,
    task_pb2_grpc,
    user_pb2_grpc,
)
from vantage6.server.domain.accounts import AccountRules
from vantage6.server.domain.audit import AuditLog
from vantage6.server.domain.bootstrap import bootstrap
from vantage6.server.domain.bus import Bus, RightsChanged
from vantage6.server.domain.events import EventHub
from vantage6.server.domain.parties import Hooks
from vantage6.server.domain.payloads import PayloadDesk
from vantage6.server.domain.recovery import RecoveryRules
from vantage6.server.domain.secrets import Passwords, Tokens
from vantage6.server.domain.throttle import Throttle
from vantage6.server.domain.watching import WatchGuard
from vantage6.server.interceptors.audit import Auditing
from vantage6.server.interceptors.errors import errors
from vantage6.server.interceptors.identity import identity
from vantage6.server.interceptors.telemetry import telemetry
from vantage6.server.rpc.events import EventServicer
from vantage6.server.rpc.payloads import PayloadServicer
from vantage6.server.rpc.payloads import serve as serve_payloads
from vantage6.server.rpc.register import Parts, register
from vantage6.server.rpc.results import ResultServicer
from vantage6.server.rpc.tasks import TaskServicer
from vantage6.server.store.blobs import Blobs
from vantage6.server.store.migrate import upgrade
from vantage6.server.store.sql import Database
from vantage6.server.store.tables import Payload, Result, Task

from .databases import running_bus

PASSWORD = "correct horse battery"
ROOT_PASSWORD = "root of all evil, and good"

Metadata = tuple[tuple[str, str], ...]


@dataclass
class Stubs:
    """All services over one channel; calls take `metadata=` as every stub does."""

    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.auth: Any = auth_pb2_grpc.AuthServiceStub(self.channel)
        self.organizations: Any = organization_pb2_grpc.OrganizationServiceStub(self.channel)
        self.collaborations: Any = collaboration_pb2_grpc.CollaborationServiceStub(self.channel)
        self.nodes: Any = node_pb2_grpc.NodeServiceStub(self.channel)
        self.users: Any = user_pb2_grpc.UserServiceStub(self.channel)
        self.roles: Any = role_pb2_grpc.RoleServiceStub(self.channel)
        self.audit: Any = audit_pb2_grpc.AuditServiceStub(self.channel)
        self.system: Any = system_pb2_grpc.SystemServiceStub(self.channel)
        self.tasks: Any = task_pb2_grpc.TaskServiceStub(self.channel)
        self.results: Any = result_pb2_grpc.ResultServiceStub(self.channel)
        self.events: Any = event_pb2_grpc.EventServiceStub(self.channel)
        self.payloads: Any = payload_pb2_grpc.PayloadServiceStub(self.channel)


@dataclass
class Gone:
    """What the hooks were told."""

    nodes: list[int] = field(default_factory=list)
    payloads: list[str] = field(default_factory=list)

    def hooks(self) -> Hooks:
        def payloads_gone(payloads: Sequence[Payload]) -> None:
            self.payloads.extend(payload.id for payload in payloads)

        return Hooks(node_cut_off=lambda node: self.nodes.append(node.id), payloads_gone=payloads_gone)


@dataclass
class Mailbox:
    """Stands for the mail server (tests/server/test_mail.py has a real one)."""

    mails: list[tuple[str, str, str]] = field(default_factory=list)

    async def send(self, to: str, subject: str, body: str) -> None:
        self.mails.append((to, subject, body))


@dataclass
class Live:
    database: Database
    accounts: AccountRules
    tokens: Tokens
    passwords: Passwords
    throttle: Throttle
    port: int
    stubs: Stubs
    gone: Gone
    mailbox: Mailbox
    recovery: RecoveryRules
    tasks: TaskServicer
    bus: Bus

    async def login(self, username: str = "root", password: str = "") -> Metadata:
        """Metadata that say who is calling."""
        chosen = password or (ROOT_PASSWORD if username == "root" else PASSWORD)
        request = auth_pb2.CreateUserTokenRequest(username=username, password=chosen)
        return bearer((await self.stubs.auth.CreateUserToken(request)).access_token)

    async def login_node(self, api_key: str) -> Metadata:
        request = auth_pb2.CreateNodeTokenRequest(api_key=api_key)
        return bearer((await self.stubs.auth.CreateNodeToken(request)).access_token)

    async def add_run(
        self, collaboration_id: int, organization_id: int, state: int = 1, image: str = "image"
    ) -> tuple[Task, Result]:
        """A task with one result, straight into the tables."""
        now = dt.datetime.now(dt.UTC)
        async with self.database.write() as store:
            task = Task(
                collaboration_id=collaboration_id, key=secrets.token_hex(8), digest=b"", image=image, run_id=1,
                initiator_id=organization_id, state=1, created_at=now,
            )  # fmt: skip
            store.tasks.add(task)
            await store.flush()
            result = Result(task_id=task.id, organization_id=organization_id, state=state, epoch=1)
            store.results.add(result)
            await store.flush()
        return task, result


def bearer(token: str, *more: tuple[str, str]) -> Metadata:
    return (("authorization", f"Bearer {token}"), *more)


def rest(metadata: Metadata = ()) -> Metadata:
    """The same caller, through the gateway."""
    return (*metadata, ("x-vantage6-door", "rest"))


async def everything(stream: Any) -> list[Any]:
    return [message async for message in stream]


@asynccontextmanager
async def live_server(folder: Path, url: str) -> AsyncIterator[Live]:
    database = Database(url)
    await upgrade(database.engine)
    async with running_bus(database) as bus, _serving(folder, database, bus) as live:
        yield live
    await database.close()


@asynccontextmanager
async def _serving(folder: Path, database: Database, bus: Bus) -> AsyncIterator[Live]:
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    await bootstrap(database, passwords, root_password=ROOT_PASSWORD)
    tokens, throttle, gone = Tokens(secrets.token_hex(64)), Throttle(), Gone()
    accounts = AccountRules(database, tokens, passwords, throttle)
    mailbox, audit = Mailbox(), AuditLog(database)
    recovery = RecoveryRules(database, passwords, mailbox)
    server = grpc.aio.server(interceptors=[telemetry(), errors(), Auditing(audit.write), identity(accounts.identify)])
    register(server, Parts(database, accounts, passwords, throttle, gone.hooks(), {}, recovery, audit))
    blobs = Blobs(str(folder / "blobs"))
    tasks = TaskServicer(database, bus, blobs)
    task_pb2_grpc.add_TaskServiceServicer_to_server(tasks, server)
    result_pb2_grpc.add_ResultServiceServicer_to_server(ResultServicer(database), server)
    database.on_rights = lambda user_id: bus.publish(RightsChanged(user_id))
    events = EventServicer(database, EventHub(database, bus), WatchGuard(accounts, bus))
    event_pb2_grpc.add_EventServiceServicer_to_server(events, server)
    serve_payloads(PayloadServicer(PayloadDesk(database, blobs)), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    mailing = asyncio.create_task(recovery.run())
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stubs = Stubs(channel)
            yield Live(
                database, accounts, tokens, passwords, throttle, port, stubs, gone, mailbox, recovery, tasks, bus
            )
    finally:
        mailing.cancel()
        await asyncio.gather(mailing, return_exceptions=True)
        await server.stop(None)
        passwords.close()
