"""A task that runs nothing, from the client's call to the last opened result at the client, against `wire`.

All of it is real: TLS through the gateway, token checks, commits, envelopes. With 2 nodes these are real nodes with the
runtime `null`; with 100 and 1,000 light ones (see fleet.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.deployment import Party, deployment, populate
from benchmarks.fleet import fleet
from benchmarks.harness import Bench, Row, Samples, Table, milliseconds, take_turns
from benchmarks.wire import wire
from vantage6.client.client import AsyncClient

BARS = {2: 40.0, 100: 15.0, 1000: 10.0}


async def once(client: AsyncClient, collaboration_id: int, parties: Sequence[Party]) -> None:
    task = await client.task.create(
        collaboration=collaboration_id,
        organizations=[party.organization_id for party in parties],
        image="bench/nothing:1",
        input={"method": "nothing"},
    )
    results = [result async for result in client.results(task)]
    if len(results) != len(parties) or any(result.state.name != "COMPLETED" for result in results):
        raise RuntimeError(f"not all completed: {results[0]}")


async def measure(bench: Bench, count: int) -> Row:
    async with deployment(bench.folder / f"noop-{count}") as made:
        await populate(made, count)
        real = count <= 2
        async with (
            fleet(made, made.parties, "fleet", real=real),
            made.researcher() as client,
            wire(bench.folder / f"wire-{count}", count) as reference,
        ):

            async def task() -> None:
                await once(client, made.collaboration_id, made.parties)

            for _ in range(2):
                await task()
            times = {2: bench.repeat(50, 15), 100: bench.repeat(15, 6)}.get(count, bench.repeat(7, 3))
            noop, bare = await take_turns(times, milliseconds(task), reference.round)
    kind = "real nodes" if real else "light nodes"
    return Row(f"no-op task, {count:,} {kind}", Samples(noop), Samples(bare), BARS[count])


async def run(bench: Bench) -> Table:
    counts = (2, 100) if bench.quick else (2, 100, 1000)
    rows = []
    for count in counts:
        row = await measure(bench, count)
        assert row.reference
        rows += [Row(f"wire, {count:,} nodes", row.reference), row]
    note = (
        "Through the gateway with TLS, encrypted collaboration, SQLite with synchronous=FULL. Server, gateway, nodes "
        "and client share the processors."
    )
    return Table("noop: client call to result at client, against a bare stream", rows, [note])
