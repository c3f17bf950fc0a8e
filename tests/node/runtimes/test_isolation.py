"""What works in isolation `network`: the proxy and a database over TCP, and relays that come and go with their runs."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.node.output import read_output
from vantage6.node.runtimes.base import Forward, RunRefused
from vantage6.node.runtimes.private_network import network_name

from .conftest import Kit

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.attack, pytest.mark.engine, pytest.mark.row("M06")]


@pytest.fixture
async def site(engine_images: DockerClient) -> AsyncIterator[Kit]:
    """A node; nothing of it is left."""
    async with a_node(engine_images, {"isolation": "network"}) as made:
        yield made


class a_node:  # noqa: N801 - used like a function
    """A node on this machine, in one mode."""

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


@pytest.mark.row("M45")
@pytest.mark.row("M46")
@pytest.mark.row("D04")
async def test_the_proxy_is_reached_over_tcp(site: Kit, engine_images: DockerClient) -> None:
    files = site.prepare()
    async with _serving(files.socket_path, b"proxy"), _serving(files.socket_path.with_name("http.sock"), b"web"):
        handle = await site.start(
            """
            import os, socket
            host, port = os.environ["PROXY_ADDRESS"].rsplit(":", 1)
            web = os.environ["PROXY_HTTP_ADDRESS"].rsplit(":", 1)
            said = []
            for name, port in ((host, port), ("proxy", port), web):
                with socket.create_connection((name, int(port))) as s:
                    s.sendall(b"to the ")
                    s.shutdown(socket.SHUT_WR)
                    said.append(s.recv(100).decode())
            open(os.environ["OUTPUT_FILE"], "w").write(" ".join(said))
            """,
            files,
        )
        assert (await site.runtime.wait(handle)).code == 0
    assert read_output(site.workspace, files, 100) == b"to the proxy to the proxy to the web"
    facts = engine_images.api.inspect_network(network_name(site.node_name))
    assert facts["Internal"]
    assert facts["Options"]["com.docker.network.bridge.inhibit_ipv4"] == "true"
    assert facts["Labels"]["vantage6-node"] == site.node_name
    await site.runtime.remove(handle)
    assert engine_images.containers.list(all=True, filters={"label": f"vantage6-node={site.node_name}"}) == []


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
    assert json.loads(read_output(site.workspace, files, 100)) == ["x database", None, None]


async def test_an_open_network_of_that_name_is_not_used(site: Kit, engine_images: DockerClient) -> None:
    engine_images.networks.create(network_name(site.node_name), driver="bridge", internal=True)
    with pytest.raises(RunRefused, match="is not closed"):
        await site.start("pass")


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


async def test_many_first_starts_make_one_network(site: Kit, engine_images: DockerClient) -> None:
    """The engine has no objection to several networks of one name, and starts nothing on any of them then."""
    handles = await asyncio.gather(*(site.start("pass") for _ in range(4)))
    assert [(await site.runtime.wait(handle)).code for handle in handles] == [0] * 4
    assert len(engine_images.networks.list(names=[network_name(site.node_name)])) == 1
