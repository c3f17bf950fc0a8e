"""Memory and processor time of the server for nodes that are connected and have nothing to do."""

from __future__ import annotations

import asyncio
import itertools
import resource
import statistics
import time
from contextlib import AsyncExitStack

from benchmarks.children import memory_kib, processor_seconds
from benchmarks.deployment import deployment, populate
from benchmarks.fleet import fleet
from benchmarks.harness import Bench, Row, Samples, Table

BAR_KIB = 60.0
GOAL = 10_000
SPARE_FILES = 500
WATCHED_SECONDS = 10.0


def sizes(quick: bool) -> list[int]:
    """Steps up to what the limit of open files allows, in the server and in each process that holds the nodes."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES
    full = min(GOAL, limit)
    top = min(full, 300) if quick else min(full, 4000)
    return [top // 4, top // 2, top]


async def run(bench: Bench) -> Table:
    steps = sizes(bench.quick)
    measured: list[tuple[int, float]] = []
    async with deployment(bench.folder / "idle", gateway=False, heartbeat=5) as made, AsyncExitStack() as stack:
        await populate(made, steps[-1], encrypted=False)
        online = 0
        # The first ones bring imports, caches and pools with them.
        for number, step in enumerate([20, *steps]):
            await stack.enter_async_context(fleet(made, made.parties[online:step], f"fleet-{number}"))
            online = step
            await asyncio.sleep(3)
            measured.append((online, memory_kib(made.server.pid)))
        used, begun = processor_seconds(made.server.pid), time.monotonic()
        await asyncio.sleep(WATCHED_SECONDS)
        busy = (processor_seconds(made.server.pid) - used) / (time.monotonic() - begun)
    slopes = [(after[1] - before[1]) / (after[0] - before[0]) for before, after in itertools.pairwise(measured)]
    fit = statistics.linear_regression([count for count, _ in measured], [kib for _, kib in measured])
    rows = [
        Row("server memory for each idle node", Samples(tuple(slopes), "KiB"), None, BAR_KIB, absolute=True),
        Row(f"server processor, {online:,} idle nodes", Samples((busy * 100,), "% of one")),
    ]
    steps_seen = ", ".join(f"{kib / 1024:.0f} MiB with {count:,}" for count, kib in measured)
    note = (
        f"Resident memory: {steps_seen}. Slope over all steps: {fit.slope:.1f} KiB a node; {GOAL:,} would "
        f"take {(fit.intercept + fit.slope * GOAL) / 1024:.0f} MiB (extrapolated). Straight to the server without TLS, "
        "which is the gateway's, one connection for each node. Rows in the database are not in this figure."
    )
    return Table(f"idle: {online:,} nodes connected, heartbeats every 5 s", rows, [note])
