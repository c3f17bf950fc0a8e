"""50 MB to each of ten nodes and back, sealed, against a bare gRPC stream with TLS that carries as many bytes."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from benchmarks.children import Child
from benchmarks.deployment import Deployment, deployment, populate
from benchmarks.harness import Bench, Row, Samples, Table
from benchmarks.payload import MIB, bare, bare_server, same, start_node, write_random
from vantage6.gateway.certificates import make_certificates

NODES = 10
SIZE = 48 * MIB
"""50.3 MB."""
BAR = 3.0


async def once(made: Deployment, client: Child, size: int) -> float:
    """Seconds from the client's call to the last output in a file."""
    source, folder = made.folder / "input", made.folder / "output"
    await asyncio.to_thread(write_random, source, size)
    answer = await client.ask(
        url=made.url, ca_file=str(made.ca_file), known=str(made.folder / "known.json"),
        key=str(made.folder / "site" / "key.pem"), collaboration=made.collaboration_id,
        organizations=[party.organization_id for party in made.parties], input=str(source), output=str(folder),
    )  # fmt: skip
    for file in answer["files"]:
        if not await asyncio.to_thread(same, source, Path(file)):
            raise RuntimeError("the output is not the input")
    return float(answer["ended"] - answer["begun"])


async def run(bench: Bench) -> Table:
    certificates = make_certificates(bench.folder / "bare")
    async with contextlib.AsyncExitStack() as stack:
        secure = await stack.enter_async_context(bare_server(bench.folder, certificates))
        made = await stack.enter_async_context(deployment(bench.folder / "network"))
        await populate(made, NODES)
        for index in range(NODES):
            node = await stack.enter_async_context(start_node(made, index))
            await node.wait_for("online")
        client = await stack.enter_async_context(Child("benchmarks.payload", "client", log=bench.folder / "client.log"))
        await once(made, client, 2 * MIB)
        ours, theirs = [], []
        for _ in range(bench.repeat(5, 1)):
            ours.append(await once(made, client, SIZE))
            there_and_back = 2 * NODES * SIZE
            theirs.append(there_and_back / await bare(secure, there_and_back, certificates.ca) / 1e6)
    stream = Samples(tuple(theirs), "s")
    rows = [
        Row(f"bare gRPC stream with TLS, {2 * NODES} times 50 MB", stream),
        Row(f"50 MB to and from {NODES} nodes", Samples(tuple(ours), "s"), stream, BAR),
    ]
    note = "Client, gateway, server and ten nodes are processes on one machine; every byte is sealed and opened."
    return Table(f"payloads: 50 MB to {NODES} nodes and back, sealed, through Envoy with TLS", rows, [note])
