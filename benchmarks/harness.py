"""Runs benchmarks one after the other and prints one table for each."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

NAMES = (
    "import",
    "entrypoint",
    "envelope",
    "rest",
    "logins",
    "noop",
    "drain",
    "idle",
    "lists",
    "container",
    "payload",
    "payloads",
)
MODULES = {"import": "imports", "envelope": "sealing"}

BUSY = 0.15
"""Part of the machine that others may use while we measure, if waiting helps."""
PATIENCE = 20.0
"""Seconds to wait for the others."""


@dataclass(frozen=True)
class Samples:
    """Measured values in `unit`."""

    values: tuple[float, ...]
    unit: str = "ms"

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def quantile(self, part: float) -> float:
        ordered = sorted(self.values)
        place = part * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(frozen=True)
class Row:
    """One line: what was measured, against which reference, and the design's bar for the ratio.

    `bar` is the most that is allowed, or with `at_least` the least. With `absolute` it is one for the median itself.
    """

    what: str
    samples: Samples
    reference: Samples | None = None
    bar: float | None = None
    at_least: bool = False
    absolute: bool = False

    @property
    def ratio(self) -> float | None:
        return None if self.reference is None else self.samples.median / self.reference.median

    @property
    def met(self) -> bool | None:
        value = self.samples.median if self.absolute else self.ratio
        if self.bar is None or value is None:
            return None
        return value >= self.bar if self.at_least else value <= self.bar

    def cells(self) -> list[str]:
        low, high = self.samples.quantile(0.1), self.samples.quantile(0.9)
        bar = "" if self.bar is None else f"{'≥' if self.at_least else '≤'} {self.bar:g}"
        if self.absolute and bar:
            bar += f" {self.samples.unit}"
        return [
            self.what,
            f"{number(self.samples.median)} {self.samples.unit}",
            f"{number(low)} - {number(high)}",
            "" if self.ratio is None else f"{self.ratio:.2f}",
            bar,
            {True: "yes", False: "NO", None: ""}[self.met],
        ]


@dataclass
class Table:
    """What a benchmark returns."""

    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """What a benchmark is given: a folder of its own, and whether to be quick."""

    folder: Path
    quick: bool

    def repeat(self, full: int, quick: int) -> int:
        return quick if self.quick else full


Benchmark = Callable[[Bench], Awaitable[Table]]


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


class Skipped(Exception):
    """The machine lacks what the benchmark needs."""


async def take_turns(times: int, *works: Callable[[], Awaitable[float]]) -> list[tuple[float, ...]]:
    """Values of each work, measured in turns, so that a slow moment of the machine meets all of them."""
    values: list[list[float]] = [[] for _ in works]
    for _ in range(times):
        for own, work in zip(values, works, strict=True):
            own.append(await work())
    return [tuple(own) for own in values]


def milliseconds(work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[float]]:
    """Makes a work say how long it took."""

    async def timed() -> float:
        begun = time.perf_counter()
        await work()
        return (time.perf_counter() - begun) * 1000

    return timed


def busy_and_total() -> tuple[int, int]:
    """Processor ticks of the whole machine since its start."""
    ticks = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


async def load(seconds: float = 0.5) -> float:
    """Part of the machine that is in use by others, looked at for a moment."""
    busy, total = busy_and_total()
    await asyncio.sleep(seconds)
    busy_after, total_after = busy_and_total()
    return (busy_after - busy) / max(1, total_after - total)


async def calm() -> float:
    """Waits until the machine is nearly idle, but not for ever; returns how busy it is."""
    end = time.monotonic() + PATIENCE
    while (found := await load()) > BUSY and time.monotonic() < end:
        pass
    return found


def show(table: Table) -> None:
    head = ["what", "median", "p10 - p90", "ratio", "bar", "met"]
    lines = [head, *(row.cells() for row in table.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    print(f"\n## {table.title}\n")
    for index, line in enumerate(lines):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if index == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    for note in table.notes:
        print(f"\n{note}")
    sys.stdout.flush()


async def run_one(name: str, *, quick: bool) -> Table | None:
    benchmark: Benchmark = importlib.import_module(f"benchmarks.{MODULES.get(name, name)}").run
    before = await calm()
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
        try:
            table = await benchmark(Bench(Path(folder), quick))
        except Skipped as reason:
            print(f"\n## {name}: skipped, {reason}")
            return None
    table.notes.append(f"Others used {before:.0%} of the machine's {os.cpu_count()} processors before it began.")
    show(table)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 also when a bar is missed: a noisy machine must not fail a build. 1 says that a benchmark broke."""
    parser = argparse.ArgumentParser(description="Measures what the design promises.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(NAMES)} (all unless given)")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="leave this one out")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and smaller sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    unknown = {*options.names, *options.without} - set(NAMES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    names = [name for name in options.names or NAMES if name not in options.without]
    tables, broken = [], []
    for name in names:
        try:
            tables.append(asyncio.run(run_one(name, quick=options.quick)))
        except Exception:  # noqa: BLE001 - it is told, and the others can be measured all the same
            traceback.print_exc()
            print(f"\n## {name}: broke")
            broken.append(name)
    if options.json:
        options.json.write_text(json.dumps([asdict(table) for table in tables if table], indent=2), encoding="utf-8")
    missed = [row.what for table in tables if table for row in table.rows if row.met is False]
    print(f"\n{'all bars met' if not missed else 'missed: ' + '; '.join(missed)}")
    if broken:
        print(f"broke: {', '.join(broken)}")
    return 1 if broken else 0
