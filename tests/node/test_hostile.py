"""Assignments that are malformed in every way, and runs that fill the disk: each gets a final state, the node lives."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.node.fake_runtime import FakeRuntime
from tests.node.site import SiteUnderTest
from vantage6.api.v1.delivery_pb2 import Assignment
from vantage6.node import disk, states
from vantage6.node.audit import verify
from vantage6.node.runtimes.base import Exit, RunSpec
from vantage6.node.temporary import Temporary

ROUNDS = int(os.environ.get("VANTAGE6_FUZZ", "150"))
NASTY = [
    "", " ", "\n", "\x00", "../../etc/passwd", "a" * 10_000, "$(reboot)", "\x1b[31m", "'; DROP TABLE", "%s%n", "💥",
    "example/average:1", "-", ".", "latest@sha256:" + "0" * 64,
]  # fmt: skip
NUMBERS = [0, -1, 99, 2**31 - 1, -(2**31)]
TEXTS = ("image", "username", "task_key", "initiator.name", "input.payload_id")
INTEGERS = ("run_id", "participants", "collaboration_id", "initiator.organization_id", "parent_task_id")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def garbled(run: Assignment, dice: random.Random) -> Assignment:
    """One to four fields of the message replaced by what nobody expects."""
    odd = ("databases", "initiator.public_key", "input.inline", "deadline.seconds")
    for name in dice.sample([*TEXTS, *INTEGERS, *odd], dice.randint(1, 4)):
        part, _, field = name.rpartition(".")
        holder: Any = getattr(run, part) if part else run
        if name == "databases":
            run.databases.extend(dice.sample(NASTY, 3))
        elif name in TEXTS:
            setattr(holder, field, dice.choice(NASTY))
        elif name in INTEGERS:
            setattr(holder, field, dice.choice(NUMBERS))
        elif name == "deadline.seconds":
            holder.seconds = dice.choice([0, -(2**35), 2**35, -(2**40), 2**40, 2**62])
        else:
            broken = [b"", dice.randbytes(300), dice.randbytes(5000), run.input.inline[:-1], b"json." + b"[" * 9999]
            setattr(holder, field, dice.choice(broken))
    return run


@pytest.mark.attack("X08")
async def test_fuzzed_assignments(site: SiteUnderTest) -> None:
    """Every one of them ends, the node goes on, and nothing of them is left."""
    site.settings["policy"] = {
        "allowed_images": [".*"],
        "allowed_methods": [".*"],
        "disclosure": [{"rule": "maximum_rows"}],
    }
    connection = await site.online()
    dice = random.Random(7)
    before = descriptors()
    for number in range(100, 100 + ROUNDS):
        connection.send(assignment=garbled(site.assignment(b'json.{"method": "m"}', result_id=number), dice))
    ended: set[int] = set()
    async with asyncio.timeout(60):
        while len(ended) < ROUNDS:
            report = await site.server.reports.get()
            if report.state in states.FINAL:
                ended.add(report.result_id)
                assert report.reason or report.state == states.COMPLETED
                assert len(report.message) < 2000
    connection.send(assignment=site.assignment(b'json.{"method": "m"}', result_id=5))
    await site.server.report(states.COMPLETED)
    assert site.node
    gate = site.node.site.gate
    await site.stop()
    assert not site.runtime.alive
    assert site.node.site.workspace.runs() == []
    assert verify(gate.audit.path).count > ROUNDS
    assert descriptors() <= before + 8


@pytest.mark.attack("X08")
async def test_a_full_temporary_volume_ends_the_run(site: SiteUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SECONDS", 0.05)

    async def algorithm(spec: RunSpec) -> Exit:
        folder = next(Path(mount.source) for mount in spec.mounts if mount.target == "/mnt/tmp")
        for number in range(10):
            (folder / f"f{number}").write_bytes(bytes(300_000))
        await asyncio.Event().wait()
        return Exit(0)

    site.runtime = FakeRuntime(algorithm)
    site.settings["limits"] = {"temporary_bytes": 2**20}
    connection = await site.online()
    connection.send(assignment=site.assignment())
    report = await site.server.report(states.FAILED)
    assert report.reason == "DISK_LIMIT"
    assert site.runtime.stopped
    # What it filled it with ends no later run of the same run_id.
    assert (await site.runtime.drops.get()).startswith("3-")
    assert site.node
    assert site.node.site.workspace.temporary_folders() == []
    assert site.node.site.workspace.retired() == []


@pytest.mark.row("M49")
async def test_temporary_volumes_go_by_age(site: SiteUnderTest) -> None:
    site.settings["limits"] = {"temporary_days": 2}
    old = site.folder / "t" / "tmp" / "77"
    old.mkdir(parents=True)
    then = time.time() - 3 * 24 * 3600
    os.utime(old, (then, then))
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.COMPLETED)
    await site.stop()
    assert site.node
    assert [name.partition("-")[0] for name in site.node.site.workspace.temporary_folders()] == ["3"]
    assert "77" in site.runtime.dropped


async def test_a_full_volume_stays_while_somebody_works_with_it(site: SiteUnderTest) -> None:
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.COMPLETED)
    assert site.node
    held = site.node.site
    [name] = held.workspace.temporary_folders()
    held.disk.overfull.add(name)
    tidying = Temporary(held.workspace, held.runtime, None)
    await tidying.tidy({name}, held.disk.overfull)
    assert held.workspace.temporary_folders() == [name]
    await tidying.tidy(set(), held.disk.overfull)
    assert held.workspace.temporary_folders() == []
    assert not held.disk.overfull


@pytest.mark.attack("X08")
def test_threads_do_not_keep_what_they_gave_back() -> None:
    """In a process of its own: the C library gives threads arenas only before it is told how many."""
    program = """
import ctypes, sys, threading
from vantage6.common.memory import bound_arenas
if sys.argv[1] == "bound": assert bound_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
barrier = threading.Barrier(12)
def work():
    barrier.wait()
    held = [libc.malloc(5000) for _ in range(2000)]
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
for each in threads: each.start()
for each in threads: each.join()
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""

    def arenas(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True)
        return done.stdout.count("<heap nr=")

    assert arenas("bound") <= 2 < arenas("free")
