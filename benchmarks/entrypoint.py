"""How long a container takes from its entry point to the first line of the user's function, against a bare interpreter.

Both are started in turns inside one container of the image, so that neither the engine nor the image's mounts count.
The function asks for no data, so pandas is not loaded; it ends its process at its first line.
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

DRIVER = """
import json, os, subprocess, sys, tempfile, time
folder = tempfile.mkdtemp()
os.mkdir(folder + "/first")
with open(folder + "/first/__init__.py", "w") as file:
    file.write("import os\\nfrom vantage6.algorithm import remote\\n@remote\\ndef line():\\n    os._exit(0)\\n")
for name, text in (("input", 'json.{"method": "line", "args": [], "kwargs": {}}'), ("output", ""), ("token", "t")):
    with open(folder + "/" + name, "w") as file:
        file.write(text)
    os.environ[name.upper() + "_FILE"] = folder + "/" + name
os.environ["PYTHONPATH"] = folder + ":" + os.environ.get("PYTHONPATH", "")
def took(*command):
    begun = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True)
    return (time.perf_counter() - begun) * 1000
works = (("-c", "pass"), ("-m", "vantage6.algorithm.entrypoint", "first"))
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
    script = DRIVER.replace("TIMES", str(bench.repeat(40, 10)))
    answer, _ = await process.communicate(script.encode())
    if process.returncode:
        raise RuntimeError(f"the container ended with {process.returncode}")
    bare, ours = (Samples(tuple(values)) for values in json.loads(answer))
    rows = [
        Row("python3 -c pass, in the image", bare),
        Row("entry point to the first line of the function", ours, bare, BAR),
    ]
    return Table("entrypoint: of a container, against a bare interpreter in the same image", rows)
