"""Both isolations of the Docker runtime under one list of attacks, as nobody and as root of the container (M06, X09).

Every attack is first made from a container that nothing guards, where it succeeds; docs/isolation.md is its table.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from docker.types import IPAMConfig, IPAMPool

from vantage6.node.runtimes.base import Forward, RunRefused
from vantage6.node.runtimes.private_network import network_name

from .conftest import IMAGE, REPOSITORY, Kit
from .probe import PROBE
from .test_attacks import METADATA, NEIGHBOUR, OUTSIDE, addresses

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.attack, pytest.mark.engine, pytest.mark.row("M06")]

SETTING = "/proc/sys/net/ipv4/ip_default_ttl"
NUMBER = uuid.uuid4().int % 200 + 20


@dataclass
class Scene:
    """What there is to be attacked."""

    engine: DockerClient
    calls: dict[str, list[object]] = field(default_factory=dict)
    # What even an ordinary container is kept from; that it works is shown in another way.
    elsewhere: dict[str, list[object]] = field(default_factory=dict)
    networks: list[str] = field(default_factory=list)
    mounts: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def program(self) -> str:
        return f"CALLS = {json.dumps(self.calls)!r}\n{PROBE}"

    def unguarded(self) -> Any:
        """As root, on an ordinary network, with the machine's files and processes."""
        first, *others = self.networks
        made = self.engine.containers.create(
            IMAGE, ["-c", self.program], user="0", network=first, dns=[OUTSIDE], pid_mode="host", working_dir="/",
            volumes=self.mounts, labels={"vantage6-test": "1"},
        )  # fmt: skip
        try:
            for name in others:
                self.engine.networks.get(name).connect(made)
            made.start()
            made.wait()
            return json.loads(made.logs())
        finally:
            made.remove(force=True)


@contextmanager
def greeter(family: socket.AddressFamily, address: str) -> Iterator[int]:
    """A service of this machine on one kind of address."""
    with socket.create_server((address, 0), family=family) as server:
        thread = threading.Thread(target=_greet, args=[server], daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _greet(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(b"hello")


@contextmanager
def name_server(address: str) -> Iterator[None]:
    """Answers every question with an address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))

        def serve() -> None:
            while True:
                query, asker = server.recvfrom(512)
                if not query:
                    return
                answer = query[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + query[12:]
                server.sendto(answer + b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc6\x33\x64\x4d", asker)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", (address, 53))
        thread.join()


@contextmanager
def ordinary_network(engine: DockerClient) -> Iterator[str]:
    """With a gateway, the internet and IPv6."""
    pools = [
        IPAMPool(subnet=f"10.214.{NUMBER}.0/24", gateway=f"10.214.{NUMBER}.1"),
        IPAMPool(subnet=f"fd00:6:{NUMBER:x}::/64", gateway=f"fd00:6:{NUMBER:x}::1"),
    ]
    made = engine.networks.create(
        f"vantage6-test-{uuid.uuid4().hex[:8]}", driver="bridge", ipam=IPAMConfig(pool_configs=pools), enable_ipv6=True
    )
    try:
        yield str(made.name)
    finally:
        made.remove()


@contextmanager
def neighbour(engine: DockerClient, network: str) -> Iterator[str]:
    """A container that talks to everybody; gives its address."""
    made = engine.containers.create(IMAGE, ["-c", NEIGHBOUR], user="0", network=network, labels={"vantage6-test": "1"})
    try:
        made.start()
        made.reload()
        yield str(made.attrs["NetworkSettings"]["Networks"][network]["IPAddress"])
    finally:
        made.remove(force=True)


MODES = [
    pytest.param({"isolation": isolation, "hardening": {"user": user}}, id=f"{isolation}-{who}")
    for isolation in ("socket", "network")
    for user, who in (("65534:65534", "nobody"), ("0:0", "root"))
]


@pytest.fixture(params=MODES)
async def site(request: pytest.FixtureRequest, engine_images: DockerClient) -> AsyncIterator[Kit]:
    """A node in each mode; nothing of it is left."""
    async with _node(engine_images, request.param) as made:
        yield made


class _node:  # noqa: N801 - used like a function
    def __init__(self, engine: DockerClient, options: dict[str, object]) -> None:
        self._engine, self._options, self._stack = engine, options, ExitStack()

    async def __aenter__(self) -> Kit:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="v6-"))
        self.kit = Kit("docker", Path(folder), options=self._options)
        return self.kit

    async def __aexit__(self, *_: object) -> None:
        kit = self.kit
        for handle in (await kit.runtime.recover()).values():
            await kit.runtime.remove(handle)
        await kit.runtime.close()
        left = self._engine.containers.list(all=True, filters={"label": f"vantage6-node={kit.node_name}"})
        assert left == []
        for network in self._engine.networks.list(names=[network_name(kit.node_name)]):
            network.remove()
        self._stack.close()


@contextmanager
def scene(site: Kit, other: Kit, engine: DockerClient, victim: Path, mark: str) -> Iterator[Scene]:
    """Everything that an algorithm must not reach, reachable for whoever is not guarded."""
    with ExitStack() as stack:
        stack.enter_context(addresses(METADATA, OUTSIDE))
        made = Scene(engine)
        v4 = stack.enter_context(greeter(socket.AF_INET, "0.0.0.0"))
        v6 = stack.enter_context(greeter(socket.AF_INET6, "::"))
        stack.enter_context(name_server(OUTSIDE))
        ordinary = stack.enter_context(ordinary_network(engine))
        # What shares the node's own network and the other node's, as a container that somebody put there by mistake.
        beside, beyond = (stack.enter_context(neighbour(engine, network_name(kit.node_name))) for kit in (site, other))
        on_ordinary = stack.enter_context(neighbour(engine, ordinary))
        abstract = f"vantage6-test-{uuid.uuid4().hex}"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind("\0" + abstract)
        listener.listen()
        made.networks = [ordinary]
        made.mounts = {
            "/": {"bind": "/host", "mode": "rw"},
            "/var/run/docker.sock": {"bind": "/var/run/docker.sock", "mode": "rw"},
            str(victim): {"bind": str(victim), "mode": "ro"},
        }
        made.calls = {
            "internet": ["tcp", OUTSIDE, v4],
            "cloud metadata address": ["tcp", METADATA, v4],
            "host by the bridge gateway": ["gateway", v4],
            "host by another of its addresses": ["tcp", _own_address(), v4],
            "host by IPv6": ["tcp", f"fd00:6:{NUMBER:x}::1", v6],
            "container on an ordinary network": ["tcp", on_ordinary, 80],
            "DNS server outside": ["dns", OUTSIDE, "example.org"],
            "DNS by the engine's resolver": ["dns", "127.0.0.11", "example.org"],
            "raw ICMP socket": ["raw", "AF_INET", 1],
            "raw packet socket": ["raw", "AF_PACKET", 768],
            "Docker socket": ["unix", "/var/run/docker.sock"],
            "another run's proxy socket": ["unix", str(victim / "socket" / "proxy.sock")],
            "another run's input": ["reads", str(victim / "input"), mark],
            "another run's token": ["reads", str(victim / "token"), mark],
            "the host's password file": ["reads", "/host/etc/passwd", "root"],
            "processes of others in /proc": ["sees", mark],
            "own image's files": ["write", "/usr/local/bin/attack", "x"],
        }
        made.elsewhere = {
            "kernel settings in /proc/sys": ["write", SETTING, Path(SETTING).read_text()],
            "container on the node's network": ["tcp", beside, 80],
            "container on another node's network": ["tcp", beyond, 80],
            "abstract socket of the host": ["unix", f"@{abstract}"],
        }
        yield made


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((OUTSIDE, 9))
        first = probe.getsockname()[0]
    shown = subprocess.run(["ip", "-4", "-o", "address"], check=True, capture_output=True, text=True).stdout
    own = [line.split()[3].split("/")[0] for line in shown.splitlines()]
    return next(each for each in own if not each.startswith("127.") and each not in (first, METADATA, OUTSIDE))


async def test_nothing_but_the_proxy_is_reached(site: Kit, engine_images: DockerClient) -> None:
    mark = f"secret-{uuid.uuid4().hex}"
    async with _node(engine_images, {"isolation": "network"}) as other:
        victim = site.prepare(mark.encode(), mark, run_id=71)
        with socket.socket(socket.AF_UNIX) as proxy:
            proxy.bind(str(victim.socket_path))
            victim.socket_path.chmod(0o666)
            proxy.listen()
            sleep = f"MARK = {mark!r}\nimport time; time.sleep(60)"
            running = await site.start(sleep, victim)
            elsewhere = await other.start("import time; time.sleep(60)")
            if site.options["isolation"] == "socket":  # It has no network of its own to be attacked.
                _make_network(engine_images, site.node_name)
            with scene(site, other, engine_images, victim.run_dir, mark) as made:
                await asyncio.to_thread(_attack_unguarded, made)
                made.calls |= made.elsewhere
                seen = await site.answer(made.program, site.prepare(run_id=72))
                assert seen == dict.fromkeys(made.calls, False)
                assert all(name in _table() for name in made.calls)
            await site.runtime.stop(running, 0)
            await other.runtime.stop(elsewhere, 0)


def _attack_unguarded(made: Scene) -> None:
    assert made.unguarded() == dict.fromkeys(made.calls, True)
    seen = {}
    for name, (kind, place, *more) in made.elsewhere.items():
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(place).replace("@", "\0"))
            seen[name] = True
        elif kind == "write":
            seen[name] = Path(str(place)).write_text(str(more[0])) > 0
        else:
            seen[name] = _answers_itself(made.engine, str(place))
    assert seen == dict.fromkeys(made.elsewhere, True)


def _answers_itself(engine: DockerClient, address: str) -> bool:
    """Whether the neighbour at this address serves: asked from within its own network namespace."""
    for container in engine.containers.list(filters={"label": "vantage6-test=1"}):
        networks = container.attrs["NetworkSettings"]["Networks"].values()
        if address in {each["IPAddress"] for each in networks}:
            program = f"CALLS = {json.dumps({'x': ['tcp', address, 80]})!r}\n{PROBE}"
            printed = engine.containers.run(
                IMAGE, ["-c", program], remove=True, network_mode=f"container:{container.id}", working_dir="/"
            )
            return bool(json.loads(printed)["x"])
    return False


def _make_network(engine: DockerClient, node: str) -> None:
    from vantage6.node.runtimes.private_network import PrivateNetwork  # noqa: PLC0415

    PrivateNetwork(node, IMAGE, lambda kind: {"vantage6-type": kind, "vantage6-node": node}).ensure(engine)


def _table() -> str:
    return (REPOSITORY / "docs" / "isolation.md").read_text()


@pytest.mark.row("M45")
@pytest.mark.row("M46")
@pytest.mark.row("D04")
@pytest.mark.parametrize("site", MODES[2:3], indirect=True)
async def test_the_proxy_is_reached_over_tcp(site: Kit, engine_images: DockerClient) -> None:
    files = site.prepare()
    async with _serving(files.socket_path, b"proxy"):
        handle = await site.start(
            """
            import os, socket
            host, port = os.environ["PROXY_ADDRESS"].rsplit(":", 1)
            said = []
            for name in (host, "proxy"):
                with socket.create_connection((name, int(port))) as s:
                    s.sendall(b"to the ")
                    s.shutdown(socket.SHUT_WR)
                    said.append(s.recv(100).decode())
            open(os.environ["OUTPUT_FILE"], "w").write(" ".join(said))
            """,
            files,
        )
        assert (await site.runtime.wait(handle)).code == 0
    assert site.workspace.read_output(files, 100) == b"to the proxy to the proxy"
    facts = engine_images.api.inspect_network(network_name(site.node_name))
    assert facts["Internal"]
    assert facts["Options"]["com.docker.network.bridge.inhibit_ipv4"] == "true"
    assert facts["Labels"]["vantage6-node"] == site.node_name
    await site.runtime.remove(handle)
    assert engine_images.containers.list(all=True, filters={"label": f"vantage6-node={site.node_name}"}) == []


@pytest.mark.parametrize("site", MODES[2:3], indirect=True)
async def test_a_database_server_under_its_own_name(site: Kit) -> None:
    """The algorithm uses the site's host name and port; what it reaches is the node's forward, and no other port."""
    files = site.prepare()
    (files.run_dir / "socket" / "db0").mkdir()
    way = Forward("db.site.example", 5432, "127.0.0.2", "/run/vantage6/db0/.s.PGSQL.5432")
    async with _serving(files.run_dir / "socket/db0/.s.PGSQL.5432", b"database"):
        code = """
            import json, os, socket
            def ask(host, port):
                try:
                    with socket.create_connection((host, port), timeout=2) as s:
                        s.sendall(b"x ")
                        s.shutdown(socket.SHUT_WR)
                        return s.recv(100).decode()
                except OSError:
                    return None
            answer = [ask("db.site.example", 5432), ask("db.site.example", 22), ask("127.0.0.1", 5432)]
            json.dump(answer, open(os.environ["OUTPUT_FILE"], "w"))
            """
        handle = await site.runtime.start(site.spec(code, files, forwards=(way,)))
        assert (await site.runtime.wait(handle)).code == 0
    assert json.loads(site.workspace.read_output(files, 100)) == ["x database", None, None]


@pytest.mark.parametrize("site", MODES[2:3], indirect=True)
async def test_an_open_network_of_that_name_is_not_used(site: Kit, engine_images: DockerClient) -> None:
    engine_images.networks.create(network_name(site.node_name), driver="bridge", internal=True)
    with pytest.raises(RunRefused, match="is not closed"):
        await site.start("pass")


@pytest.mark.parametrize("site", MODES[2:3], indirect=True)
async def test_relays_are_found_and_reaped_after_a_restart(site: Kit, engine_images: DockerClient) -> None:
    handle = await site.start("import time; time.sleep(60)")
    relays: dict[str, str | list[str] | bool] = {"label": [f"vantage6-node={site.node_name}", "vantage6-type=relay"]}
    runtime = await site.restarted()
    assert list((await runtime.recover()).values()) == [handle]
    assert len(engine_images.containers.list(filters=relays)) == 1
    engine_images.api.remove_container(handle, force=True)
    assert await runtime.recover() == {}
    assert engine_images.containers.list(all=True, filters=relays) == []


class _serving:  # noqa: N801 - used like a function
    """Echoes, with its name behind."""

    def __init__(self, path: Path, name: bytes) -> None:
        self._path, self._name = path, name

    async def __aenter__(self) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read() + self._name)
            await writer.drain()
            writer.close()

        self._server = await asyncio.start_unix_server(echo, self._path)
        self._path.chmod(0o666)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
