"""A runtime whose algorithms are functions of the test, with the verbs and promises of the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

from vantage6.node.runtimes.base import Exit, Handle, ImageMissing, Progress, RunSpec

Algorithm = Callable[[RunSpec], Awaitable[Exit]]


async def echo(spec: RunSpec) -> Exit:
    """Gives its input back as output."""
    (spec.run_dir / "output").write_bytes((spec.run_dir / "input").read_bytes())
    return Exit(0)


async def forever(_: RunSpec) -> Exit:
    await asyncio.Event().wait()
    return Exit(0)


class FakeRuntime:
    """Runs outlive the node that started them, as with a container engine, when `name` says docker."""

    def __init__(self, algorithm: Algorithm = echo, name: str = "docker") -> None:
        self.name = name
        self.algorithm = algorithm
        self.missing: set[str] = set()
        self.started: list[RunSpec] = []
        self.stopped: list[Handle] = []
        self.pulls = 0
        self.dropped: list[str] = []
        self.drops: asyncio.Queue[str] = asyncio.Queue()
        self.measured: list[str] = []
        self.opened: list[Path] = []
        self.closed_bytes: int | None = None
        self.printed: dict[str, asyncio.Queue[bytes]] = {}
        self._runs: dict[str, asyncio.Task[Exit]] = {}

    async def pull(self, image: str, progress: Progress | None = None) -> str:
        self.pulls += 1
        if image in self.missing:
            raise ImageMissing(f"image {image!r} is not here")
        if progress:
            progress(1.0)
        return "sha256:" + "0" * 64

    async def start(self, spec: RunSpec) -> Handle:
        if spec.key not in self._runs:
            self.started.append(spec)
            self._runs[spec.key] = asyncio.ensure_future(self.algorithm(spec))
        return Handle(spec.key)

    async def wait(self, handle: Handle) -> Exit:
        try:
            return await asyncio.shield(self._runs[handle])
        except asyncio.CancelledError:
            if self._runs.get(handle) is not None and self._runs[handle].cancelled():
                return Exit(137)
            raise

    async def logs(self, handle: Handle, *, from_now: bool = False) -> AsyncIterator[bytes]:
        """What the test prints for a run, with `printed[key].put_nowait`; b"" ends it."""
        while piece := await self.printed.setdefault(handle, asyncio.Queue()).get():
            yield piece

    async def stop(self, handle: Handle, grace: float) -> None:
        self.stopped.append(handle)
        task = self._runs[handle]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def recover(self) -> dict[str, Handle]:
        return {key: Handle(key) for key in self._runs}

    async def remove(self, handle: Handle) -> None:
        task = self._runs.pop(handle, None)
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def drop_shared(self, names: Collection[str]) -> None:
        self.dropped += names
        for name in names:
            self.drops.put_nowait(name)

    async def measure(self, folder: Path, enough: int) -> int:
        self.measured.append(folder.name)
        return self.closed_bytes if self.closed_bytes is not None else enough + 1

    async def open_up(self, folder: Path) -> None:
        self.opened.append(folder)

    async def close(self) -> None:
        """Runs go on."""

    @property
    def alive(self) -> list[str]:
        return list(self._runs)

    def vanish(self) -> None:
        """All runs are gone, as after a restart of the machine."""
        for task in self._runs.values():
            task.cancel()
        self._runs.clear()
