"""Server and node in one process, with a line between them: what can be tried a hundred times."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
from sqlalchemy.exc import DBAPIError

from tests.chaos.line import Line, line_to
from tests.node.fake_runtime import FakeRuntime
from vantage6.api.v1 import (
    auth_pb2,
    auth_pb2_grpc,
    collaboration_pb2,
    collaboration_pb2_grpc,
    event_pb2,
    node_pb2,
    node_pb2_grpc,
    organization_pb2,
    organization_pb2_grpc,
    task_pb2,
    user_pb2,
    user_pb2_grpc,
)
from vantage6.node.app import Node
from vantage6.node.config import NodeConfig
from vantage6.node.retry import Backoff
from vantage6.node.runtimes.base import Runtime
from vantage6.server.app import Server
from vantage6.server.config import ServerConfig
from vantage6.server.domain import tasks
from vantage6.server.domain.caller import Operation, Resource, Scope, UserCaller
from vantage6.server.domain.events import Topic
from vantage6.server.domain.states import FINAL
from vantage6.server.store.tables import Event as EventRow
from vantage6.server.store.tables import Result, Task

T = TypeVar("T")

PATIENCE = 30.0
ROOT = "a password for root 17"
EVERYTHING = {(resource, operation): Scope.GLOBAL for resource in Resource for operation in Operation}


@dataclass
class Small:
    """One site; its node comes and goes, its runtime stays, as a container engine does."""

    folder: Path
    server: Server
    line: Line
    runtime: Runtime
    organization_id: int = 0
    collaboration_id: int = 0
    user_id: int = 0
    api_key: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    node: Node | None = None
    work: asyncio.Task[None] | None = None

    async def start_node(self) -> Node:
        base: dict[str, Any] = {
            "name": "north", "server_url": f"http://127.0.0.1:{self.line.port}", "api_key": self.api_key,
            "directories": {"data": self.folder / "node", "task": self.folder / "t"},
            "policy": {"allowed_images": [r".*"]}, "encrypted": False,
        }  # fmt: skip
        self.node = Node(NodeConfig.model_validate(base | self.settings), self.runtime, Backoff(0.05, 0.2))
        self.work = asyncio.create_task(self.node.run())
        async with asyncio.timeout(PATIENCE):
            # The server says welcome first and takes the node in then.
            while not self._online:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return self.node

    async def stop_node(self) -> None:
        if self.work is not None:
            self.work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.work
            self.work = None
            async with asyncio.timeout(PATIENCE):
                while self._online:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    @property
    def _online(self) -> bool:
        return self.server.dispatcher.is_online((self.organization_id, self.collaboration_id))

    async def create(self, **fields: Any) -> int:
        fields.setdefault("key", secrets.token_hex(8))
        request = task_pb2.CreateTaskRequest(
            collaboration_id=self.collaboration_id, image="count:1",
            organizations=[task_pb2.TaskOrganization(id=self.organization_id, input=b"json.{}")], **fields,
        )  # fmt: skip
        caller = UserCaller(
            self.user_id, "ada", self.organization_id, frozenset({self.collaboration_id}), 1, EVERYTHING
        )
        async with self.server.database.write() as store:
            return (await tasks.create(store, self.server.bus, caller, request)).id

    async def complete(self, task_id: int) -> event_pb2.Event:
        """Waits as a client does, for the event that says so."""
        watch = self.server.hub.open(Topic(task_id=task_id))
        last = event_pb2.Event()
        try:
            async with asyncio.timeout(PATIENCE):
                async for event in self.server.hub.follow(watch, None):
                    last = event
        finally:
            self.server.hub.close(watch)
        return last

    async def insist(self, **fields: Any) -> int:
        """Creates a task as the client does, which asks again, with the same key, when the server failed."""
        fields["key"] = secrets.token_hex(8)
        return await self._again(lambda: self.create(**fields))

    async def see_complete(self, task_id: int) -> event_pb2.Event:
        """As `complete`, for a database that comes and goes meanwhile."""
        return await self._again(lambda: self.complete(task_id))

    @staticmethod
    async def _again(work: Callable[[], Awaitable[T]]) -> T:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await work()
                except (DBAPIError, OSError):
                    await asyncio.sleep(0.1)

    async def rows(self) -> tuple[list[Result], list[Task]]:
        from sqlalchemy import select  # noqa: PLC0415 - only these tests look at all rows

        async with self.server.database.read() as store:
            return list(await store.session.scalars(select(Result))), list(await store.session.scalars(select(Task)))

    async def events(self) -> list[event_pb2.Event]:
        """All that the server's log has of results."""
        from sqlalchemy import select  # noqa: PLC0415 - only these tests look at all rows

        async with self.server.database.read() as store:
            events = [event_pb2.Event.FromString(row.body) for row in await store.session.scalars(select(EventRow))]
        return [event for event in events if event.HasField("result")]

    async def books_are_equal(self) -> None:
        """The node holds nothing any more, the server nothing open, and nothing is left of the runs."""
        assert self.node is not None
        async with asyncio.timeout(PATIENCE):
            while await self.node.journal.entries() or await self.node.journal.reports() or self._left():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        results, _ = await self.rows()
        assert all(result.state in FINAL for result in results)
        assert not [link.active for link in self.server.dispatcher._links.values() if link.active]

    def _left(self) -> bool:
        assert self.node is not None
        alive = self.runtime.alive if isinstance(self.runtime, FakeRuntime) else []
        outbox = list((self.folder / "node" / "outbox").iterdir())
        return bool(alive or outbox or self.node.site.workspace.runs())

    def starts(self) -> Counter[str]:
        assert isinstance(self.runtime, FakeRuntime)
        return Counter(spec.key for spec in self.runtime.started)


@asynccontextmanager
async def small_network(
    folder: Path,
    *,
    runtime: Runtime | None = None,
    heartbeat: float = 0.2,
    tokens: dict[str, float] | None = None,
    uri: str = "",
) -> AsyncIterator[Small]:
    (folder / "root").write_text(ROOT)
    config = ServerConfig.model_validate({
        "address": "127.0.0.1:0", "data_dir": folder / "server", "heartbeat_seconds": heartbeat,
        "root_password_file": folder / "root", "tokens": tokens or {}, "uri": uri,
    })  # fmt: skip
    async with Server(config) as server, line_to(lambda: server.port) as line:
        small = Small(folder, server, line, runtime or FakeRuntime())
        await _furnish(small)
        await small.start_node()
        try:
            yield small
        finally:
            await small.stop_node()
            if isinstance(small.runtime, FakeRuntime):
                small.runtime.vanish()


async def _furnish(small: Small) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{small.server.port}") as channel:
        request = auth_pb2.CreateUserTokenRequest(username="root", password=ROOT)
        token = (await auth_pb2_grpc.AuthServiceStub(channel).CreateUserToken(request)).access_token
        root = (("authorization", f"Bearer {token}"),)
        organizations = organization_pb2_grpc.OrganizationServiceStub(channel)
        make = organization_pb2.CreateOrganizationRequest(name="North")
        small.organization_id = (await organizations.CreateOrganization(make, metadata=root)).id
        join = collaboration_pb2.CreateCollaborationRequest(name="study", organization_ids=[small.organization_id])
        join.encrypted = False
        collaborations = collaboration_pb2_grpc.CollaborationServiceStub(channel)
        small.collaboration_id = (await collaborations.CreateCollaboration(join, metadata=root)).id
        node = node_pb2.CreateNodeRequest(
            organization_id=small.organization_id, collaboration_id=small.collaboration_id
        )
        small.api_key = (await node_pb2_grpc.NodeServiceStub(channel).CreateNode(node, metadata=root)).api_key
        person = user_pb2.CreateUserRequest(
            username="ada", email="ada@north.example", password="correct horse battery", roles="researcher",
            organization_id=small.organization_id,
        )  # fmt: skip
        small.user_id = (await user_pb2_grpc.UserServiceStub(channel).CreateUser(person, metadata=root)).id


def completed(event: event_pb2.Event) -> bool:
    return event.task.complete and event.task.state == task_pb2.TASK_STATE_COMPLETED
