"""How long `from vantage6.client import Client` takes, against `import grpc`: each in a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial

from benchmarks.harness import Bench, Row, Samples, Table, take_turns


async def seconds(code: str, environment: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)  # noqa: ASYNC221 - nothing else meanwhile
    return (time.perf_counter() - begun) * 1000


async def run(bench: Bench) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        # As installed: all is compiled ahead, by the first round. A working tree has stale files, or writes none.
        environment = os.environ | {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        codes = ("pass", "import grpc", "from vantage6.client import Client")
        works = [partial(seconds, code, environment) for code in codes]
        for work in works:
            await work()
        bare, grpc, client = await take_turns(bench.repeat(40, 7), *works)
    rows = [
        Row("python -c pass", Samples(bare)),
        Row("import grpc", Samples(grpc)),
        Row("import vantage6.client", Samples(client), Samples(grpc), 2.0),
    ]
    return Table("import: of the client, against that of grpc", rows, ["With the start of the interpreter in each."])
