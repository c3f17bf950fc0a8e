"""Ends a run that fills the disk: the temporary volume has no quota of the file system's own.

The kernel tells nobody of a folder that grows, so this is one of the few places that look again and again. One single
file is held by the run's own limit (`output_bytes`) in between.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from vantage6.common.errors import ResourceExhausted

SECONDS = 1.0


class DiskLimit(ResourceExhausted):
    """The run's temporary volume holds more than the site allows."""


async def watch(folder: Path, limit: int) -> None:
    """Returns never; raises DiskLimit when the folder holds more than `limit` bytes."""
    while True:
        if await asyncio.to_thread(used, folder, limit) > limit:
            raise DiskLimit(f"the run filled its temporary folder: this site allows {limit} bytes")
        await asyncio.sleep(SECONDS)


def used(folder: Path, enough: int | None = None) -> int:
    """Bytes on the disk below a folder; stops counting over `enough`. Follows no link; files may go meanwhile."""
    total, waiting = 0, [folder]
    while waiting and (enough is None or total <= enough):
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    # Blocks, not size: a file with holes takes no room. An entry itself does, so many empty ones count.
                    total += entry.stat(follow_symlinks=False).st_blocks * 512 + 256
        except OSError:
            continue
    return total
