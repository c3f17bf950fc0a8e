"""How long `import vantage6.client` takes, against `import grpc`: each in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

from benchmarks.harness import Bench, Row, Samples, Table, take_turns


async def seconds(code: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: ASYNC221 - nothing else is to happen meanwhile
    return (time.perf_counter() - begun) * 1000


async def run(bench: Bench) -> Table:
    works = [partial(seconds, code) for code in ("pass", "import grpc", "import vantage6.client")]
    for work in works:
        await work()
    bare, grpc, client = await take_turns(bench.repeat(20, 7), *works)
    rows = [
        Row("python -c pass", Samples(bare)),
        Row("import grpc", Samples(grpc)),
        Row("import vantage6.client", Samples(client), Samples(grpc), 2.0),
    ]
    return Table("import: of the client, against that of grpc", rows, ["With the start of the interpreter in each."])
