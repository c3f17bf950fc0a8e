"""The reference `wire`: a bare grpc.aio bidirectional stream with TLS, one small message to each node and one back.

The hub and its nodes are processes of their own; each node has a connection of its own. No token, no database, no
envelope, no protobuf: what remains is what a message to each node and an answer cost at the least.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import uvloop

from benchmarks.children import Child, obey
from vantage6.gateway.certificates import make_certificates

METHOD = "/bench.Wire/Connect"
MESSAGE = b"m" * 100
SERVER_OPTIONS = (
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
)
# One connection for each channel, as of nodes on machines of their own.
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


class Hub:
    """Counts answers; a round is over when every node has answered."""

    def __init__(self) -> None:
        self.nodes: list[asyncio.Queue[bytes]] = []
        self._left = 0
        self._over = asyncio.Event()
        self.joined = asyncio.Event()

    async def connect(self, requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.nodes.append(queue)
        self.joined.set()
        reading = asyncio.create_task(self._read(requests))
        try:
            while True:
                yield await queue.get()
        finally:
            reading.cancel()

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        async for _ in requests:
            self._left -= 1
            if self._left == 0:
                self._over.set()

    async def round(self) -> float:
        self._left = len(self.nodes)
        self._over.clear()
        begun = time.perf_counter()
        for node in self.nodes:
            node.put_nowait(MESSAGE)
        await self._over.wait()
        return (time.perf_counter() - begun) * 1000

    async def obey(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        if "nodes" in command:
            while len(self.nodes) < command["nodes"]:
                self.joined.clear()
                await self.joined.wait()
            return {"nodes": len(self.nodes)}
        return {"ms": await self.round()}


async def hub(folder: Path) -> None:
    certificates = make_certificates(folder)
    one = Hub()
    server = grpc.aio.server(options=SERVER_OPTIONS)
    handler: Any = grpc.stream_stream_rpc_method_handler(one.connect)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Wire", {"Connect": handler}),))
    pair = (certificates.key.read_bytes(), certificates.certificate.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    print(f'{{"port": {port}}}', flush=True)
    await obey(one.obey)
    await server.stop(None)


async def nodes(folder: Path, port: int, count: int) -> None:
    credentials = grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes())

    async def node() -> None:
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, OWN_CONNECTION) as channel:
            call: Any = channel.stream_stream(METHOD)()
            while (message := await call.read()) is not grpc.aio.EOF:
                await call.write(message)

    tasks = [asyncio.create_task(node()) for _ in range(count)]
    await obey(_nothing)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _nothing(_: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


class Wire:
    """A hub with its nodes, ready for rounds."""

    def __init__(self, hub: Child) -> None:
        self._hub = hub

    async def round(self) -> float:
        """Milliseconds for one message to each node and an answer of each."""
        return float((await self._hub.ask())["ms"])


@asynccontextmanager
async def wire(folder: Path, count: int) -> AsyncIterator[Wire]:
    folder.mkdir()  # noqa: ASYNC240 - before anything is measured
    async with AsyncExitStack() as stack:
        center = await stack.enter_async_context(Child(__name__, "hub", str(folder), log=folder / "hub.log"))
        port = str((await center.hear())["port"])
        await stack.enter_async_context(
            Child(__name__, "nodes", str(folder), port, str(count), log=folder / "nodes.log")
        )
        await center.ask(nodes=count)
        made = Wire(center)
        for _ in range(3):
            await made.round()
        yield made


if __name__ == "__main__":
    if sys.argv[1] == "hub":
        uvloop.run(hub(Path(sys.argv[2])))
    else:
        uvloop.run(nodes(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
