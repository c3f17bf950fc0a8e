"""Builds everything, top to bottom, and serves: the only wiring."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import signal
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc

from vantage6.api.v1 import (
    delivery_pb2_grpc,
    event_pb2_grpc,
    result_pb2_grpc,
    task_pb2_grpc,
)
from vantage6.common.background import AddressTaken
from vantage6.common.channel import KEEPALIVE_MS, KEEPALIVE_TIMEOUT_MS, MAX_MESSAGE
from vantage6.common.memory import bound_arenas
from vantage6.common.monitoring import Watched, monitored
from vantage6.server import metrics
from vantage6.server.config import ServerConfig
from vantage6.server.domain.accounts import AccountRules
from vantage6.server.domain.audit import AuditLog
from vantage6.server.domain.bus import Bus, LocalBus, Resync, RightsChanged
from vantage6.server.domain.deadlines import Deadlines
from vantage6.server.domain.dispatch import Dispatcher
from vantage6.server.domain.events import EventHub
from vantage6.server.domain.housekeeping import Housekeeping
from vantage6.server.domain.parties import Hooks
from vantage6.server.domain.payloads import PayloadDesk
from vantage6.server.domain.recovery import RecoveryRules
from vantage6.server.domain.reports import ReportDesk
from vantage6.server.domain.results import fail_of_node
from vantage6.server.domain.resync import resync
from vantage6.server.domain.running import Runs
from vantage6.server.domain.secrets import Passwords, Tokens, load_secret
from vantage6.server.domain.throttle import Throttle
from vantage6.server.domain.watching import WatchGuard
from vantage6.server.interceptors.audit import Auditing
from vantage6.server.interceptors.errors import errors
from vantage6.server.interceptors.identity import identity
from vantage6.server.interceptors.telemetry import telemetry
from vantage6.server.mail import SmtpMailer
from vantage6.server.rpc.delivery import DeliveryServicer
from vantage6.server.rpc.events import EventServicer
from vantage6.server.rpc.health import Health, HealthServicer
from vantage6.server.rpc.payloads import PayloadServicer
from vantage6.server.rpc.payloads import serve as serve_payloads
from vantage6.server.rpc.register import Parts, register
from vantage6.server.rpc.results import ResultServicer
from vantage6.server.rpc.tasks import TaskServicer
from vantage6.server.startup import prepare
from vantage6.server.store.blobs import Blobs
from vantage6.server.store.notify import PostgresBus
from vantage6.server.store.sql import Database, Store
from vantage6.server.store.tables import Node, Payload

log = structlog.get_logger()

OPTIONS = (
    # With the defaults, a thousand nodes that reconnect at once make gRPC drop calls at random, healthy ones too.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
    # As at the other end (`channel.OPTIONS`).
    ("grpc.http2.max_frame_size", 1024 * 1024),
    ("grpc.http2.lookahead_bytes", 2 * 1024 * 1024),
    ("grpc.http2.bdp_probe", 0),
)

GRACE_SECONDS = 5.0


class Server:
    """A running server: `async with Server(config) as server: await server.run()`.

    `port` is the one it listens on (the configuration may say 0: any), `monitoring_port` the one for Prometheus.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.port = self.monitoring_port = 0
        self._stack = contextlib.AsyncExitStack()
        self.database = Database(config.database_url)
        self.blobs = Blobs(config.blob_location)
        self.bus: LocalBus | PostgresBus = PostgresBus(self.database) if self.database.shared else LocalBus()
        self.database.on_doubt = lambda: self.bus.publish(Resync())
        self.database.on_rights = lambda user_id: self.bus.publish(RightsChanged(user_id))
        self.passwords = Passwords()
        throttle = Throttle(bus=self.bus, name="log-in")
        tokens = Tokens(load_secret(config.secret_file), config.tokens.lifetimes)
        self.accounts = AccountRules(self.database, tokens, self.passwords, throttle)
        self.hub = EventHub(self.database, self.bus)
        self.guard = WatchGuard(self.accounts, self.bus)
        self.dispatcher = Dispatcher(self.database, self.bus, self.accounts.issue_container_token)
        self.desk = ReportDesk(self.database, self.bus)
        self.deadlines = Deadlines(self.database, self.bus)
        age = dt.timedelta(hours=config.upload_hours)
        self.housekeeping = Housekeeping(self.database, self.blobs, upload_age=age, retention=config.retention)
        self._background: set[asyncio.Task[None]] = set()
        self.health = Health({"database": self._ping})
        hooks = Hooks(self._node_leaving, self.dispatcher.cut_off, self._payloads_gone)
        self.audit = AuditLog(self.database)
        self.recovery = _recovery(config, self.database, self.passwords, self.bus)
        self._parts = Parts(
            self.database, self.accounts, self.passwords, throttle, hooks, {"database": self._ping},
            self.recovery, self.audit,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        await prepare(self._config, self.database, self.passwords)
        if isinstance(self.bus, PostgresBus):
            self._start_loop(self.bus.run())
            await self.bus.connected.wait()
        await resync(self.database, self.bus, [])
        await self.audit.forget_old()
        self._start_loop(self.dispatcher.run())
        self._start_loop(self.desk.run())
        self._start_loop(self.deadlines.run())
        self._start_loop(self.housekeeping.run())
        self._start_loop(self.recovery.run())
        self._server = self._build()
        metrics.connected(self.dispatcher.connected)
        watched = Watched.of(metrics.REGISTRY, self.health.why_not, self._count_open)
        self.monitoring_port = await self._stack.enter_async_context(monitored(self._config.monitoring, watched))
        try:
            self.port = self._server.add_insecure_port(self._config.address)
        except RuntimeError as error:
            raise AddressTaken(
                f"{self._config.address} cannot be listened on: another program has the port, or the address is not "
                "this machine's. Change 'address' in the configuration, or end that program"
            ) from error
        await self._server.start()
        log.info("server_listening", address=self._config.address, port=self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.health.leaving.set()
        self.dispatcher.drain()
        await self._server.stop(GRACE_SECONDS)
        await self._stack.aclose()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self.passwords.close()
        await self.database.close()
        log.info("server_stopped")

    async def run(self) -> None:
        """Serves until cancelled."""
        await self._server.wait_for_termination()

    def _build(self) -> grpc.aio.Server:
        interceptors = [telemetry(), errors(), Auditing(self.audit.write), identity(self.accounts.identify)]
        server = grpc.aio.server(options=OPTIONS, interceptors=interceptors)
        register(server, self._parts)
        database, bus = self.database, self.bus
        delivery = DeliveryServicer(
            database, self.accounts, self.dispatcher, self.desk, Runs(bus), self._config.heartbeat_seconds
        )
        delivery_pb2_grpc.add_DeliveryServiceServicer_to_server(delivery, server)
        tasks = TaskServicer(database, bus, self.blobs, self._config.subtask_limits)
        task_pb2_grpc.add_TaskServiceServicer_to_server(tasks, server)
        result_pb2_grpc.add_ResultServiceServicer_to_server(ResultServicer(database), server)
        event_pb2_grpc.add_EventServiceServicer_to_server(EventServicer(database, self.hub, self.guard), server)
        payloads = PayloadServicer(PayloadDesk(database, self.blobs, self._config.collaboration_quota_bytes))
        serve_payloads(payloads, server)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(self.health), server)
        return server

    def _start_loop(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _ping(self) -> bool:
        async with self.database.read() as store:
            await store.events.last_id()
        return True

    async def _count_open(self) -> None:
        async with self.database.read() as store:
            counts = await store.results.open_counts()
        metrics.queue({state.name: number for state, number in counts.items()})

    async def _node_leaving(self, store: Store, node: Node) -> None:
        await fail_of_node(store, self.bus, node.organization_id, node.collaboration_id)

    def _payloads_gone(self, payloads: Sequence[Payload]) -> None:
        for payload in payloads:
            self._start_loop(self.blobs.delete(payload.id, payload.size))


def _recovery(config: ServerConfig, database: Database, passwords: Passwords, bus: Bus) -> RecoveryRules:
    if config.mail is None:
        return RecoveryRules(database, passwords, bus=bus)
    return RecoveryRules(database, passwords, SmtpMailer(config.mail), reset_page=config.mail.reset_page, bus=bus)


def _collect_rarely() -> None:
    """Python looks for garbage after every 700 new objects: several times in each larger transaction, in vain.

    What is there after the imports stays, so it is not looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def serve(config: ServerConfig, ready: Callable[[Server], None] = lambda _server: None) -> None:
    """Runs a server until SIGTERM or SIGINT."""
    bound_arenas()
    _collect_rarely()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with Server(config) as server:
        ready(server)
        await stopping.wait()
