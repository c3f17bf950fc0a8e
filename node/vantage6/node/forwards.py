"""Database servers of the site: a run reaches the one in its database's URL, through a socket of the node; no other.

The address is the configuration's; nothing that the run says changes where a connection goes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, quote, urlsplit

import structlog

from vantage6.common.errors import InvalidArgument
from vantage6.node.runtimes.base import Forward

if TYPE_CHECKING:
    from vantage6.node.workspace import DatabaseLike

log = structlog.get_logger(__name__)

Isolation = Literal["socket", "network"]

CONNECTIONS = 32
PATIENCE = 10.0
_CHUNK = 64 * 1024
_PORTS = {"postgresql": 5432, "postgres": 5432, "mysql": 3306, "mariadb": 3306, "mssql": 1433, "oracle": 1521,
          "mongodb": 27017, "http": 80, "https": 443}  # fmt: skip
_URL = re.compile(r"[a-z][a-z0-9+.-]*://")


@dataclass(frozen=True)
class Way:
    """One forward of one run: `path` is the socket on this machine, `forward` how the run knows it."""

    label: str
    host: str
    port: int
    path: Path
    forward: Forward
    uri: str


def plan(databases: Mapping[str, DatabaseLike], sockets: Path, inside: str, isolation: Isolation) -> dict[str, Way]:
    """The forwards of a run's databases, by label; `sockets` is the folder that the run sees as `inside`."""
    ways: dict[str, Way] = {}
    addresses: dict[str, str] = {}
    served = {label: each for label, each in databases.items() if getattr(each, "type", "") == "sql"}
    for number, (label, database) in enumerate(served.items()):
        if not _URL.match(database.uri) or database.uri.startswith(("file://", "sqlite")):
            continue  # A file, which is mounted.
        url = urlsplit(database.uri)
        host, port = url.hostname, url.port or _PORTS.get(url.scheme.split("+")[0])
        if not host or not port:
            raise InvalidArgument(f"database {label!r}: its URL names no server and port", field="databases")
        address = addresses.setdefault(host, f"127.0.0.{len(addresses) + 2}")
        # The name that PostgreSQL's own clients look for in a folder.
        name = f"db{number}/.s.PGSQL.{port}"
        forward = Forward(host, port, address, f"{inside}/{name}")
        ways[label] = Way(label, host, port, sockets / name, forward, _shown(url, forward, isolation))
    return ways


def _shown(url: SplitResult, forward: Forward, isolation: Isolation) -> str:
    """The URL that leads the run to the forward."""
    if isolation == "network":
        return _with_host(url, forward.address) if _is_address(forward.host) else url.geturl()
    if url.scheme.startswith("postgres"):
        user, at, _ = url.netloc.rpartition("@")
        folder = f"host={quote(forward.socket.rpartition('/')[0], safe='')}&port={forward.port}"
        query = f"{url.query}&{folder}" if url.query else folder
        return url._replace(netloc=f"{user}{at}", query=query).geturl()
    return url.geturl()


def _with_host(url: SplitResult, host: str) -> str:
    user, at, _ = url.netloc.rpartition("@")
    port = f":{url.port}" if url.port else ""
    return url._replace(netloc=f"{user}{at}{host}{port}").geturl()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Forwards:
    """Those of one run, for as long as it lives."""

    def __init__(self, ways: Mapping[str, Way]) -> None:
        self._ways = list(ways.values())
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Task[None]] = set()
        self._not_reached: set[str] = set()

    async def start(self) -> None:
        """Listens; a socket of the node's earlier life is replaced."""
        for way in self._ways:
            await asyncio.to_thread(_make_room, way.path)
            server = await asyncio.start_unix_server(partial(self._take, way), way.path)
            # Connecting is writing, and the algorithm's user is nobody here; the folder keeps others out.
            await asyncio.to_thread(way.path.chmod, 0o666)
            self._servers.append(server)

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._servers.clear()

    def _take(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._join(way, reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _join(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                far_reader, far_writer = await asyncio.open_connection(way.host, way.port)
        except (OSError, TimeoutError) as error:
            # Once for each database of a run: an algorithm that tries on and on must not fill the site's disk with it.
            told = log.debug if way.label in self._not_reached else log.warning
            self._not_reached.add(way.label)
            told("database_not_reached", label=way.label, error=type(error).__name__)
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            for each in (far_writer, writer):
                each.transport.abort() if each.transport.is_closing() else each.close()
                with suppress(OSError):
                    await each.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _make_room(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o711)
    path.unlink(missing_ok=True)
