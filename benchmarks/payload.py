"""A payload of 1 GiB to a node and back, through Envoy with TLS: how fast, and how much memory each process takes.

The run copies its input file to its output file, as a container could; everything else is the product's: the client,
the gateway, the server and the node are processes of their own, in an encrypted collaboration.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self

import grpc
import structlog

from benchmarks.children import Child, memory_kib, obey
from benchmarks.curve import plot
from benchmarks.deployment import PASSWORD, Deployment, deployment, free_port, populate
from benchmarks.harness import Bench, Row, Samples, Table
from vantage6.client.client import AsyncClient
from vantage6.common.channel import Endpoint, open_channel
from vantage6.common.chunks import CHUNK
from vantage6.gateway.certificates import Certificates, make_certificates
from vantage6.node.app import Node
from vantage6.node.config import load_config
from vantage6.node.runtimes.base import Handle, RunSpec
from vantage6.node.runtimes.null import NullRuntime

MIB = 1024 * 1024
MOST_GROWTH = 64
"""MiB by which a process may grow, whatever the payload's size."""
BAR = 0.3
METHOD = "/bench.Bare/Write"
PAYLOADS = "vantage6.api.v1.PayloadService"
"""The gateway passes on what it knows; the bare server answers these methods too, without looking at anything."""
WARM_UP = 8 * MIB


class Copying(NullRuntime):
    """A run that returns what it was given; says when the input was there."""

    async def start(self, spec: RunSpec) -> Handle:
        Path(spec.run_dir.parent.parent / "started").write_text(str(time.time()), encoding="ascii")  # noqa: ASYNC240
        handle = await super().start(spec)
        await asyncio.to_thread(shutil.copyfile, spec.run_dir / "input", spec.run_dir / "output")
        return handle


async def node_role(path: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    await Node(load_config(Path(path)), Copying()).run()


class ClientRole:
    """A researcher in a process of its own: one analysis for each command."""

    def __init__(self) -> None:
        self._client: AsyncClient | None = None

    async def __call__(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._client is None:
            self._client = AsyncClient(command["url"], ca_file=command["ca_file"], known_organizations=command["known"])
            await self._client.authenticate("researcher", PASSWORD)
            await self._client.setup_encryption(command["key"])
        begun = time.time()
        task = await self._client.task.create(
            command["collaboration"], command["organizations"], "image", Path(command["input"])
        )
        created = time.time()
        folder = Path(command["output"])
        results = [each async for each in self._client.results(task, folder)]
        if lacking := [each for each in results if each.file is None]:
            raise RuntimeError(f"not completed: {lacking}")
        files = [str(each.file) for each in results]
        return {"begun": begun, "created": created, "ended": time.time(), "files": files}


async def bare_role(port: str, folder: str = "") -> None:
    """A gRPC server that throws away what is streamed to it, with TLS if there is a folder with a certificate."""

    async def write(requests: AsyncIterator[bytes], _: object) -> bytes:
        size = 0
        async for request in requests:
            size += len(request)
        return str(size).encode()

    async def read(request: bytes, _: object) -> AsyncIterator[bytes]:
        chunk = os.urandom(CHUNK)
        for _number in range(int(request) // CHUNK):
            yield chunk

    up: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_unary_rpc_method_handler(write)
    down: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(read)
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", 4 * CHUNK),))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("bench.Bare", {"Write": up}),
            grpc.method_handlers_generic_handler(PAYLOADS, {"WritePayload": up, "ReadPayload": down}),
        )
    )
    if folder:
        key, chain = (Path(folder, name).read_bytes() for name in ("server.key", "server.pem"))  # noqa: ASYNC240
        server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(key, chain)]))
    else:
        server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("{}", flush=True)
    await server.wait_for_termination()


async def bare(port: int, size: int, ca_file: Path | None = None) -> float:
    """MB/s of a bare stream of the same chunks, without doing anything with them; with TLS if there is an authority."""
    chunk = os.urandom(CHUNK)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // CHUNK):
            yield chunk

    async with open_channel(Endpoint(f"http{'s' if ca_file else ''}://127.0.0.1:{port}", ca_file)) as channel:
        await channel.channel_ready()
        begun = time.perf_counter()
        call: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(METHOD)
        await call(chunks())
        return size / (time.perf_counter() - begun) / 1e6


async def journey(url: str, size: int, ca_file: Path) -> float:
    """MB/s of a bare stream to a server and, when all of it is there, of as many bytes back from it."""
    chunk = os.urandom(CHUNK)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // CHUNK):
            yield chunk

    async with open_channel(Endpoint(url, ca_file)) as channel:
        await channel.channel_ready()
        begun = time.perf_counter()
        up: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(f"/{PAYLOADS}/WritePayload")
        await up(chunks())
        down: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/{PAYLOADS}/ReadPayload")
        async for _ in down(str(size).encode()):
            pass
        return size / (time.perf_counter() - begun) / 1e6


@contextlib.asynccontextmanager
async def bare_gateway(folder: Path, certificates: Certificates, port: int) -> AsyncIterator[str]:
    """The address of a gateway with TLS before a bare server."""
    listen = f"127.0.0.1:{free_port()}"
    tls = {"certificate": str(certificates.certificate), "key": str(certificates.key)}
    settings = {
        "listen": listen, "servers": [f"127.0.0.1:{port}"], "tls": tls, "access_log": "none", "requests_per_second": 0,
    }  # fmt: skip
    path = folder / "bare-gateway.yaml"
    path.write_text(json.dumps({"application": settings}), encoding="utf-8")
    async with Child("vantage6.gateway", "--config", str(path), log=folder / "bare-gateway.log") as envoy:
        await envoy.wait_for("gateway ready")
        yield f"https://{listen}"


@contextlib.asynccontextmanager
async def bare_server(folder: Path, certificates: Certificates | None = None) -> AsyncIterator[int]:
    """Its port."""
    port = free_port()
    secure = (str(certificates.key.parent),) if certificates else ()
    async with Child("benchmarks.payload", "bare", str(port), *secure, log=folder / "bare.log") as child:
        await child.hear()
        yield port


class Memory:
    """The largest resident memory of processes while it is watched, beyond what they had at the beginning."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = processes
        self._first = {name: memory_kib(pid) for name, pid in processes.items()}
        self._most = dict(self._first)
        self.curve: list[dict[str, float]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        begun = time.monotonic()
        while True:
            now = {name: memory_kib(pid) for name, pid in self._processes.items()}
            self._most = {name: max(value, now[name]) for name, value in self._most.items()}
            self.curve.append({"seconds": time.monotonic() - begun, **{k: v / 1024 for k, v in now.items()}})
            await asyncio.sleep(0.05)

    def growth(self) -> dict[str, float]:
        """MiB."""
        return {name: (self._most[name] - self._first[name]) / 1024 for name in self._most}


def start_node(made: Deployment, index: int = 0) -> Child:
    folder = made.folder / (f"site{index}" if index else "site")
    folder.mkdir()
    made.parties[index].keys.save(folder / "key.pem")
    settings = {
        "name": "payload", "server_url": made.url, "ca_file": str(made.ca_file), "runtime": "null",
        "api_key": made.parties[index].api_key, "private_key": str(folder / "key.pem"),
        "policy": {"allowed_images": [".*"]}, "limits": {"output_bytes": 8 * 1024 * MIB, "input_bytes": 8 * 1024 * MIB},
        "directories": {key: str(folder / key) for key in ("task", "log", "data")},
    }  # fmt: skip
    (folder / "node.yaml").write_text(json.dumps({"application": settings}), encoding="utf-8")
    return Child("benchmarks.payload", "node", str(folder / "node.yaml"), log=folder / "node.log")


def write_random(path: Path, size: int) -> None:
    block = os.urandom(CHUNK)
    with path.open("wb") as file:
        for number in range(size // CHUNK):
            file.write(number.to_bytes(8, "big") + block[8:])


def same(one: Path, two: Path) -> bool:
    with one.open("rb") as a, two.open("rb") as b:
        while (piece := a.read(CHUNK)) == b.read(CHUNK):
            if not piece:
                return True
    return False


def processes(made: Deployment, node: Child, client: Child) -> dict[str, int]:
    found = {"client": client.pid, "server": made.server.pid, "node": node.pid}
    if made.gateway:
        pid = made.gateway.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        found["gateway (Envoy)"] = int(children[0]) if children else pid
    return found


async def once(made: Deployment, client: Child, size: int) -> dict[str, float]:
    """Times in seconds of one analysis."""
    source, folder = made.folder / "input", made.folder / "output"
    await asyncio.to_thread(write_random, source, size)
    answer = await client.ask(
        url=made.url, ca_file=str(made.ca_file), known=str(made.folder / "known.json"),
        key=str(made.folder / "site" / "key.pem"), collaboration=made.collaboration_id,
        organizations=[made.parties[0].organization_id], input=str(source), output=str(folder),
    )  # fmt: skip
    started = float((made.folder / "site" / "task" / "started").read_text(encoding="ascii"))
    if not await asyncio.to_thread(same, source, Path(answer["files"][0])):
        raise RuntimeError("the output is not the input")
    return {
        "there": started - answer["begun"],
        "upload": answer["created"] - answer["begun"],
        "back": answer["ended"] - started,
    }


async def run(bench: Bench) -> Table:
    size = (128 if bench.quick else 1024) * MIB
    certificates = make_certificates(bench.folder / "bare")
    async with contextlib.AsyncExitStack() as stack:
        plain = await stack.enter_async_context(bare_server(bench.folder))
        secure = await stack.enter_async_context(bare_server(bench.folder, certificates))
        door = await stack.enter_async_context(bare_gateway(bench.folder, certificates, plain))
        made = await stack.enter_async_context(deployment(bench.folder / "network"))
        await populate(made, 1)
        node = await stack.enter_async_context(start_node(made))
        await node.wait_for("online")
        client = await stack.enter_async_context(Child("benchmarks.payload", "client", log=bench.folder / "client.log"))
        await once(made, client, WARM_UP)
        speeds, tls, there, back = [await bare(plain, size)], [await bare(secure, size, certificates.ca)], [], []
        whole = [await journey(door, size, certificates.ca)]
        async with Memory(processes(made, node, client)) as memory:
            for _ in range(bench.repeat(5, 1)):
                seconds = await once(made, client, size)
                there.append(size / seconds["there"] / 1e6)
                back.append(size / seconds["back"] / 1e6)
                speeds.append(await bare(plain, size))
                tls.append(await bare(secure, size, certificates.ca))
                whole.append(await journey(door, size, certificates.ca))
    streams = tuple(Samples(tuple(values), "MB/s") for values in (speeds, tls, whole))
    return _table(size, streams, (there, back), memory)


def _table(size: int, streams: tuple[Samples, ...], ways: tuple[list[float], list[float]], memory: Memory) -> Table:
    if target := os.environ.get("BENCH_PAYLOAD_CURVE"):
        title = f"Resident memory while {size // MIB} MiB go to a node and back, over and over"
        Path(target).write_text(plot(title, "MiB", memory.curve), encoding="utf-8")
    there, back = (Samples(tuple(values), "MB/s") for values in ways)
    stream, tls, whole = streams
    rows = [
        Row("bare gRPC stream, no TLS", stream),
        Row("bare gRPC stream with TLS", tls),
        Row("bare bytes on the same way: through Envoy to a server, and from there through Envoy", whole),
        Row("client to the run's input file, against no TLS", there, stream, BAR, at_least=True),
        Row("the same, against TLS", there, tls, BAR, at_least=True),
        Row("the same, against bare bytes on the same way", there, whole),
        Row("the run's output file to the client's file, against no TLS", back, stream, BAR, at_least=True),
        Row("the same, against TLS", back, tls, BAR, at_least=True),
    ]
    rows += [
        Row(f"growth of {name}", Samples((value,), "MiB"), bar=MOST_GROWTH, absolute=True)
        for name, value in memory.growth().items()
    ]
    note = "Sealed, hashed, written to disk at client, server and node, and opened; no process holds the payload."
    return Table(f"payload: {size // MIB} MiB to a node and back, sealed, through Envoy with TLS", rows, [note])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["node", config]:
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(node_role(config))
        case ["bare", number, *rest]:
            asyncio.run(bare_role(number, *rest))
        case ["client"]:
            asyncio.run(obey(ClientRole()))
