"""A server without its gRPC surface: real database, real dispatcher, real report desk; obedient nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from vantage6.api.v1 import content_pb2, delivery_pb2, result_pb2, task_pb2
from vantage6.server.domain import tasks
from vantage6.server.domain.bus import Bus, Resync
from vantage6.server.domain.caller import NodeCaller, Operation, Resource, Scope, UserCaller
from vantage6.server.domain.dispatch import Dispatcher
from vantage6.server.domain.events import EventHub
from vantage6.server.domain.links import Claim, Link
from vantage6.server.domain.reports import ReportDesk
from vantage6.server.domain.states import ResultState
from vantage6.server.store.parties import Program
from vantage6.server.store.sql import Database
from vantage6.server.store.tables import Collaboration, Member, Node, Organization, Result, Row, Task, User

from .databases import running_bus

EVERYTHING = {(resource, operation): Scope.GLOBAL for resource in Resource for operation in Operation}


@dataclass
class World:
    database: Database
    bus: Bus
    hub: EventHub
    dispatcher: Dispatcher
    desk: ReportDesk
    organizations: list[int]
    collaboration_id: int
    user: UserCaller
    nodes: list[NodeCaller]

    async def create_task(self, *organizations: int, **fields: object) -> Task:
        """A task for these organizations, or for all of them."""
        targets = organizations or tuple(self.organizations)
        request = task_pb2.CreateTaskRequest(
            collaboration_id=self.collaboration_id,
            image="image",
            organizations=[task_pb2.TaskOrganization(id=i, input=b"json.{}") for i in targets],
            **fields,  # type: ignore[arg-type]
        )
        async with self.database.write() as store:
            return await tasks.create(store, self.bus, self.user, request)

    async def connect(
        self,
        node: NodeCaller,
        *,
        window: int = 10,
        held: dict[int, Claim] | None = None,
        program: Program = Program(version="1"),  # noqa: B008 - frozen
    ) -> Link:
        return await self.dispatcher.connect(node, window, program, held or {})

    async def result(self, result_id: int) -> Result:
        async with self.database.read() as store:
            row = await store.results.get(result_id)
        assert row is not None
        return row

    async def task(self, task_id: int) -> Task:
        async with self.database.read() as store:
            row = await store.tasks.get(task_id)
        assert row is not None
        return row

    async def settled(self) -> None:
        """Waits until the dispatcher and the desk have done all that they can do now."""
        await self.desk.idle()
        await self.dispatcher.idle()


@dataclass
class Heard:
    """What a node took from its link."""

    assignments: list[delivery_pb2.Assignment] = field(default_factory=list)
    accepted: list[delivery_pb2.ReportAccepted] = field(default_factory=list)
    refused: list[delivery_pb2.ReportRefused] = field(default_factory=list)
    cancels: list[delivery_pb2.Cancel] = field(default_factory=list)
    superseded: bool = False
    closed: bool = False


async def hear(link: Link, count: int = 1) -> Heard:
    """Waits for `count` messages (or the end of the link) and sorts them."""
    heard = Heard()
    for _ in range(count):
        async with asyncio.timeout(10):
            message = await link.outgoing.get()
        if message is None:
            heard.closed = True
            break
        match message.WhichOneof("message"):
            case "assignment":
                heard.assignments.append(message.assignment)
            case "accepted":
                heard.accepted.append(message.accepted)
            case "refused":
                heard.refused.append(message.refused)
            case "cancel":
                heard.cancels.append(message.cancel)
            case "superseded":
                heard.superseded = True
    return heard


def report(
    assignment: delivery_pb2.Assignment, state: ResultState, output: bytes | None = None, **fields: object
) -> delivery_pb2.Report:
    message = delivery_pb2.Report(
        result_id=assignment.result_id,
        epoch=assignment.epoch,
        state=result_pb2.ResultState.ValueType(int(state)),
        **fields,  # type: ignore[arg-type]
    )
    if output is not None:
        message.output.CopyFrom(content_pb2.Content(inline=output))
    return message


@dataclass(frozen=True)
class Rows:
    """What is in the database of a world."""

    organizations: list[int]
    collaboration_id: int
    user: UserCaller
    nodes: list[NodeCaller]


@asynccontextmanager
async def make_world(url: str, *, sites: int = 3, encrypted: bool = False) -> AsyncIterator[World]:
    rows = await add_rows(url, sites=sites, encrypted=encrypted)
    async with replica(url, rows) as world:
        yield world


async def add_rows(url: str, *, sites: int = 3, encrypted: bool = False) -> Rows:
    database = Database(url)
    async with database.engine.begin() as connection:
        await connection.run_sync(Row.metadata.create_all)
    async with database.write() as store:
        organizations = [Organization(name=f"site {i}") for i in range(sites)]
        collaboration = Collaboration(name="study", encrypted=encrypted)
        store.session.add_all([*organizations, collaboration])
        await store.flush()
        store.session.add_all([Member(collaboration_id=collaboration.id, organization_id=o.id) for o in organizations])
        rows = [
            Node(name=f"node {o.id}", api_key_hash=str(o.id), organization_id=o.id, collaboration_id=collaboration.id)
            for o in organizations
        ]
        user = User(username="ada", email="ada@site.example", password_hash="", organization_id=organizations[0].id)
        store.session.add_all([*rows, user])
    await database.close()
    caller = UserCaller(user.id, "ada", organizations[0].id, frozenset({collaboration.id}), 1, EVERYTHING)
    nodes = [NodeCaller(row.id, row.name, row.organization_id, collaboration.id, 1) for row in rows]
    return Rows([o.id for o in organizations], collaboration.id, caller, nodes)


@asynccontextmanager
async def replica(url: str, rows: Rows) -> AsyncIterator[World]:
    """One server process, as it were; on PostgreSQL there may be several."""
    database = Database(url)
    async with running_bus(database) as bus:
        database.on_doubt = lambda: bus.publish(Resync())
        hub = EventHub(database, bus)
        dispatcher = Dispatcher(database, bus, lambda result, task, node_id: "token")
        desk = ReportDesk(database, bus)
        loops = [asyncio.create_task(dispatcher.run()), asyncio.create_task(desk.run())]
        try:
            yield World(database, bus, hub, dispatcher, desk, **vars(rows))
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
    await database.close()
