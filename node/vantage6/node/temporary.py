"""Takes temporary volumes away: those that have become too old, and those that were found to hold too much."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import structlog

from vantage6.common.errors import Vantage6Error
from vantage6.node.disk import remove_tree
from vantage6.node.runtimes.base import Runtime
from vantage6.node.workspace import Workspace

log = structlog.get_logger(__name__)

AGAIN = 600.0
"""Seconds after which one that could not be removed is tried again, when a run ends."""


class Temporary:
    """Of one node. Who is `used` is asked and taken away in one step of the loop, so no run gets one that goes."""

    def __init__(self, workspace: Workspace, runtime: Runtime, days: float | None) -> None:
        self._workspace, self._runtime, self._days = workspace, runtime, days
        self._removing = asyncio.Lock()
        self._not_before: dict[Path, float] = {}

    async def tidy(self, used: Collection[str], overfull: set[str]) -> None:
        """Removes what may go: asked at each end of a run, and at the start."""
        old = self._workspace.old_folders(self._days) if self._days is not None else []
        going = {*old, *overfull}.difference(used)
        overfull -= going
        if going:
            for name in going:
                self._workspace.retire(name)
                log.info("temporary_volume_removed", name=name, why="age" if name in old else "over its limit")
        await self.sweep()
        if going:
            with suppress(Vantage6Error):  # Without its folder a volume is a name, and `vnode clean` finds it too.
                await self._runtime.drop_shared(going)

    async def sweep(self) -> None:
        """Removes what was put aside, by an earlier life of the node too."""
        async with self._removing:
            for folder in self._workspace.retired():
                if time.monotonic() < self._not_before.get(folder, 0.0):
                    continue
                try:
                    await self._remove(folder)
                    self._not_before.pop(folder, None)
                except FileNotFoundError:
                    self._not_before.pop(folder, None)  # By `vnode clean`.
                except (OSError, Vantage6Error) as error:  # The others are removed all the same, and this one later.
                    self._not_before[folder] = time.monotonic() + AGAIN
                    log.warning("temporary_volume_not_removed", folder=folder.name, why=str(error))

    async def _remove(self, folder: Path) -> None:
        try:
            await asyncio.to_thread(remove_tree, folder)
        except PermissionError:
            await self._runtime.open_up(folder)
            await asyncio.to_thread(remove_tree, folder)
