"""A no-op task in a cold container, against `docker run` of the same image."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from pathlib import Path

from benchmarks.children import ROOT, Child
from benchmarks.deployment import Deployment, deployment, populate
from benchmarks.harness import Bench, Row, Samples, Skipped, Table, milliseconds, take_turns
from vantage6.client.client import AsyncClient

IMAGE = "vantage6/examples/average:dev"
BAR = 1.3


async def quiet(*command: str, check: bool = True) -> int:
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=null, stderr=null)
    code = await process.wait()
    if check and code:
        raise RuntimeError(f"{' '.join(command)} ended with {code}")
    return code


async def docker_run() -> None:
    """The whole life of a container that imports what an algorithm imports, and ends."""
    await quiet("docker", "run", "--rm", "--network", "none", "--entrypoint", "python3", IMAGE,
                "-c", "import vantage6.algorithm.entrypoint, average")  # fmt: skip


def start_nodes(made: Deployment, count: int) -> list[Child]:
    """Nodes as `vnode` starts them, with Docker."""
    children = []
    for index, party in enumerate(made.parties[:count]):
        folder = made.folder / f"site-{index}"
        folder.mkdir()
        party.keys.save(folder / "key.pem")
        (folder / "data.csv").write_text("age\n" + "30\n40\n" * 5, encoding="utf-8")
        settings = {
            "name": f"bench-{time.time_ns() % 10**9}-{index}", "server_url": made.url, "ca_file": str(made.ca_file),
            "api_key": party.api_key, "private_key": str(folder / "key.pem"), "runtime": "docker",
            "databases": {"default": {"uri": str(folder / "data.csv")}}, "policy": {"allowed_images": [".*"]},
            "directories": {key: str(folder / key) for key in ("task", "log", "data")},
        }  # fmt: skip
        path = folder / "node.yaml"
        path.write_text(json.dumps({"application": settings}), encoding="utf-8")
        children.append(
            Child("vantage6.node.cli", "start", "--foreground", "--config", str(path), log=folder / "node.log")
        )
    return children


async def once(made: Deployment, client: AsyncClient, count: int) -> None:
    task = await client.task.create(
        collaboration=made.collaboration_id,
        organizations=[party.organization_id for party in made.parties[:count]],
        image=IMAGE,
        input={"method": "partial_average", "args": ["age"]},
        databases=["default"],
    )
    results = [result async for result in client.results(task)]
    if [result.state.name for result in results] != ["COMPLETED"] * count:
        raise RuntimeError(f"not completed: {results}")


async def measure(bench: Bench, folder: Path, count: int) -> list[Row]:
    async with deployment(folder) as made:
        await populate(made, count)
        children = start_nodes(made, count)
        try:
            for child in children:
                await child.__aenter__()
            await asyncio.gather(*(child.wait_for("online") for child in children))
            async with made.researcher() as client:

                async def task() -> None:
                    await once(made, client, count)

                async def bare() -> None:
                    await asyncio.gather(*(docker_run() for _ in range(count)))

                await task()
                await bare()
                times = bench.repeat(10, 4) if count == 1 else bench.repeat(4, 2)
                ours, reference = await take_turns(times, milliseconds(task), milliseconds(bare))
        finally:
            await asyncio.gather(*(child.stop() for child in children))
    return [
        Row(f"docker run, {count} at once", Samples(reference)),
        Row(f"task for {count} node{'s' if count > 1 else ''}, cold", Samples(ours), Samples(reference), BAR),
    ]


async def run(bench: Bench) -> Table:
    if not shutil.which("docker") or await quiet("docker", "version", check=False):
        raise Skipped("no Docker engine answers (make engine)")
    if await quiet("docker", "image", "inspect", IMAGE, check=False):
        await quiet(sys.executable, "tools/images.py")
    rows = await measure(bench, bench.folder / "one", 1)
    if not bench.quick:
        rows += await measure(bench, bench.folder / "ten", 10)
    note = (
        "The reference imports what the algorithm imports and ends; the task also reads a table, seals, reports and "
        "comes back to the client, with the site's hardening. All nodes are on this one machine and engine."
    )
    return Table("container: an analysis in a cold container, against docker run of the same image", rows, [note])
