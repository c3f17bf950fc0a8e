"""Who is connected, and what to send them: the pending results of the table, up to each node's window."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from vantage6.api.v1 import delivery_pb2
from vantage6.common.errors import PermissionDenied, Unavailable
from vantage6.common.faults import point
from vantage6.server import metrics
from vantage6.server.domain.assignments import assignment_messages
from vantage6.server.domain.bus import Bus, Connected, CutOff, Resync, Signal, Stop, Wake
from vantage6.server.domain.caller import NodeCaller
from vantage6.server.domain.events import announce_node, now
from vantage6.server.domain.links import GOING_AWAY, MAX_WINDOW, Address, Claim, Link, Run
from vantage6.server.domain.results import lose, move, settle
from vantage6.server.domain.resync import resync
from vantage6.server.domain.states import ACTIVE, FINAL, ResultState
from vantage6.server.store.bulk import Moving
from vantage6.server.store.parties import Newest, Program
from vantage6.server.store.sql import Database, Store
from vantage6.server.store.tables import Node, Task

log = structlog.get_logger()

IssueToken = Callable[[Moving, Task, int], str]
"""Makes the container token of an assignment (result, task, node id)."""

RETRY_SECONDS = 1.0
MAX_PICK = 5_000
"""Assignments in one transaction."""


class Dispatcher:
    """Sends pending results to connected nodes; all nodes that are awake share one transaction."""

    def __init__(self, database: Database, bus: Bus, issue_token: IssueToken) -> None:
        self._database = database
        self._bus = bus
        self._issue_token = issue_token
        self._links: dict[Address, Link] = {}
        self._awake: set[Address] = set()
        # Their end is not in the table yet.
        self._leaving: list[Link] = []
        self._draining = False
        self._in_doubt = False
        self._something = asyncio.Event()
        self._idle = asyncio.Event()
        bus.subscribe(self._on_signal)

    def connected(self) -> int:
        """How many nodes this process holds."""
        return len(self._links)

    def is_online(self, address: Address) -> bool:
        return address in self._links

    def _on_signal(self, signal: Signal) -> None:
        if isinstance(signal, Wake):
            self._wake((signal.organization_id, signal.collaboration_id))
        elif isinstance(signal, Stop):
            self._stop(signal)
        elif isinstance(signal, Connected):
            self._supersede((signal.organization_id, signal.collaboration_id), signal.connection)
        elif isinstance(signal, CutOff):
            if link := self._links.get((signal.organization_id, signal.collaboration_id)):
                link.drop("the node was deleted or its API key changed")
        elif isinstance(signal, Resync):
            self._in_doubt = True
            self._rouse()

    def _rouse(self) -> None:
        self._idle.clear()
        self._something.set()

    async def idle(self) -> None:
        """Waits until everything that can be handed out now is handed out."""
        await self._idle.wait()

    def _supersede(self, address: Address, newest: int) -> None:
        if (link := self._links.get(address)) and link.connection < newest:
            del self._links[address]
            link.supersede()

    def _put_right(self, link: Link, newest: Newest | None) -> None:
        """Ends a link that is not its node's newest connection any more, and says why."""
        if newest is None:
            self._cut(link, "the node was deleted")
        elif newest.cut_off:
            self._cut(link, "the node's API key changed")
        else:
            self._supersede(link.address, newest.number)

    def _cut(self, link: Link, why: str) -> None:
        link.drop(why)
        if self._links.get(link.address) is link:
            # The table says so already.
            del self._links[link.address]
            announce_node(self._bus, link.node, online=False)

    def _wake(self, address: Address) -> None:
        if address in self._links:
            self._awake.add(address)
            self._rouse()

    def _stop(self, stop: Stop) -> None:
        link = self._links.get((stop.organization_id, stop.collaboration_id))
        if link is None:
            return  # It is told when it connects: its claim no longer fits.
        cancel = delivery_pb2.Cancel(result_id=stop.result_id, epoch=stop.epoch, reason=stop.reason)
        link.send(delivery_pb2.ServerMessage(cancel=cancel))
        link.released(stop.result_id)

    async def connect(self, node: NodeCaller, window: int, program: Program, claims: dict[int, Claim]) -> Link:
        """Takes a node in: supersedes its older connection and brings table and node into step."""
        if self._draining:
            raise Unavailable(GOING_AWAY)
        link = Link(node, min(max(window, 0), MAX_WINDOW), program)
        link.on_released = lambda link: self._wake(link.address)
        try:
            cancels = await self._database.transact(lambda store: self._take_in(store, link, claims))
        except BaseException:
            # Who asked has gone, or comes again. The table may have the connection all the same.
            if link.connection:
                self._leaving.append(link)
                self._rouse()
            raise
        # Of two connections that were made at the same time, the one with the higher number stays.
        self._supersede(link.address, link.connection)
        if link.address in self._links:
            link.supersede()
            return link
        self._links[link.address] = link
        if self._draining:
            link.drain()
        for cancel in cancels:
            link.send(delivery_pb2.ServerMessage(cancel=cancel))
        announce_node(self._bus, node, online=True)
        self._wake(link.address)
        return link

    async def _take_in(self, store: Store, link: Link, claims: dict[int, Claim]) -> list[delivery_pb2.Cancel]:
        # First, since it locks the node's row: what is being handed out to an older connection, wherever that is
        # held, is committed by now and seen by _reconcile, and nothing is handed out to it any more.
        number = await store.parties.connected(link.node.id, link.program, replica=self._bus.replica, at=now())
        if number is None and await store.parties.node(link.node.id) is not None:
            raise Unavailable("this program has connected again since")
        if number is None:
            raise PermissionDenied("this node was deleted")
        link.connection = number
        link.active.clear()
        cancels = await self._reconcile(store, link, claims)
        newest = Connected(*link.address, number)
        store.after_commit(lambda: self._bus.publish(newest))
        point("server.connect.before_commit")
        return cancels

    def cut_off(self, node: Node) -> None:
        """Ends the connection of a node that was deleted or got a new API key, wherever it is held."""
        self._bus.publish(CutOff(node.organization_id, node.collaboration_id))

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
        await self._leave(link)

    async def _leave(self, link: Link) -> None:
        """Takes note in the table; later, if that cannot be done now: else the node would be online for ever."""
        try:
            offline = await self._database.transact(
                lambda store: store.parties.disconnected(link.node.id, link.connection, link.program, now())
            )
        except Exception:  # A database that is away.
            log.exception("end_of_connection_not_stored", node_id=link.node.id)
            self._leaving.append(link)
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._rouse)
        except asyncio.CancelledError:
            self._leaving.append(link)
            self._rouse()
            raise
        else:
            if offline:
                announce_node(self._bus, link.node, online=False)

    def drain(self) -> None:
        """The server is going away: its nodes are told, and none is taken in any more."""
        self._draining = True
        for link in self._links.values():
            link.drain()

    async def _reconcile(self, store: Store, link: Link, claims: dict[int, Claim]) -> list[delivery_pb2.Cancel]:
        touched: list[Task] = []
        current: dict[int, int] = {}
        for result, task in await store.results.of_node(*link.address, ACTIVE):
            claim = claims.get(result.id)
            if claim and claim.epoch == result.epoch:
                current[result.id] = result.epoch
                link.active[result.id] = Run(task, result.epoch, result.assigned_at)
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
            if not self._something.is_set():
                self._idle.set()
            await self._something.wait()
            self._something.clear()
            leaving, self._leaving = self._leaving, []
            for gone in leaving:
                await self._leave(gone)
            if self._in_doubt:
                self._in_doubt = False
                await self._resync_or_retry()
            awake, self._awake = self._awake, set()
            links = [link for address in awake if (link := self._links.get(address)) and link.free]
            for start in range(0, len(links), MAX_PICK):
                await self._assign_or_retry(links[start : start + MAX_PICK])

    async def _resync_or_retry(self) -> None:
        try:
            stale = await resync(self._database, self._bus, list(self._links.values()))
        except Exception:  # A database that is away must not end the dispatcher.
            log.exception("resync_failed")
            asyncio.get_running_loop().call_later(RETRY_SECONDS, self._on_signal, Resync())
            return
        for link, newest in stale.items():
            self._put_right(link, newest)
        for address in self._links:
            self._wake(address)

    async def _assign_or_retry(self, links: list[Link]) -> None:
        try:
            await self._assign(links)
        except Exception:  # A database that is away must not end the dispatcher.
            log.exception("assignments_not_committed", nodes=len(links))
            # The nodes reconnect with back-off, and connecting wakes them.
            for link in links:
                link.drop("assignments could not be stored")

    async def _assign(self, links: list[Link]) -> None:
        # A share for each, so that a transaction stays small; who could take more is woken again.
        share = max(1, MAX_PICK // len(links))
        await self._database.transact(lambda store: self._assign_in(store, links, share))

    async def _assign_in(self, store: Store, links: list[Link], share: int) -> None:
        by_address = {link.address: link for link in await self._newest(store, links)}
        wanted = {address: min(link.free, share) for address, link in by_address.items()}
        picked = await store.results.pending(wanted) if wanted else []
        if not picked:
            return
        tasks = {}
        for result, task in picked:
            move(store, self._bus, task, result, ResultState.ASSIGNED)
            result.epoch += 1
            result.assigned_at = now()
            metrics.assigned(task.created_at, result.assigned_at)
            tasks[task.id] = task
        await store.results.save([result for result, _ in picked])
        counts = await settle(store, self._bus, tasks.values())
        nodes = {address: link.node for address, link in by_address.items()}
        messages = await assignment_messages(store, picked, counts, nodes, self._issue_token)
        point("server.assign.before_commit")
        store.after_commit(lambda: self._send(by_address, picked, messages))

    async def _newest(self, store: Store, links: list[Link]) -> list[Link]:
        """Those that are still their node's newest connection; no newer one comes before this transaction has ended."""
        if not store.shared:
            return links
        current = await store.parties.connections({link.node.id for link in links})
        newest = [link for link in links if link.is_newest(current)]
        for link in set(links).difference(newest):
            self._put_right(link, current.get(link.node.id))
        return newest

    def _send(
        self,
        links: dict[Address, Link],
        picked: list[tuple[Moving, Task]],
        messages: list[delivery_pb2.Assignment],
    ) -> None:
        point("server.assign.after_commit")
        for (result, task), message in zip(picked, messages, strict=True):
            link = links[result.organization_id, task.collaboration_id]
            # Not the connection any more: the next one, which is being made, finds the result in the table.
            if self._links.get(link.address) is link:
                link.active[result.id] = Run(task, result.epoch, result.assigned_at)
                link.send(delivery_pb2.ServerMessage(assignment=message))
                metrics.sent(len(message.input.inline))
                if link.free:
                    self._wake(link.address)
