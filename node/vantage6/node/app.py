"""The only wiring of the node: config, journal, line, rules, runs; and how it starts and ends."""

from __future__ import annotations

import asyncio
import platform
import signal
import uuid
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog

from vantage6.api.v1.delivery_pb2 import Welcome
from vantage6.common.background import Seat, tell_starter
from vantage6.common.channel import open_channel
from vantage6.common.contract import VERSION as CONTRACT_VERSION
from vantage6.common.errors import Vantage6Error
from vantage6.common.memory import bound_arenas
from vantage6.common.monitoring import Watched, monitored
from vantage6.common.trust import KnownOrganizations
from vantage6.node import metrics
from vantage6.node.audit import Audit
from vantage6.node.config import NodeConfig
from vantage6.node.databases import Databases
from vantage6.node.disclosure import Disclosure
from vantage6.node.disk import Disk
from vantage6.node.doctor_runtime import check_runtime
from vantage6.node.fairness import window_of
from vantage6.node.gate import Gate
from vantage6.node.identity import settle_keys
from vantage6.node.journal import Journal
from vantage6.node.link import Link
from vantage6.node.options import logins
from vantage6.node.outbox import Outbox
from vantage6.node.payloads import Payloads
from vantage6.node.policy import Policy
from vantage6.node.retry import Backoff
from vantage6.node.runs import Runs
from vantage6.node.runtimes.base import Runtime
from vantage6.node.runtimes.own_image import own_images
from vantage6.node.runtimes.registries import Registries
from vantage6.node.runtimes.registry import make_runtime
from vantage6.node.sealing import Sealer
from vantage6.node.session import Session
from vantage6.node.signatures import Signatures
from vantage6.node.worker import Site
from vantage6.node.workspace import Workspace

log = structlog.get_logger(__name__)

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # A server that is back must be found within seconds; gRPC's own waiting would be up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5000),
    # A new stream goes over the old connection for as long as gRPC believes in it: a dead one has to be given up no
    # later than heartbeats tell. The server permits a ping every 10 seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
)


class Node:
    """One node, built from its configuration; `runtime` and `backoff` can be given by tests."""

    def __init__(self, config: NodeConfig, runtime: Runtime | None = None, backoff: Backoff | None = None) -> None:
        config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.config, limits = config, config.limits
        self.session = Session(config.read_api_key())
        self.channel = open_channel(config.endpoint, token=self.session.token, options=_OPTIONS)
        self.journal = Journal(config.data_dir / "journal.sqlite")
        self.runtime = runtime or make_runtime(config.runtime, _runtime_options(config))
        payloads = Payloads(self.channel, self.session)
        self.link = Link(
            self.channel,
            self.session,
            self.journal,
            instance_id=uuid.uuid4().hex,
            # The machine's own system is the site's business.
            versions={name: number for name, number in versions(self.runtime.name).items() if name != "system"},
            window=window_of(limits),
            backoff=backoff,
        )
        outbox = Outbox(self.journal, self.link, payloads, config.data_dir / "outbox")
        self._outbox = outbox
        self.site = Site(
            config=config,
            channel=self.channel,
            journal=self.journal,
            link=self.link,
            outbox=outbox,
            payloads=payloads,
            runtime=self.runtime,
            workspace=Workspace(config.task_dir, config.name, config.isolation),
            disk=Disk(config.task_dir, limits.temporary_bytes, limits.free_bytes, self.runtime.measure),
            databases=Databases(config.databases),
            gate=_gate(config),
        )
        self.runs = Runs(self.site, self._make_sealer)

    async def run(self) -> None:
        """Works until cancelled, or until an error that trying again cannot mend."""
        try:
            await self._open()
            watched = Watched.of(metrics.REGISTRY, self._why_not_ready, self._count_reports)
            async with monitored(self.config.monitoring, watched):
                await self.link.run(self.runs)
        finally:
            await self._close()

    async def _why_not_ready(self) -> str:
        return "" if self.link.online.is_set() else "the node is not online at the server"

    async def _count_reports(self) -> None:
        metrics.WAITING.set(len(await self.journal.reports(after=0)))

    async def _open(self) -> None:
        config, audit = self.config, self.site.gate.audit
        await asyncio.to_thread(self.site.gate.load)
        weaknesses = config.weaknesses()
        for weakness in weaknesses:
            log.warning("hardening_weakened", setting=weakness)
        await asyncio.to_thread(audit.write, "started", isolation=config.isolation, weakened=weaknesses)
        if audit.head:
            log.info("audit", records=audit.head.count, digest=audit.head.digest)

    async def _close(self) -> None:
        await self.runs.close()
        await self._outbox.close()
        await self.runtime.close()
        await self.channel.close()
        await self.journal.close()
        log.info("stopped")

    async def _make_sealer(self, welcome: Welcome) -> Sealer:
        keys = await settle_keys(self.config, welcome, self.channel)
        known = KnownOrganizations(self.config.data_dir / "known_organizations", self.config.trust)
        return Sealer(keys, known, welcome)


def _gate(config: NodeConfig) -> Gate:
    # Only Docker's images come from a registry.
    registries = Registries(logins(config)) if config.runtime == "docker" else None
    return Gate(
        Policy(config.policy, own_images(config.runtime_options)),
        Disclosure(config.policy.disclosure),
        Audit(config.data_dir / "audit.jsonl"),
        Signatures(config.policy.signatures, registries, config.data_dir / "signatures"),
    )


def _runtime_options(config: NodeConfig) -> dict[str, object]:
    """The configured options, and what every runtime may want to know of the node."""
    state_folder = str(config.data_dir / config.runtime)
    guard = {"isolation": config.isolation, "hardening": config.hardening.model_dump()}
    given = {"state_folder": state_folder, **config.runtime_options, **guard, "node_name": config.instance}
    return {**given, "registries": logins(config)} if config.runtime == "docker" else given


def seat(config: NodeConfig) -> Seat:
    """The place of the one process that works with the node's folder."""
    return Seat(config.data_dir / "lock")


async def serve(config: NodeConfig, environment: str = "application", **facts: Any) -> None:
    """Runs a node until SIGTERM or SIGINT; `facts` are for `vnode list` and `restart`."""
    facts = {"state": "connecting", "environment": environment, "server": config.server_url, **facts}
    with seat(config).taken("node", **facts) as held:
        bound_arenas()
        engine = await _engine(config)
        log.info("starting", name=config.name, server=config.server_url, **versions(config.runtime), engine=engine)
        if not config.policy.allowed_images and not config.policy.allowed_digests:
            log.warning("nothing_allowed", message="every run will be refused: set policy.allowed_images")
        node = Node(config)
        node.link.on_change = lambda welcome: _tell(held, welcome)
        work = asyncio.create_task(node.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, work.cancel)
        try:
            await work
        except asyncio.CancelledError:
            log.info("stopped_by_signal")


async def _engine(config: NodeConfig) -> str:
    """The version of what runs algorithms; a node starts without it, and waits for it."""
    try:
        return (await check_runtime(config, deep=False))[0].detail
    except (Vantage6Error, OSError) as error:
        return str(error)


def _tell(held: Seat, welcome: Welcome | None) -> None:
    """For `vnode list`, and for the `vnode start` that waits."""
    metrics.online(is_online=welcome is not None)
    if welcome is None:
        held.tell(state="connecting")
        return
    facts = {
        "node": welcome.node_name,
        "organization": welcome.organization_name,
        "collaboration": welcome.collaboration_name,
        "encrypted": welcome.encrypted,
        "server_version": welcome.server_version,
    }
    held.tell(state="online", **facts)
    tell_starter(ok=True, **facts)


def versions(runtime: str) -> dict[str, str]:
    """Versions of what this node is made of, for its log and for the server."""
    found = {"contract": CONTRACT_VERSION, "python": platform.python_version(), "system": platform.platform()}
    for name, package in (("node", "vantage6-grpc"), ("grpc", "grpcio"), ("cryptography", "cryptography")):
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            found[name] = "unknown"
    return {**found, "runtime": runtime}
