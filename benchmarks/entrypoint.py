"""How long a container takes from its entry point to the first line of the user's function, against a bare interpreter.

Both are started in turns inside one container of the image, so that neither the engine nor the image's mounts count.
No function asks for data, so pandas is not loaded; each ends its process at its first line. What it is handed
loads what it needs when it is used: the client gRPC with its first call, a connection its driver.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys

from benchmarks.children import ROOT
from benchmarks.container import IMAGE, quiet
from benchmarks.harness import Bench, Row, Samples, Skipped, Table

BAR = 3.0

KINDS = {
    "@remote": "from vantage6.algorithm import remote\n@remote\ndef line():",
    "@connection": "from vantage6.algorithm import Database, connection\n@connection(1)\ndef line(database: Database):",
    "@algorithm_client": (
        "from vantage6.algorithm import AlgorithmClient, algorithm_client\n"
        "@algorithm_client\ndef line(client: AlgorithmClient):"
    ),
}
"""What the function is handed; `@data` loads pandas before its first line, `@metadata` asks the proxy."""

DRIVER = """
import json, os, subprocess, sys, tempfile, time
folder = tempfile.mkdtemp()
for place, source in enumerate(KINDS):
    os.mkdir(f"{folder}/first{place}")
    with open(f"{folder}/first{place}/__init__.py", "w") as file:
        file.write(f"import os\\n{source}\\n    os._exit(0)\\n")
for name, text in (("input", 'json.{"method": "line", "args": [], "kwargs": {}}'), ("output", ""), ("token", "t")):
    with open(folder + "/" + name, "w") as file:
        file.write(text)
    os.environ[name.upper() + "_FILE"] = folder + "/" + name
os.environ["DATABASE_URI"] = folder + "/input"
os.environ["PROXY_ADDRESS"] = "unix:/nowhere"
os.environ["PYTHONPATH"] = folder + ":" + os.environ.get("PYTHONPATH", "")
def took(*command):
    begun = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True)
    return (time.perf_counter() - begun) * 1000
works = [("-c", "pass")]
works += [("-m", "vantage6.algorithm.entrypoint", f"first{place}") for place in range(len(KINDS))]
for work in works:
    took(*work)
times = [[took(*work) for work in works] for _ in range(TIMES)]
print(json.dumps([list(each) for each in zip(*times)]))
"""


async def run(bench: Bench) -> Table:
    if not shutil.which("docker") or await quiet("docker", "version", check=False):
        raise Skipped("no Docker engine answers (make engine)")
    if await quiet("docker", "image", "inspect", IMAGE, check=False):
        await quiet(sys.executable, "tools/images.py")
    process = await asyncio.create_subprocess_exec(
        "docker", "run", "--rm", "-i", "--network", "none", "--tmpfs", "/tmp", "--entrypoint", "python3", IMAGE, "-",
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    script = DRIVER.replace("TIMES", str(bench.repeat(40, 10))).replace("KINDS", repr(list(KINDS.values())))
    answer, _ = await process.communicate(script.encode())
    if process.returncode:
        raise RuntimeError(f"the container ended with {process.returncode}")
    bare, *ours = (Samples(tuple(values)) for values in json.loads(answer))
    rows = [
        Row("python3 -c pass, in the image", bare),
        *(
            Row(f"entry point to the first line of a function with {kind}", each, bare, BAR)
            for kind, each in zip(KINDS, ours, strict=True)
        ),
    ]
    return Table("entrypoint: of a container, against a bare interpreter in the same image", rows)
