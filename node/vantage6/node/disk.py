"""Ends a run that fills the disk: the temporary volume has no quota of the file system's own.

The kernel tells nobody of a folder that grows, so this is one of the few places that look again and again. One single
file is held by the run's own limit (`output_bytes`) in between. What no walk can see, such as files that are open and
have no name any more, shows in the room that is left on the disk: below `free_bytes` runs are ended, one after another.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from vantage6.common.errors import ResourceExhausted, Vantage6Error

SECONDS = 1.0
SHARE, SLOWEST = 20, 5.0
"""What takes long to count is counted seldom: so many times as long goes by in between, but no more seconds."""
PATIENCE = 5.0
"""Seconds in which what a run held becomes free, before the next one is ended for want of room."""

Measure = Callable[[Path, int], Awaitable[int]]
"""Counts what this process cannot: folder, and how many bytes are enough."""


class DiskLimit(ResourceExhausted):
    """The run's temporary volume holds more than the site allows."""


@dataclass(frozen=True)
class Used:
    """Bytes on the disk, as far as they could be counted; `closed` where some could not."""

    bytes: int
    closed: bool = False


class Disk:
    """What the runs of one node write to. `folder` is on the file system that must not be full."""

    def __init__(self, folder: Path, limit: int, floor: int, measure: Measure) -> None:
        self._folder, self._limit, self._floor, self._measure = folder, limit, floor, measure
        self._patient_until = 0.0
        self.overfull: set[str] = set()
        """Names of folders that were found to hold more than their limit."""

    async def watch(self, folder: Path) -> None:
        """Returns never; raises DiskLimit when the folder holds too much, or the disk has too little room left."""
        while True:
            begun = time.monotonic()
            if await self._counted(folder) > self._limit:
                self.overfull.add(folder.name)
                raise DiskLimit(f"the temporary folder is full: this site allows {self._limit} bytes")
            self._check_room()
            await asyncio.sleep(max(SECONDS, min(SLOWEST, SHARE * (time.monotonic() - begun))))

    async def _counted(self, folder: Path) -> int:
        used = await asyncio.to_thread(count, folder, self._limit)
        if not used.closed or used.bytes > self._limit:
            return used.bytes
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


def count(folder: Path, enough: int | None = None) -> Used:
    """Bytes below a folder; stops counting over `enough`. Follows no link; files may go meanwhile."""
    total, closed, waiting = 0, False, [folder]
    while waiting and (enough is None or total <= enough):
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    # Blocks, not size: a file with holes takes no room. An entry itself does, so many empty ones count.
                    total += entry.stat(follow_symlinks=False).st_blocks * 512 + 256
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # Closed to this user; or a path so long that it has no name any more.
            closed = True
    return Used(total, closed)


def remove_tree(top: Path) -> None:
    """Removes a folder with all that is in it, however deep; raises OSError for what this user may not remove.

    Folders are moved up before they are looked into: neither a path nor the stack grows with the depth.
    """
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        if folder.lstat().st_mode & 0o700 != 0o700:
            folder.chmod(0o700)
        with os.scandir(folder) as entries:
            for entry in list(entries):
                if not entry.is_dir(follow_symlinks=False):
                    Path(entry.path).unlink()
                elif folder == top:
                    waiting.append(Path(entry.path))
                else:
                    waiting.append(Path(entry.path).rename(top / uuid.uuid4().hex))
        if folder != top:
            folder.rmdir()
    top.rmdir()
