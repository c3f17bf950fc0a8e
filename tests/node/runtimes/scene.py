"""Everything that an algorithm must not reach, reachable for whoever is not guarded."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.types import IPAMConfig, IPAMPool

from vantage6.node.runtimes.private_network import network_name

from .conftest import IMAGE
from .probe import PROBE
from .test_attacks import METADATA, NEIGHBOUR, OUTSIDE, addresses

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

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
        try:
            yield int(server.getsockname()[1])
        finally:
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
        try:
            yield
        finally:
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


@dataclass(frozen=True)
class Target:
    """A node to be attacked from one of its runs: what lies where, on this machine."""

    node_name: str
    # Of another run of this node, which runs meanwhile; `mark` is in all of its files and in its command line.
    victim: Path
    temporary: Path
    mark: str
    # Of the node itself.
    secret: Path
    # The container that the node is in, with a service at port 80.
    box: Container | None = None


@contextmanager
def scene(target: Target, other: str, engine: DockerClient) -> Iterator[Scene]:
    """Everything that an algorithm must not reach, reachable for whoever is not guarded; `other` is another node."""
    with ExitStack() as stack:
        stack.enter_context(addresses(METADATA, OUTSIDE))
        made = Scene(engine)
        v4 = stack.enter_context(greeter(socket.AF_INET, "0.0.0.0"))
        v6 = stack.enter_context(greeter(socket.AF_INET6, "::"))
        stack.enter_context(name_server(OUTSIDE))
        ordinary = stack.enter_context(ordinary_network(engine))
        # What shares the node's own network and the other node's, as a container that somebody put there by mistake.
        beside, beyond = (
            stack.enter_context(neighbour(engine, network_name(name))) for name in (target.node_name, other)
        )
        on_ordinary = stack.enter_context(neighbour(engine, ordinary))
        abstract = f"vantage6-test-{uuid.uuid4().hex}"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind("\0" + abstract)
        listener.listen()
        victim = target.victim
        made.networks = [ordinary]
        made.mounts = {
            "/": {"bind": "/host", "mode": "rw"},
            "/var/run/docker.sock": {"bind": "/var/run/docker.sock", "mode": "rw"},
            **{str(each): {"bind": str(each), "mode": "ro"} for each in (victim, target.temporary, target.secret)},
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
            "another run's input": ["reads", str(victim / "input"), target.mark],
            "another run's output": ["reads", str(victim / "output"), target.mark],
            "another run's token": ["reads", str(victim / "token"), target.mark],
            "temporary volume of another run_id": ["reads", str(target.temporary / "note"), target.mark],
            "the node's own files": ["reads", str(target.secret), target.mark],
            "the host's password file": ["reads", "/host/etc/passwd", "root"],
            "processes of others in /proc": ["sees", target.mark],
            "own image's files": ["write", "/usr/local/bin/attack", "x"],
        }
        made.elsewhere = {
            "kernel settings in /proc/sys": ["write", SETTING, Path(SETTING).read_text()],
            "container on the node's network": ["tcp", beside, 80],
            "container on another node's network": ["tcp", beyond, 80],
            "abstract socket of the host": ["unix", f"@{abstract}"],
        }
        if target.box is not None:
            network = engine.networks.get(ordinary)
            network.connect(target.box)
            stack.callback(network.disconnect, target.box, force=True)
            _add_box(made, target, target.box)
        yield made


def _add_box(made: Scene, target: Target, box: Container) -> None:
    """The container that the node is in, by all of its addresses."""
    box.reload()
    networks = box.attrs["NetworkSettings"]["Networks"]
    made.calls["the node's own container"] = ["tcp", networks[made.networks[0]]["IPAddress"], 80]
    if (private := network_name(target.node_name)) in networks:
        made.elsewhere["the node's own container on its network"] = ["tcp", networks[private]["IPAddress"], 80]


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((OUTSIDE, 9))
        first = probe.getsockname()[0]
    shown = subprocess.run(["ip", "-4", "-o", "address"], check=True, capture_output=True, text=True).stdout
    own = [line.split()[3].split("/")[0] for line in shown.splitlines()]
    return next(each for each in own if not each.startswith("127.") and each not in (first, METADATA, OUTSIDE))


def attack_unguarded(made: Scene) -> dict[str, bool]:
    """What came of each attempt where nothing forbids it."""
    seen: dict[str, bool] = made.unguarded()
    for name, (kind, place, *more) in made.elsewhere.items():
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(str(place).replace("@", "\0"))
            seen[name] = True
        elif kind == "write":
            seen[name] = Path(str(place)).write_text(str(more[0])) > 0
        else:
            seen[name] = _answers_itself(made.engine, str(place))
    return seen


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
