"""Ends a run that fills the disk: the temporary volume has no quota of the file system's own.

The kernel tells nobody of a folder that grows, so this is one of the few places that look again and again. One single
file is held by the run's own limit (`output_bytes`) in between. What no walk can see, such as files that are open and
have no name any more, shows in the room that is left on the disk: below `free_bytes` runs are ended, one after another.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vantage6.common.errors import ResourceExhausted, Vantage6Error
from vantage6.node.runtimes.attendant import ENTRIES, Count, Emptying

SECONDS = 1.0
SHARE = 5
"""What takes long to count is counted seldom: so many times as long goes by in between."""
THREADS = 2
"""That count: they are not those in which the node seals and writes its audit trail."""
PATIENCE = 5.0
"""Seconds in which what a run held becomes free, before the next one is ended for want of room."""

Measure = Callable[[Path, int], Awaitable[int]]
"""Counts what this process cannot: folder, and how many bytes are enough."""


class DiskLimit(ResourceExhausted):
    """The run's temporary volume holds more than the site allows."""


@dataclass(frozen=True)
class Used:
    """Bytes on the disk, as far as they could be counted; `closed` where some could not, `many` where too much is."""

    bytes: int
    closed: bool = False
    many: bool = False


class Disk:
    """What the runs of one node write to. `folder` is on the file system that must not be full."""

    def __init__(self, folder: Path, limit: int, floor: int, measure: Measure) -> None:
        self._folder, self._limit, self._floor, self._measure = folder, limit, floor, measure
        self._patient_until = 0.0
        self.overfull: set[str] = set()
        """Names of folders that were found to hold more than their limit."""
        self.held: set[str] = set()
        """Names of folders that a container which could not be removed may still be writing to."""
        self._threads = ThreadPoolExecutor(THREADS, "disk")

    async def watch(self, folder: Path) -> None:
        """Returns never; raises DiskLimit when the folder holds too much, or the disk has too little room left."""
        due = 0.0
        while True:
            if time.monotonic() >= due:
                due = time.monotonic() + SHARE * await self._check(folder)
            self._check_room()
            await asyncio.sleep(SECONDS)

    async def _check(self, folder: Path) -> float:
        """Seconds that it took."""
        used, seconds = await asyncio.get_running_loop().run_in_executor(self._threads, _timed, folder, self._limit)
        if used.many:
            self.overfull.add(folder.name)
            raise DiskLimit(f"the temporary folder is full: more than {ENTRIES} files and folders are in it")
        if used.bytes <= self._limit and used.closed:
            begun = time.monotonic()
            used = Used(await self._asked(folder))
            seconds += time.monotonic() - begun
        if used.bytes > self._limit:
            self.overfull.add(folder.name)
            raise DiskLimit(f"the temporary folder is full: this site allows {self._limit} bytes")
        return seconds

    async def _asked(self, folder: Path) -> int:
        try:
            return await self._measure(folder, self._limit)
        except Vantage6Error as error:
            self.overfull.add(folder.name)
            raise DiskLimit(f"the run closed a part of its temporary folder to the node: {error.message}") from error

    def _check_room(self) -> None:
        now = time.monotonic()
        if now >= self._patient_until and free(self._folder) < self._floor:
            self._patient_until = now + PATIENCE
            raise DiskLimit("the site's disk is nearly full, so the run was ended; ask the site to make room")


def free(folder: Path) -> int:
    """Bytes that are left for users on the file system of a folder."""
    told = os.statvfs(folder)
    return told.f_bavail * told.f_frsize


def count(folder: Path, enough: int | None = None, entries: int | None = None) -> Used:
    """Bytes below a folder; stops counting over `enough`, or over so many entries. Follows no link."""
    told = Count(enough, entries)
    told.walk(os.fspath(folder))
    return Used(told.bytes, told.closed, told.many)


def _timed(folder: Path, enough: int) -> tuple[Used, float]:
    begun = time.monotonic()
    used = count(folder, enough, ENTRIES)
    return used, time.monotonic() - begun


def remove_tree(top: Path) -> None:
    """Removes a folder with all that is in it, however deep; raises OSError for what this user may not remove."""
    Emptying().empty(os.fspath(top))
    top.rmdir()
