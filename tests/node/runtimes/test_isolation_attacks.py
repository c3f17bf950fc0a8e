"""Both isolations of the Docker runtime under one list of attacks (M06, X09).

As nobody and as root of the container, and with the node itself in a container beside those of its runs. Every attack
is first made from a container that nothing guards, where it succeeds; docs/isolation.md is the table of outcomes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vantage6.node.runtimes.private_network import PrivateNetwork, network_name

from .conftest import IMAGE, REPOSITORY
from .inside import NodeInside
from .scene import Scene, Target, attack_unguarded, scene
from .test_isolation import a_node

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.attack("X09", "CVE-2026-54533"), pytest.mark.engine, pytest.mark.row("M06")]

NOBODY, ROOT = "65534:65534", "0:0"
ROOTS = "as root there"
INSIDE = "as root there, node in a container"
Attack = Callable[[str], Awaitable[Any]]
Attacked = tuple[Target, Attack]


@pytest.mark.parametrize(
    ("column", "isolation", "user", "inside"),
    [
        ("`socket`", "socket", NOBODY, False),
        ("`network`", "network", NOBODY, False),
        (f"`socket`, {ROOTS}", "socket", ROOT, False),
        (f"`network`, {ROOTS}", "network", ROOT, False),
        pytest.param(f"`socket`, {INSIDE}", "socket", ROOT, True, marks=pytest.mark.row("M53")),
        pytest.param(f"`network`, {INSIDE}", "network", ROOT, True, marks=pytest.mark.row("M55")),
    ],
)
@pytest.mark.row("M47")
@pytest.mark.row("M54")
async def test_nothing_but_the_proxy_is_reached(
    engine_images: DockerClient, tmp_path: Path, column: str, isolation: str, user: str, inside: bool
) -> None:
    options: dict[str, object] = {"isolation": isolation, "hardening": {"user": user}}
    on = in_a_container if inside else on_this_machine
    async with a_node(engine_images, {"isolation": "network"}) as other, on(engine_images, options, tmp_path) as site:
        elsewhere = await other.start("import time; time.sleep(120)")
        target, attack = site
        if isolation == "socket":  # It has no network of its own to be attacked.
            network = PrivateNetwork(target.node_name, IMAGE, lambda kind: {"vantage6-type": kind})
            network.ensure(engine_images)
        with listening(target.victim / "socket"), scene(target, other.node_name, engine_images) as made:
            unguarded = await asyncio.to_thread(attack_unguarded, made)
            assert unguarded == dict.fromkeys(unguarded, True)
            seen = await attack(program_of(made))
        assert seen == dict.fromkeys(unguarded, False)
        assert outcomes(column) == seen
        assert {name: here for name, here in outcomes("without guard").items() if name in seen} == unguarded
        await other.runtime.stop(elsewhere, 0)


def program_of(made: Scene) -> str:
    made.calls |= made.elsewhere
    return made.program


def outcomes(column: str) -> dict[str, bool]:
    """What docs/isolation.md says of each attempt; those that cannot be made there are left out."""
    text = (REPOSITORY / "docs" / "isolation.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    heads = next(row for row in rows if row[0] == "attempt")
    begin, place = rows.index(heads) + 2, heads.index(column)
    said = {row[0]: row[place].partition(" ")[0] for row in rows[begin:] if len(row) == len(heads)}
    assert set(said.values()) <= {"open", "closed", "-"}, said
    return {name: outcome == "open" for name, outcome in said.items() if outcome != "-"}


@asynccontextmanager
async def on_this_machine(engine: DockerClient, options: dict[str, object], folder: Path) -> AsyncIterator[Attacked]:
    mark = f"secret-{uuid.uuid4().hex}"
    async with a_node(engine, options) as kit:
        victim = kit.prepare(mark.encode(), mark, run_id=71)
        (victim.temporary / "note").write_text(mark)
        running = await kit.start(sleeping(mark), victim)
        secret = folder / "private_key.pem"
        secret.write_text(mark)

        async def attack(program: str) -> Any:
            return await kit.answer(program, kit.prepare(run_id=72))

        yield Target(kit.node_name, victim.run_dir, victim.temporary, mark, secret), attack
        await kit.runtime.stop(running, 0)


@asynccontextmanager
async def in_a_container(engine: DockerClient, options: dict[str, object], _: Path) -> AsyncIterator[Attacked]:
    mark = f"secret-{uuid.uuid4().hex}"
    node = await asyncio.to_thread(NodeInside, engine, options)
    try:
        victim = await asyncio.to_thread(node.start, sleeping(mark), mark)
        temporary = node.volume / "tasks" / "tmp" / "1"
        secret = node.volume / "private_key.pem"
        secret.write_text(mark)
        networks = set(node_networks(node))
        # On the public network, and on the private one where there is one (M55).
        private = {network_name(node.node_name)} if options["isolation"] == "network" else set()
        assert networks == {"bridge", *private}
        yield (
            Target(node.node_name, victim, temporary, mark, secret, node.box),
            lambda program: asyncio.to_thread(node.answer, program),
        )
    finally:
        await asyncio.to_thread(node.close)


def node_networks(node: NodeInside) -> list[str]:
    node.box.reload()
    return list(node.box.attrs["NetworkSettings"]["Networks"])


def sleeping(mark: str) -> str:
    """Has the mark in its command line and in its output."""
    return f"open('/mnt/data/output', 'w').write({mark!r})\nimport time; time.sleep(120)"


@contextmanager
def listening(folder: Path) -> Iterator[None]:
    """At the proxy's socket in this folder; by a short name, since a socket's address has at most 107 bytes."""
    place = os.open(folder, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as proxy:
            proxy.bind(f"/proc/self/fd/{place}/proxy.sock")
            (folder / "proxy.sock").chmod(0o666)
            proxy.listen()
            yield
    finally:
        os.close(place)
