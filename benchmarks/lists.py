"""What a server with a long past costs: the first page of its tasks, and a round, against a server with none."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from benchmarks.deployment import PASSWORD, Deployment, deployment, populate
from benchmarks.fleet import fleet
from benchmarks.harness import Bench, Row, Samples, Table, milliseconds, take_turns
from benchmarks.history import add_past, add_payloads
from benchmarks.noop import once

PAGE_BAR, ROUND_BAR = 1.5, 1.1
FEW = 100
STORED = 2 * 2**30


@dataclass(frozen=True)
class Works:
    root: Callable[[], Awaitable[object]]
    researcher: Callable[[], Awaitable[object]]
    round: Callable[[], Awaitable[object]]


@asynccontextmanager
async def works(made: Deployment) -> AsyncIterator[Works]:
    assert made.ca_file
    context = ssl.create_default_context(cafile=str(made.ca_file))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(fleet(made, made.parties, "fleet"))
        client = await stack.enter_async_context(made.researcher())
        web = await stack.enter_async_context(httpx.AsyncClient(base_url=made.url, verify=context, timeout=120))
        answer = await web.post("/api/token/user", json={"username": "researcher", "password": PASSWORD})
        tokens = {"root": made.root_token, "researcher": answer.json()["access_token"]}

        async def page(who: str) -> None:
            headers = {"authorization": f"Bearer {tokens[who]}"}
            found = await web.get("/api/task", params={"page": 1, "per_page": 10}, headers=headers)
            found.raise_for_status()
            assert len(found.json()) == 10
            assert int(found.headers["x-total-count"]) >= FEW

        yield Works(
            lambda: page("root"), lambda: page("researcher"), lambda: once(client, made.collaboration_id, made.parties)
        )


async def run(bench: Bench) -> Table:
    many, past = bench.repeat(1_000_000, 20_000), bench.repeat(100_000, 5_000)
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(deployment(bench.folder / name)) for name in ("few", "many", "old")]
        few, full, old = servers
        for made in servers:
            await populate(made, 2)
            first = made.parties[0].organization_id
            count = {id(few): FEW, id(full): many, id(old): past}[id(made)]
            add_past(made.database, made.collaboration_id, first, count, contents=made is old)
        add_payloads(old.database, old.folder / "data" / "blobs", old.collaboration_id, 64, STORED // 64)
        little, much, long = [await stack.enter_async_context(works(made)) for made in servers]
        firsts = []
        for each in (much.root, much.researcher):
            begun = time.perf_counter()
            await each()
            firsts.append(time.perf_counter() - begun)
        measured = [little.root, much.root, little.researcher, much.researcher]
        for work in [*measured, little.round, long.round] * 3:
            await work()
        pages = await take_turns(bench.repeat(150, 30), *map(milliseconds, measured))
        rounds = await take_turns(bench.repeat(60, 10), milliseconds(little.round), milliseconds(long.round))
    own = [Samples(values) for values in (*pages, *rounds)]
    rows = [
        Row(f"GET /api/task, first page of {FEW}, as root", own[0]),
        Row(f"the same of {many:,}", own[1], own[0], PAGE_BAR),
        Row(f"GET /api/task, first page of {FEW}, as researcher", own[2]),
        Row(f"the same of {many:,}", own[3], own[2], PAGE_BAR),
        Row(f"no-op task, 2 light nodes, {FEW} tasks before", own[4]),
        Row(f"the same after {past:,} tasks and 2 GiB of payloads", own[5], own[4], ROUND_BAR),
    ]
    note = (
        "Pages of 10 through the gateway, with x-total-count. The first count after a start reads all tasks: "
        f"{firsts[0]:.2f} s as root, {firsts[1]:.2f} s as researcher; then it is remembered. The payloads' files are "
        "sparse. The tasks before have their contents and events in the database too."
    )
    return Table("lists: what a long past costs", rows, [note])
