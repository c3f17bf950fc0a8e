"""Takes temporary volumes away: those that have become too old, and those that were found to hold too much."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

import structlog

from vantage6.common.errors import Vantage6Error
from vantage6.node.disk import remove_tree
from vantage6.node.runtimes.base import Runtime
from vantage6.node.workspace import Workspace

log = structlog.get_logger(__name__)


class Temporary:
    """Of one node. Who is `used` is asked and taken away in one step of the loop, so no run gets one that goes."""

    def __init__(self, workspace: Workspace, runtime: Runtime, days: float | None) -> None:
        self._workspace, self._runtime, self._days = workspace, runtime, days

    async def tidy(self, used: Collection[str], overfull: set[str]) -> None:
        """Removes what may go: asked at each end of a run, and at the start."""
        old = self._workspace.old_folders(self._days) if self._days is not None else []
        going = {*old, *overfull}.difference(used)
        overfull -= going
        if going:
            gone = [self._workspace.retire(name) for name in going]
            for name in going:
                log.info("temporary_volume_removed", name=name, why="age" if name in old else "over its limit")
            await self._remove(gone)
            with suppress(Vantage6Error):  # Without its folder a volume is a name, and `vnode clean` finds it too.
                await self._runtime.drop_shared(going)

    async def sweep(self) -> None:
        """Removes what an earlier life of the node did not come to remove."""
        await self._remove(self._workspace.retired())

    async def _remove(self, folders: Iterable[Path]) -> None:
        for folder in folders:
            try:
                await self._remove_one(folder)
            except (OSError, Vantage6Error) as error:  # The others are removed all the same, and this one next time.
                log.warning("temporary_volume_not_removed", folder=folder.name, why=str(error))

    async def _remove_one(self, folder: Path) -> None:
        try:
            await asyncio.to_thread(remove_tree, folder)
        except PermissionError:
            await self._runtime.open_up(folder)
            await asyncio.to_thread(remove_tree, folder)
