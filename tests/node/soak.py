"""A node, as a process of its own on a real engine, under a fuzzer of assignments and a hostile algorithm."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.node.fake_server import API_KEY, Connection
from tests.node.site import SiteUnderTest
from tests.node.test_hostile import garbled
from vantage6.api.v1.delivery_pb2 import Assignment, Cancel
from vantage6.node import states
from vantage6.node.runtimes.docker_volumes import volumes_of

if TYPE_CHECKING:
    from docker import DockerClient

AT_ONCE = 10
RUN_IDS = range(1, 9)
AT_WORK = 3
HOSTILE = r"""
import json, os, signal, socket, sys, time
mode = json.loads(open(os.environ["INPUT_FILE"]).read().partition(".")[2])["method"]
out, shared, proxy = os.environ["OUTPUT_FILE"], os.environ["TEMPORARY_FOLDER"], ("127.0.0.1", 50051)
def forks():
    while True:
        try:
            if not os.fork():
                signal.pause()
        except OSError:
            time.sleep(0.1)
def memory():
    held = []
    while True:
        held.append(bytearray(8 << 20))
def disk():
    for number in range(100000):
        os.makedirs(f"{shared}/d{number}", mode=0o700, exist_ok=True)
        open(f"{shared}/d{number}/f", "wb").write(bytes(60000))
def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)
def chatter():
    for _ in range(30000):
        os.write(1, b"\x1b[31m" + b"x" * 200 + b"\n")
def knock():
    held = []
    for number in range(80):
        try:
            one = socket.create_connection(proxy, timeout=2)
            one.sendall(os.urandom(500) if number % 2 else b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(300))
            held.append(one)
        except OSError:
            pass
def large():
    with open(out, "wb") as stream:
        stream.truncate(2**40)
def nonsense():
    open(out, "wb").write(os.urandom(5000))
def good():
    open(out, "w").write("json.42")
def crash():
    os.abort()
def fails():
    sys.exit(3)
globals().get(mode, good)()
"""
MODES = ("forks", "memory", "disk", "deaf", "chatter", "knock", "large", "nonsense", "crash", "fails", "good", "good")


_KERNEL = ("rss_kib", "descriptors", "threads")


@dataclass(frozen=True)
class Sample:
    """Of the node's process, and of what it has made in the engine."""

    seconds: float
    rss_kib: int
    descriptors: int
    threads: int
    finished: int
    containers: int = 0
    volumes: tuple[str, ...] = ()
    blocks: int = 0
    in_use: int = 0


@dataclass
class Soak:
    site: SiteUnderTest
    engine: DockerClient
    image: str
    seed: int = 7
    finished: Counter[str] = field(default_factory=Counter)
    curve: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.name = f"soak-{uuid.uuid4().hex[:8]}"
        self.config = self.site.folder / "node.yaml"
        self.figures = self.site.folder / "figures.json"
        self._open: dict[int, Assignment] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._idle, self._connected = asyncio.Event(), asyncio.Event()
        self._number = 0
        self._began = time.monotonic()

    def write_config(self) -> None:
        settings = {
            "name": self.name, "server_url": f"http://127.0.0.1:{self.site.server.port}", "api_key": API_KEY,
            "private_key": "key.pem", "directories": {"data": "data", "task": "t", "log": "log"},
            "isolation": "network", "runtime_options": {"pull": "never", "relay_image": "vantage6/python:dev"},
            "databases": {"default": {"uri": "key.csv"}},
            "policy": {"allowed_images": [".*"], "disclosure": [{"rule": "maximum_rows"}], "max_output_bytes": 10**6},
            "limits": {"runs": AT_WORK, "seconds": 3, "memory_bytes": 64 << 20, "pids": 24, "output_bytes": 1 << 20,
                       "temporary_bytes": 2 << 20, "tmp_bytes": 1 << 20},
        }  # fmt: skip
        (self.site.folder / "key.csv").write_text("a\n1\n")
        self.config.write_text(json.dumps({"application": settings}))

    async def run(self, seconds: float) -> tuple[Sample, Sample]:
        """The node's figures after it has warmed up and at the end, both with no run at work."""
        self.write_config()
        command = (sys.executable, "-m", "tests.node.soaked", self.figures)
        with (self.site.folder / "node.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, "start", "--foreground", "--config", str(self.config), stderr=log
            )
            self._connected.clear()
            helpers = [asyncio.create_task(each) for each in (self._serve(), self._listen(), self._look(process.pid))]
            try:
                await self._feed(max(4.0, seconds / 10))
                first = await self._sample(process.pid)
                await self._feed(seconds)
                last = await self._sample(process.pid)
                assert process.returncode is None, (self.site.folder / "node.log").read_text()[-3000:]
                for helper in helpers:
                    assert not helper.done(), helper
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
            finally:
                for helper in helpers:
                    helper.cancel()
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        return first, last

    async def _feed(self, seconds: float) -> None:
        """Sends assignments for so long, and returns when all of them have ended."""
        await self._connected.wait()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await self._room.acquire()
            self._number += 1
            run = self._next()
            self._open[run.result_id] = run
            self._idle.clear()
            self.connection.send(assignment=run)
            if self.dice.random() < 0.1:
                self.connection.send(cancel=Cancel(result_id=run.result_id, epoch=run.epoch, reason="CANCELLED"))
            if self.dice.random() < 0.003:
                self.connection.close()
        async with asyncio.timeout(120):
            await self._idle.wait()

    def _next(self) -> Assignment:
        method = json.dumps({"method": self.dice.choice(MODES)}).encode()
        run = self.site.assignment(b"json." + method, result_id=self._number, image=self.image,
                                   run_id=self.dice.choice(RUN_IDS), databases=["default"])  # fmt: skip
        run.task_key = f"task-{self._number}" if self.dice.random() < 0.1 else run.task_key
        return garbled(run, self.dice) if self.dice.random() < 0.5 else run

    async def _serve(self) -> None:
        """Takes the node's connections; what it does not know of is sent again, as the server does it."""
        while True:
            self.connection: Connection = await self.site.server.connections.get()
            held = {each.result_id for each in self.connection.hello.held}
            self._connected.set()
            for run in [run for id_, run in self._open.items() if id_ not in held]:
                self.connection.send(assignment=run)

    async def _listen(self) -> None:
        while True:
            report = await self.site.server.reports.get()
            if report.state in states.FINAL and report.result_id in self._open:
                del self._open[report.result_id]
                self.finished[report.reason or "COMPLETED"] += 1
                self._room.release()
                if not self._open:
                    self._idle.set()

    async def _look(self, pid: int) -> None:
        while True:
            self.curve.append(await self._sample(pid, in_engine=False))
            await asyncio.sleep(5)

    async def _sample(self, pid: int, *, in_engine: bool = True) -> Sample:
        made = Sample(time.monotonic() - self._began, *_figures(pid), self.finished.total())
        if not in_engine:
            return made
        # The last report is sent before the last container, and the last volume that was too full, is removed.
        until = time.monotonic() + 60
        while not self.tidy(here := await asyncio.to_thread(self.in_engine)) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        inside = await asyncio.to_thread(self._inside, pid)
        seen: dict[str, Any] = {**here, **inside, **dict(zip(_KERNEL, _figures(pid), strict=True))}
        return replace(made, **seen)

    def _inside(self, pid: int) -> dict[str, int]:
        """What is in use, told by the node's process itself."""
        self.figures.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR1)
        until = time.monotonic() + 30
        while not self.figures.exists() and time.monotonic() < until:
            time.sleep(0.05)
        told = json.loads(self.figures.read_text())
        return {"blocks": told["blocks"], "in_use": told["in_use"]}

    def tidy(self, here: dict[str, Any]) -> bool:
        """No container, and no volume but those whose folders the site keeps (a cancelled run left a folder only)."""
        kept = {each.name for each in (self.site.folder / "t" / "tmp").iterdir()}
        return not here["containers"] and set(here["volumes"]) <= kept

    def growth(self) -> float:
        """Resident memory (KiB): medians of the last quarter of the time against the second, when all is warm."""
        end = self.curve[-1].seconds
        quarters = [[s.rss_kib for s in self.curve if low <= s.seconds / end <= low + 0.25] for low in (0.25, 0.75)]
        return median(quarters[1]) - median(quarters[0]) if all(quarters) else 0.0

    def in_engine(self) -> dict[str, Any]:
        """How much of this node there is."""
        label = f"vantage6-node={self.name}"
        containers = self.engine.containers.list(all=True, ignore_removed=True, filters={"label": label})
        return {"containers": len(containers), "volumes": sorted(volumes_of(self.engine, self.name))}


def _figures(pid: int) -> tuple[int, int, int]:
    """Resident memory in KiB, open descriptors, threads."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return int(status["VmRSS"].split()[0]), descriptors, int(status["Threads"])
