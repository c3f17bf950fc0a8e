"""Who is connected, and what to send them: the pending results of the table, up to each node's window."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from vantage6.api.v1 import delivery_pb2, event_pb2
from vantage6.common.faults import point
from vantage6.server.domain.assignments import assignment_messages
from vantage6.server.domain.bus import Bus, Happened, Signal, Stop, Wake
from vantage6.server.domain.caller import NodeCaller
from vantage6.server.domain.events import now
from vantage6.server.domain.results import lose, move, settle
from vantage6.server.domain.states import ACTIVE, FINAL, ResultState
from vantage6.server.store.sql import Database, Store
from vantage6.server.store.tables import Node, Result, Task

log = structlog.get_logger()

Address = tuple[int, int]
"""(organization, collaboration): where there is one node, results wait for it."""

IssueToken = Callable[[Result, Task, int], str]
"""Makes the container token of an assignment (result, task, node id)."""

MAX_WINDOW = 1_000
MAX_BACKLOG = 10_000
"""Messages waiting for a node that does not read; beyond that it is disconnected."""


class Link:
    """A connected node: what was sent to it and not yet finished, and what is to be sent."""

    def __init__(self, node: NodeCaller, window: int) -> None:
        self.node = node
        self.window = window
        # Result to task: what it works on.
        self.active: dict[int, Task] = {}
        self.outgoing: asyncio.Queue[delivery_pb2.ServerMessage | None] = asyncio.Queue()
        self.closed_because = ""
        self.on_released: Callable[[Link], None] = lambda _: None

    @property
    def address(self) -> Address:
        return self.node.organization_id, self.node.collaboration_id

    @property
    def free(self) -> int:
        return 0 if self.closed_because else max(0, self.window - len(self.active))

    def send(self, message: delivery_pb2.ServerMessage) -> None:
        if self.closed_because:
            return
        if self.outgoing.qsize() >= MAX_BACKLOG:
            self.drop("it does not read what it is sent")
            return
        self.outgoing.put_nowait(message)

    def released(self, result_id: int) -> None:
        self.active.pop(result_id, None)
        self.on_released(self)

    def drop(self, reason: str) -> None:
        """Ends the connection after what is already queued; the node will reconnect and say again what it holds."""
        if not self.closed_because:
            self.closed_because = reason
            self.outgoing.put_nowait(None)


@dataclass(frozen=True)
class Claim:
    """What a connecting node says that it holds."""

    epoch: int
    state: int


class Dispatcher:
    """Sends pending results to connected nodes; all nodes that are awake share one transaction."""

    def __init__(self, database: Database, bus: Bus, issue_token: IssueToken) -> None:
        self._database = database
        self._bus = bus
        self._issue_token = issue_token
        self._links: dict[Address, Link] = {}
        self._awake: set[Address] = set()
        self._something = asyncio.Event()
        bus.subscribe(self._on_signal)

    def is_online(self, address: Address) -> bool:
        return address in self._links

    def _on_signal(self, signal: Signal) -> None:
        if isinstance(signal, Wake):
            self._wake((signal.organization_id, signal.collaboration_id))
        elif isinstance(signal, Stop):
            self._stop(signal)

    def _wake(self, address: Address) -> None:
        if address in self._links:
            self._awake.add(address)
            self._something.set()

    def _stop(self, stop: Stop) -> None:
        link = self._links.get((stop.organization_id, stop.collaboration_id))
        if link is None:
            return  # It is told when it connects: its claim no longer fits.
        cancel = delivery_pb2.Cancel(result_id=stop.result_id, epoch=stop.epoch, reason=stop.reason)
        link.send(delivery_pb2.ServerMessage(cancel=cancel))
        link.released(stop.result_id)

    async def connect(self, node: NodeCaller, window: int, version: str, claims: dict[int, Claim]) -> Link:
        """Takes a node in: supersedes its older connection and brings table and node into step."""
        link = Link(node, min(max(window, 0), MAX_WINDOW))
        link.on_released = lambda link: self._wake(link.address)
        if (older := self._links.pop(link.address, None)) is not None:
            older.send(delivery_pb2.ServerMessage(superseded=delivery_pb2.Superseded(
                message="another instance of this node has connected")))  # fmt: skip
            older.drop("superseded")
        async with self._database.write() as store:
            cancels = await self._reconcile(store, link, claims)
            await store.parties.set_node_seen(node.id, online=True, version=version[:64], at=now())
            point("server.connect.before_commit")
        self._links[link.address] = link
        for cancel in cancels:
            link.send(delivery_pb2.ServerMessage(cancel=cancel))
        self._announce(node, online=True)
        self._wake(link.address)
        return link

    def cut_off(self, node: Node) -> None:
        """Ends the connection of a node that was deleted or got a new API key."""
        if link := self._links.get((node.organization_id, node.collaboration_id)):
            link.drop("the node was deleted or its API key changed")

    def resize(self, link: Link, window: int) -> None:
        """Takes note of how many assignments a node wants to hold from now on."""
        link.window = min(max(window, 0), MAX_WINDOW)
        self._wake(link.address)

    async def disconnect(self, link: Link) -> None:
        """Takes note that a connection has ended; its results stay with the node, which may still be computing."""
        link.drop("disconnected")
        if self._links.get(link.address) is not link:
            return
        del self._links[link.address]
        async with self._database.write() as store:
            await store.parties.set_node_seen(link.node.id, online=False, version=None, at=now())
        self._announce(link.node, online=False)

    def _announce(self, node: NodeCaller, *, online: bool) -> None:
        kind = event_pb2.NodeEvent(node_id=node.id, organization_id=node.organization_id, online=online)
        event = event_pb2.Event(collaboration_id=node.collaboration_id, node=kind)
        event.time.FromDatetime(now())
        self._bus.publish(Happened(event, 0, 0))

    async def _reconcile(self, store: Store, link: Link, claims: dict[int, Claim]) -> list[delivery_pb2.Cancel]:
        touched: list[Task] = []
        current: dict[int, int] = {}
        for result, task in await store.results.of_node(*link.address, ACTIVE):
            claim = claims.get(result.id)
            if claim and claim.epoch == result.epoch:
                current[result.id] = result.epoch
                link.active[result.id] = task
                continue
            if result.state == ResultState.ASSIGNED:
                # The assignment did not arrive, so nothing was run and nothing is lost.
                move(store, self._bus, task, result, ResultState.PENDING)
            else:
                lose(store, self._bus, task, result, f"node {link.node.name} came back without it")
            touched.append(task)
        await settle(store, self._bus, touched)
        # A finished one is reported again by the node, and that report gets its own answer.
        return [
            delivery_pb2.Cancel(result_id=result_id, epoch=claim.epoch, reason="LEASE_LOST")
            for result_id, claim in claims.items()
            if result_id not in current and claim.state not in FINAL
        ]

    async def run(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            awake, self._awake = self._awake, set()
            links = [link for address in awake if (link := self._links.get(address)) and link.free]
            if links:
                await self._assign_or_retry(links)

    async def _assign_or_retry(self, links: list[Link]) -> None:
        try:
            await self._assign(links)
        except Exception:  # A database that is away must not end the dispatcher.
            log.exception("assignments_not_committed", nodes=len(links))
            # The nodes reconnect with back-off, and connecting wakes them.
            for link in links:
                link.drop("assignments could not be stored")

    async def _assign(self, links: list[Link]) -> None:
        nodes = {link.address: link.node for link in links}
        async with self._database.write() as store:
            picked = await store.results.pending({link.address: link.free for link in links})
            if not picked:
                return
            tasks = {}
            for result, task in picked:
                move(store, self._bus, task, result, ResultState.ASSIGNED)
                result.epoch += 1
                result.assigned_at = now()
                tasks[task.id] = task
            await settle(store, self._bus, tasks.values())
            messages = await assignment_messages(store, picked, nodes, self._issue_token)
            point("server.assign.before_commit")
            store.after_commit(lambda: self._send(picked, messages))

    def _send(self, picked: list[tuple[Result, Task]], messages: list[delivery_pb2.Assignment]) -> None:
        point("server.assign.after_commit")
        for (result, task), message in zip(picked, messages, strict=True):
            # Looked up again: the node may have reconnected during the transaction. With no connection now, the next
            # one finds the result in the table.
            link = self._links.get((result.organization_id, task.collaboration_id))
            if link is not None:
                link.active[result.id] = task
                link.send(delivery_pb2.ServerMessage(assignment=message))
