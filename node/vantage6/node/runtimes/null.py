"""A runtime that runs nothing: every run ends at once with the same output. It measures all that is around a run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vantage6.node.runtimes.base import Exit, Handle, RunMissing, RuntimeUnknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping
    from pathlib import Path

    from vantage6.node.runtimes.base import Progress, RunSpec

DIGEST = "sha256:" + "0" * 64
DEFAULT_OUTPUT = b"json.null"


@dataclass
class _Run:
    over: asyncio.Event = field(default_factory=asyncio.Event)
    code: int = 0


class NullRuntime:
    """Forgets all at a restart: there is nothing to recover."""

    name = "null"

    def __init__(self, output: bytes = DEFAULT_OUTPUT, seconds: float = 0.0) -> None:
        self._output = output
        self._seconds = seconds
        self._runs: dict[str, _Run] = {}

    async def pull(self, image: str, progress: Progress | None = None) -> str:
        """Any image will do."""
        if progress is not None:
            progress(1.0)
        return DIGEST

    async def start(self, spec: RunSpec) -> Handle:
        """Writes the output; the run ends after the configured time."""
        if spec.key not in self._runs:
            run = self._runs[spec.key] = _Run()
            (spec.run_dir / "output").write_bytes(self._output)
            if self._seconds:
                asyncio.get_running_loop().call_later(self._seconds, run.over.set)
            else:
                run.over.set()
        return Handle(spec.key)

    async def wait(self, handle: Handle) -> Exit:
        """Always a success, unless it was stopped."""
        run = self._run(handle)
        await run.over.wait()
        return Exit(run.code)

    async def logs(self, handle: Handle, *, from_now: bool = False) -> AsyncIterator[bytes]:
        """One line."""
        await self._run(handle).over.wait()
        yield b"nothing was run\n"

    async def stop(self, handle: Handle, grace: float) -> None:
        """Ends it at once."""
        run = self._run(handle)
        if not run.over.is_set():
            run.code = 143
            run.over.set()

    async def recover(self) -> dict[str, Handle]:
        """What this object itself started."""
        return {key: Handle(key) for key in self._runs}

    async def remove(self, handle: Handle) -> None:
        """Forgets it."""
        run = self._runs.pop(handle, None)
        if run is not None:
            run.over.set()

    async def drop_shared(self, names: Collection[str]) -> None:
        """There are none."""

    async def measure(self, folder: Path, enough: int) -> int:
        """Nothing runs that could close one."""
        return enough + 1

    async def open_up(self, folder: Path) -> None:
        """There is nothing in it."""

    async def close(self) -> None:
        """Nothing is open."""

    def _run(self, handle: Handle) -> _Run:
        try:
            return self._runs[handle]
        except KeyError:
            raise RunMissing("no such run", handle=handle) from None


def from_options(options: Mapping[str, object]) -> NullRuntime:
    """Options: `output` (bytes or text, with its format prefix), `seconds`."""
    output = options.get("output", DEFAULT_OUTPUT)
    seconds = options.get("seconds", 0.0)
    if not isinstance(output, bytes | str) or not isinstance(seconds, int | float):
        raise RuntimeUnknown("options of the runtime null: output is bytes or text, seconds a number", field="runtime")
    return NullRuntime(output.encode() if isinstance(output, str) else output, float(seconds))
