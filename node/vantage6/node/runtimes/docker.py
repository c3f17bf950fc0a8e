"""Runs algorithms as containers of a Docker engine, or of one that speaks its API.

The SDK blocks, so each call is made on a thread of a small pool; the end of a container is heard of (docker_events),
not asked for. What is known of a run is in the engine: its name makes a start idempotent, its labels make it found
again, and its times say when its limit is over, so a restart of the node loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakValueDictionary

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from vantage6.node.runtimes.base import (
    Exit,
    Handle,
    ImageMissing,
    RunMissing,
    RunRefused,
    RuntimeUnavailable,
    RuntimeUnknown,
)
from vantage6.node.runtimes.docker_attendant import Attendant
from vantage6.node.runtimes.docker_events import Endings
from vantage6.node.runtimes.docker_images import ImageStore, pinned
from vantage6.node.runtimes.docker_logs import follow
from vantage6.node.runtimes.docker_paths import HostPaths
from vantage6.node.runtimes.docker_volumes import drop_volumes
from vantage6.node.runtimes.hardening import Hardening
from vantage6.node.runtimes.isolation import NONE, hardening
from vantage6.node.runtimes.private_network import PROXY_PORT, WEB_PORT, PrivateNetwork, relay_name, remove_relay
from vantage6.node.runtimes.pulls import STALL_SECONDS, Pulls
from vantage6.node.runtimes.registries import Credentials, Registries
from vantage6.node.runtimes.registry import text_option

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from docker import DockerClient

    from vantage6.node.runtimes.base import Progress, RunSpec

log = logging.getLogger(__name__)

T = TypeVar("T")
Facts = dict[str, Any]
"""What the engine tells of a container."""

TYPE, NODE, KEY, SECONDS, LOG_BYTES = (
    "vantage6-type", "vantage6-node", "vantage6-key", "vantage6-seconds", "vantage6-log-bytes",
)  # fmt: skip
ATTENDANT = "attendant"
_THREADS = 16
_KILLED = 137
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d*)?Z")


class DockerRuntime:
    """The runtime `docker`. `base_url` None: what the environment (DOCKER_HOST …) says."""

    name = "docker"

    def __init__(
        self,
        node_name: str,
        base_url: str | None = None,
        pull: str = "newer",
        registries: Mapping[str, Credentials] | None = None,
        hardness: Hardening | None = None,
        private: PrivateNetwork | None = None,
        own_image: str = "",
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._node = node_name
        self._hardness = hardness or Hardening()
        self._private = private
        self._attendant = Attendant(own_image, self._hardness.user, {TYPE: ATTENDANT, NODE: node_name})
        self._base_url = base_url
        self._pull_when = pull
        self._registries = registries or {}
        self._remote = Registries(self._registries)
        self._pulls = Pulls(self._ensure_image, stall_seconds)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        self._connecting = asyncio.Lock()
        self._starting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._client: DockerClient | None = None
        self._endings: Endings | None = None
        self._paths = HostPaths(None)

    async def pull(self, image: str, progress: Progress | None = None) -> str:
        """See `ImageStore` for when something is fetched."""
        await self._connected()
        return await self._pulls.pull(image, progress)

    def _ensure_image(self, image: str, report: Callable[[float], None]) -> str:
        if self._client is None:
            raise RuntimeUnavailable("the runtime was closed")
        with _own_errors():
            return ImageStore(self._client, self._pull_when, self._registries, self._remote).ensure(image, report)

    async def start(self, spec: RunSpec) -> Handle:
        """Makes and starts the container, or finds the one that was started for this key."""
        client = await self._connected()
        # The engine reserves the name some time before it knows the container by it.
        async with self._starting.setdefault(spec.key, asyncio.Lock()):
            return await self._call(lambda: self._start(client, spec))

    async def wait(self, handle: Handle) -> Exit:
        """Hears of the end; ends the run itself when its time is over."""
        client = await self._connected()
        facts = await self._facts(handle)
        remaining = _remaining(facts)
        try:
            async with asyncio.timeout(remaining):
                facts = await self._ended(handle)
        except TimeoutError:
            log.warning("run %s is over its time, it is ended", facts["Config"]["Labels"].get(KEY))
            await self._call(lambda: _kill(client, handle))
            facts = await self._ended(handle)
        tail = await self._call(lambda: _log_tail(client, handle, facts))
        return _exit(facts, tail)

    async def logs(self, handle: Handle, *, from_now: bool = False) -> AsyncIterator[bytes]:
        """Follows the container's log; a slow reader slows the thread that reads, not the container."""
        client = await self._connected()
        stream = await self._call(
            lambda: client.api.logs(handle, stream=True, follow=True, tail=0 if from_now else "all")
        )
        async with aclosing(follow(stream)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def stop(self, handle: Handle, grace: float) -> None:
        """SIGTERM, and SIGKILL after the grace. As first process of its container, a program that has no handler for
        SIGTERM does not feel it."""
        client = await self._connected()
        await self._call(lambda: client.api.stop(handle, timeout=math.ceil(grace)))

    async def recover(self) -> dict[str, Handle]:
        """Finds the containers by their labels; one that never came to run is removed, so it is started anew."""
        client = await self._connected()
        labels = [f"{TYPE}=algorithm", f"{NODE}={self._node}"]
        found = await self._call(lambda: client.api.containers(all=True, filters={"label": labels}))
        handles = {}
        names = set()
        for container in found:
            if container["State"] == "created":
                await self.remove(Handle(container["Id"]))
            else:
                # Without its key it is no run that somebody knows: what is found under another name is removed.
                handles[container["Labels"].get(KEY) or container["Id"]] = Handle(container["Id"])
                names |= {relay_name(name.removeprefix("/")) for name in container["Names"]}
        await self._call(lambda: _remove_helpers(client, self._node, keep=names))
        return handles

    async def remove(self, handle: Handle) -> None:
        """With its unnamed volumes; an image may ask for some."""
        client = await self._connected()
        try:
            name = (await self._facts(handle))["Name"].removeprefix("/") if self._private else ""
            await self._call(lambda: client.api.remove_container(handle, force=True, v=True))
        except RunMissing:
            return
        if name:
            await self._call(lambda: remove_relay(client, name))

    async def drop_shared(self, names: Collection[str]) -> None:
        client = await self._connected()
        await self._call(lambda: drop_volumes(client, self._node, names))

    async def measure(self, folder: Path, enough: int) -> int:
        client = await self._connected()
        return await self._call(lambda: self._attendant.count(client, folder, self._paths, enough))

    async def open_up(self, folder: Path) -> None:
        client = await self._connected()
        await self._call(lambda: self._attendant.empty(client, folder, self._paths))

    async def close(self) -> None:
        """Ends connections and threads; containers go on."""
        await self._pulls.close()
        endings, client = self._endings, self._client
        self._endings = self._client = None
        if endings is not None:
            await asyncio.to_thread(endings.close)
        if client is not None:
            client.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _call(self, function: Callable[[], T]) -> T:
        def guarded() -> T:
            with _own_errors():
                return function()

        return await asyncio.get_running_loop().run_in_executor(self._pool, guarded)

    async def _connected(self) -> DockerClient:
        async with self._connecting:
            if self._client is None:
                client = await self._call(self._connect)
                self._paths = await self._call(lambda: HostPaths.find(client))
                self._endings = Endings(client, f"{NODE}={self._node}")
                self._client = client
            return self._client

    def _connect(self) -> DockerClient:
        if self._base_url is None:
            client = docker.from_env(max_pool_size=_THREADS)
        else:
            client = docker.DockerClient(base_url=self._base_url, max_pool_size=_THREADS)
        try:
            client.ping()
        except BaseException:
            client.close()
            raise
        return client

    async def _facts(self, handle: Handle) -> Facts:
        client = await self._connected()
        return await self._call(lambda: cast("Facts", client.api.inspect_container(handle)))

    async def _ended(self, handle: Handle) -> Facts:
        """The facts of the container when it does not run any more."""
        await self._connected()
        if self._endings is None:
            raise RuntimeUnavailable("the runtime was closed")
        news, unwatch = self._endings.watch(handle)
        try:
            while True:
                news.clear()
                facts = await self._facts(handle)
                if facts["State"]["Status"] in {"exited", "dead"}:
                    return facts
                await news.wait()
        finally:
            unwatch()

    def _start(self, client: DockerClient, spec: RunSpec) -> Handle:
        name = f"vantage6-{re.sub(r'[^A-Za-z0-9_.-]', '-', spec.key)}"
        if self._private is None:
            return self._create(client, spec, name, NONE)
        try:
            return self._started(client, spec, name)
        except NotFound:
            pass  # The usual case: it is the first start with this key.
        relay = self._private.start_relay(client, spec, name, self._paths)
        try:
            return self._create(client, spec, name, f"container:{relay}")
        except BaseException:
            remove_relay(client, name)
            raise

    def _create(self, client: DockerClient, spec: RunSpec, name: str, network: str) -> Handle:
        labels = {**spec.labels, TYPE: "algorithm", NODE: self._node, KEY: spec.key}
        labels[LOG_BYTES] = str(spec.limits.log_bytes)
        if spec.limits.seconds is not None:
            labels[SECONDS] = str(spec.limits.seconds)
        environment, hostname = dict(spec.environment), "algorithm" if network == NONE else None
        if network != NONE:
            environment["PROXY_ADDRESS"] = f"127.0.0.1:{PROXY_PORT}"
            environment["PROXY_HTTP_ADDRESS"] = f"127.0.0.1:{WEB_PORT}"
        guard = hardening(spec, self._paths.on_host, self._hardness, network, self._node)
        config = client.api.create_host_config(**guard)
        try:
            image, command = pinned(client, spec.image, spec.digest), spec.command
            made = client.api.create_container(
                image, list(command) if command is not None else None, name=name, user=self._hardness.user,
                labels=labels, environment=environment, host_config=config,
                hostname=hostname, healthcheck={"test": ["NONE"]},
                use_config_proxy=False,  # The SDK would hand over the site's proxy, with its password.
            )  # fmt: skip
        except APIError as error:
            if error.status_code != requests.codes.conflict:
                raise
            return self._started(client, spec, name)
        return self._run_once(client, Handle(made["Id"]))

    def _started(self, client: DockerClient, spec: RunSpec, name: str) -> Handle:
        """The container that an earlier start with this key made."""
        facts = cast("Facts", client.api.inspect_container(name))
        if {NODE: self._node, KEY: spec.key}.items() - facts["Config"]["Labels"].items():
            raise RunRefused("a container of something else has this run's name", key=spec.key)
        return self._run_once(client, Handle(facts["Id"]))

    @staticmethod
    def _run_once(client: DockerClient, handle: Handle) -> Handle:
        """Starting one that runs is no error to the engine, but one that has ended would run again."""
        if client.api.inspect_container(handle)["State"]["Status"] == "created":
            try:
                client.api.start(handle)
            except APIError:
                client.api.remove_container(handle, force=True, v=True)
                raise
        return handle


@contextmanager
def _own_errors() -> Iterator[None]:
    """Failures of the SDK as ours. The engine's words name paths of this machine: they go to the log, not further."""
    try:
        yield
    except ImageNotFound as error:
        raise ImageMissing("the image is not on this machine") from error
    except NotFound as error:
        raise RunMissing("the engine has no such container (any more)") from error
    except APIError as error:
        log.warning("the engine refused: %s", error.explanation)
        if error.is_server_error() and "OCI runtime" not in str(error.explanation):
            raise RuntimeUnavailable("the Docker engine failed; the node's log says why") from error
        raise RunRefused("the Docker engine refused; the node's log says why") from error
    except (DockerException, requests.RequestException) as error:
        raise RuntimeUnavailable(
            "the Docker engine does not answer: check that it runs and that the node's user may use it"
        ) from error


def _moment(text: str) -> datetime:
    """The engine's times have nine digits behind the point, and the year 1 for never."""
    match = _TIME.fullmatch(text)
    if match is None:
        # No silence, which would pass: the same answer would come for ever.
        raise ValueError(f"the engine told a time that is none: {text}")
    return datetime.fromisoformat(f"{match[1]}.{(match[2] or '0').ljust(6, '0')}+00:00")


def _limit(facts: Facts) -> timedelta | None:
    seconds = facts["Config"]["Labels"].get(SECONDS)
    return timedelta(seconds=float(seconds)) if seconds else None


def _remaining(facts: Facts) -> float | None:
    limit = _limit(facts)
    if limit is None:
        return None
    started = _moment(facts["State"]["StartedAt"])
    return max(0.0, (started + limit - datetime.now(started.tzinfo)).total_seconds())


def _exit(facts: Facts, tail: bytes) -> Exit:
    state, limit = facts["State"], _limit(facts)
    code, oom = int(state["ExitCode"]), bool(state["OOMKilled"])
    lasted = _moment(state["FinishedAt"]) - _moment(state["StartedAt"])
    timed_out = code == _KILLED and not oom and limit is not None and lasted >= limit
    return Exit(code, oom, tail, timed_out)


def _log_tail(client: DockerClient, handle: Handle, facts: Facts) -> bytes:
    size = int(facts["Config"]["Labels"].get(LOG_BYTES, 0))
    if size == 0:
        return b""
    lines = max(10, size // 64)  # The engine counts lines; what is too much of them is cut off here.
    return client.api.logs(handle, tail=lines)[-size:]


def _kill(client: DockerClient, handle: Handle) -> None:
    try:
        client.api.kill(handle, "SIGKILL")
    except APIError as error:
        if error.status_code not in {requests.codes.conflict, requests.codes.not_found}:
            raise
        log.debug("it had ended by itself")


def _remove_helpers(client: DockerClient, node: str, keep: set[str]) -> None:
    """Relays of this node whose runs are gone, and attendants of an earlier life."""
    for kind in ("relay", ATTENDANT):
        for container in client.api.containers(all=True, filters={"label": [f"{TYPE}={kind}", f"{NODE}={node}"]}):
            if not keep.intersection(name.removeprefix("/") for name in container["Names"] or ()):
                client.api.remove_container(container["Id"], force=True, v=True)


def from_options(options: Mapping[str, object]) -> DockerRuntime:
    """Options: `base_url`; `pull`, `registries` (see `ImageStore`); `hardening` (see there); `isolation`: socket or
    network, and for the latter `subnet`; `relay_image` (see own_image.py)."""
    pull = text_option(options, "pull", "newer")
    if pull not in {"newer", "missing", "always", "never"}:
        raise RuntimeUnknown(f"option pull is newer, missing, always or never, not {pull!r}", field="pull")
    isolation = text_option(options, "isolation", "socket")
    if isolation not in {"socket", "network"}:
        raise RuntimeUnknown(f"option isolation is socket or network, not {isolation!r}", field="isolation")
    node, base_url = text_option(options, "node_name"), options.get("base_url")
    image, private = text_option(options, "relay_image", ""), None
    if isolation == "network":
        subnet = text_option(options, "subnet", "")
        private = PrivateNetwork(node, image, lambda kind: {TYPE: kind, NODE: node}, subnet)
    registries = cast("Mapping[str, Credentials]", options.get("registries") or {})
    hardness = Hardening.model_validate(options.get("hardening") or {})
    stall = float(cast("float", options.get("stall_seconds") or STALL_SECONDS))
    return DockerRuntime(node, str(base_url) if base_url else None, pull, registries, hardness, private, image, stall)
