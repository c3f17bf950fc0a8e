"""A queue of tasks for one node: how fast it empties, against bare committed inserts of the rows that it makes.

The reference writes, into a database with the same tables and settings, the same rows that the drain left behind:
result, event and content rows, one commit for each run. It asks nobody and checks nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from benchmarks.deployment import Deployment, deployment, populate, some_at_once
from benchmarks.fleet import fleet
from benchmarks.harness import Bench, Row, Samples, Table
from vantage6.client.client import AsyncClient

BAR = 0.25


async def fill(made: Deployment, client: AsyncClient, count: int) -> int:
    """Tasks for the first node, which is away; returns the id of the last."""
    tasks = await some_at_once([
        lambda: client.task.create(
            collaboration=made.collaboration_id,
            organizations=[made.parties[0].organization_id],
            image="bench/nothing:1",
            input={"method": "nothing"},
        )
    ] * count)  # fmt: skip
    return max(task.id for task in tasks)


async def rate(made: Deployment, client: AsyncClient, first: int, last: int) -> float:
    """Runs each second between the first assignment and the last final state, by the server's own clock."""
    await asyncio.gather(*(client.wait(task, progress=False) for task in range(last, first - 1, -100)))
    with closing(sqlite3.connect(f"file:{made.database}?mode=ro", uri=True)) as database:
        query = (
            "SELECT (julianday(max(events.time)) - julianday(min(results.assigned_at))) * 86400, "
            "count(DISTINCT results.id) "
            "FROM results JOIN events ON events.task_id = results.task_id WHERE results.task_id BETWEEN ? AND ?"
        )
        seconds, runs = database.execute(query, (first, last)).fetchone()
    return float(runs / seconds)


def bare_inserts(database: Path, scratch: Path, count: int) -> float:
    """Rows each second, one commit for each run, into a copy of the tables without its rows."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source:
        made = source.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC")
        schema = [row[0] for row in made if not row[0].startswith("CREATE TABLE sqlite_")]
        runs = source.execute("SELECT * FROM results WHERE state >= 5 ORDER BY id DESC LIMIT ?", (count,)).fetchall()
        events = {
            run[0]: source.execute("SELECT * FROM events WHERE task_id = ?", (run[1],)).fetchall() for run in runs
        }
        contents = {
            run[0]: source.execute("SELECT * FROM contents WHERE result_id = ?", (run[0],)).fetchall() for run in runs
        }
    with closing(sqlite3.connect(scratch)) as target:
        target.execute("PRAGMA journal_mode=WAL")
        target.execute("PRAGMA synchronous=FULL")
        for statement in schema:
            target.execute(statement)
        begun = time.perf_counter()
        for run in runs:
            target.execute(f"INSERT INTO results VALUES ({','.join('?' * len(run))})", run)
            for table, rows in (("events", events[run[0]]), ("contents", contents[run[0]])):
                for row in rows:
                    target.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
            target.commit()
        return len(runs) / (time.perf_counter() - begun)


async def run(bench: Bench) -> Table:
    count, times = bench.repeat(1000, 300), bench.repeat(3, 2)
    drains: dict[str, list[float]] = {"light": [], "real": []}
    inserts: list[float] = []
    async with deployment(bench.folder / "drain") as made:
        await populate(made, 2)
        async with made.researcher() as client:
            for turn in range(times):
                for kind, values in drains.items():
                    last = await fill(made, client, count)
                    async with fleet(made, made.parties[:1], f"{kind}-{turn}", real=kind == "real"):
                        values.append(await rate(made, client, last - count + 1, last))
                inserts.append(bare_inserts(made.database, bench.folder / f"bare-{turn}.db", count))
    reference, light, real = (Samples(tuple(values), "runs/s") for values in (inserts, drains["light"], drains["real"]))
    rows = [
        Row("bare committed inserts, one commit a run", reference),
        Row("one light node, 64 at once", light, reference, BAR, at_least=True),
        Row("one real node, runtime null, 64 at once", real, reference, BAR, at_least=True),
    ]
    note = (
        "Encrypted collaboration, through the gateway with TLS. The real node also commits to its own journal and "
        "makes and removes the files of each run, on the same disk."
    )
    return Table(f"drain: a queue of {count:,} tasks for one node", rows, [note])
