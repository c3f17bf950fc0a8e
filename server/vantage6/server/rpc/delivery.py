"""DeliveryService: a node's stream, read by one task and written by another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import structlog

from vantage6.api.v1 import delivery_pb2, delivery_pb2_grpc
from vantage6.common.contract import check_version
from vantage6.common.errors import InvalidArgument, PermissionDenied, Unauthenticated, Unavailable
from vantage6.server import CONTRACT_VERSION, __version__
from vantage6.server.domain.accounts import AccountRules
from vantage6.server.domain.caller import NodeCaller, current_call
from vantage6.server.domain.dispatch import Dispatcher
from vantage6.server.domain.links import Claim, Link
from vantage6.server.domain.reports import ReportDesk
from vantage6.server.domain.running import Runs
from vantage6.server.store.parties import Program
from vantage6.server.store.sql import Database

log = structlog.get_logger()

MISSED_BEATS = 3


class DeliveryServicer(delivery_pb2_grpc.DeliveryServiceServicer):
    def __init__(
        self,
        database: Database,
        accounts: AccountRules,
        dispatcher: Dispatcher,
        desk: ReportDesk,
        runs: Runs,
        heartbeat_seconds: float,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._dispatcher = dispatcher
        self._desk = desk
        self._runs = runs
        self._heartbeat = heartbeat_seconds

    async def Connect(
        self, request_iterator: AsyncIterator[delivery_pb2.NodeMessage], context: Any
    ) -> AsyncIterator[delivery_pb2.ServerMessage]:
        caller = current_call().caller
        if not isinstance(caller, NodeCaller):
            raise PermissionDenied("this stream is for nodes")
        try:
            async with asyncio.timeout(self._heartbeat * MISSED_BEATS):
                hello = await _hello(request_iterator)
        except TimeoutError:
            raise InvalidArgument("the first message must be a hello, and come soon") from None
        welcome = await self._welcome(caller)
        yield delivery_pb2.ServerMessage(welcome=welcome)
        claims = {held.result_id: Claim(held.epoch, held.state) for held in hello.held}
        program = Program(hello.instance_id[:64], max(hello.attempt, 0), hello.versions.get("node", "")[:64])
        link = await self._dispatcher.connect(caller, hello.window, program, claims)
        link.encrypted = welcome.encrypted
        log.info("node_online", node_id=caller.id, name=caller.name, instance=hello.instance_id[:64])
        watchdog = Watchdog(link, self._heartbeat * MISSED_BEATS)
        renewal = Renewal(link, self._accounts)
        reader = asyncio.create_task(self._read(request_iterator, link, watchdog))
        try:
            while (message := await link.outgoing.get()) is not None:
                yield message
        finally:
            watchdog.stop()
            renewal.stop()
            reader.cancel()
            await self._dispatcher.disconnect(link)
            log.info("node_offline", node_id=caller.id, name=caller.name, why=link.closed_because)
        if link.closed_because != "superseded":
            raise Unavailable(f"connect again: {link.closed_because}")

    async def _welcome(self, node: NodeCaller) -> delivery_pb2.Welcome:
        async with self._database.read() as store:
            organization = await store.parties.organization(node.organization_id)
            collaboration = await store.parties.collaboration(node.collaboration_id)
        if organization is None or collaboration is None:
            raise PermissionDenied("this node's organization or collaboration was deleted")
        return delivery_pb2.Welcome(
            contract_version=CONTRACT_VERSION,
            node_id=node.id,
            node_name=node.name,
            organization_id=organization.id,
            organization_name=organization.name,
            collaboration_id=collaboration.id,
            collaboration_name=collaboration.name,
            encrypted=collaboration.encrypted,
            public_key=organization.public_key,
            heartbeat_seconds=self._heartbeat,
            server_version=__version__,
        )

    async def _read(self, messages: AsyncIterator[delivery_pb2.NodeMessage], link: Link, watchdog: Watchdog) -> None:
        try:
            async for message in messages:
                watchdog.heard()
                try:
                    self._take(message, link)
                except asyncio.QueueFull:
                    await self._take_in_turn(message.report, link, watchdog)
        except asyncio.CancelledError:
            raise
        except Exception:  # A broken stream is ordinary; its node comes back.
            log.info("node_stream_broken", node_id=link.node.id, exc_info=True)
        link.drop("the node ended the stream")

    def _take(self, message: delivery_pb2.NodeMessage, link: Link) -> None:
        match message.WhichOneof("message"):
            case "report":
                if not link.acknowledged(message.report):
                    self._desk.submit(link, message.report)
            case "heartbeat":
                # An echo is enough: the node hears from us exactly as often as we hear from it.
                if link.outgoing.empty():
                    link.send(delivery_pb2.ServerMessage(heartbeat=delivery_pb2.Heartbeat()))
            case "window":
                self._dispatcher.resize(link, message.window.size)
            case "progress":
                self._runs.progress(link, message.progress)
            case "log":
                self._runs.log(link, message.log)
            case _:
                link.drop("a message of an unknown kind, or a second hello")

    async def _take_in_turn(self, report: delivery_pb2.Report, link: Link, watchdog: Watchdog) -> None:
        """The database is slow. The node is not read meanwhile, so it is slowed down, but it is not to be taken for
        dead for that, nor to take us for dead."""
        waiting = asyncio.ensure_future(self._desk.submit_in_turn(link, report))
        try:
            while not (await asyncio.wait((waiting,), timeout=self._heartbeat))[0]:
                watchdog.heard()
                link.send(delivery_pb2.ServerMessage(heartbeat=delivery_pb2.Heartbeat()))
        finally:
            waiting.cancel()
        watchdog.heard()


class Watchdog:
    """Drops a link that was silent for too long. One timer a link, set anew only when it fires."""

    def __init__(self, link: Link, patience: float) -> None:
        self._link = link
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(patience, self._check)

    def heard(self) -> None:
        self._heard = self._loop.time()

    def stop(self) -> None:
        self._timer.cancel()

    def _check(self) -> None:
        due = self._heard + self._patience
        if due <= self._loop.time():
            self._link.drop("no heartbeat")
        else:
            self._timer = self._loop.call_at(due, self._check)


class Renewal:
    """Sends a new access token well before the old one expires: a node uses it beside the stream.

    The session behind it is kept alive for as long as the node is connected; when it was ended, so is the link.
    """

    def __init__(self, link: Link, accounts: AccountRules) -> None:
        self._link = link
        self._accounts = accounts
        self._work: asyncio.Task[None] | None = None
        self._timer = self._schedule(accounts.access_seconds)

    def stop(self) -> None:
        self._timer.cancel()
        if self._work is not None:
            self._work.cancel()

    def _schedule(self, lifetime: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(lifetime / 2, self._begin)

    def _begin(self) -> None:
        self._work = asyncio.ensure_future(self._renew())

    async def _renew(self) -> None:
        try:
            token, lifetime = await self._accounts.renew_in_stream(self._link.node)
        except Unauthenticated:
            self._link.drop("the node's session was ended")
            return
        except Exception:  # A database that is away; the token before is good for a while.
            log.exception("token_not_renewed", node_id=self._link.node.id)
            self._timer = self._schedule(self._accounts.access_seconds / 4)
            return
        renewal = delivery_pb2.TokenRenewal(access_token=token, expires_in=lifetime)
        self._link.send(delivery_pb2.ServerMessage(token=renewal))
        self._timer = self._schedule(lifetime)


async def _hello(messages: AsyncIterator[delivery_pb2.NodeMessage]) -> delivery_pb2.Hello:
    message = await anext(aiter(messages), None)
    if message is None or message.WhichOneof("message") != "hello":
        raise InvalidArgument("the first message must be a hello")
    check_version(message.hello.contract_version, who="node")
    return message.hello
