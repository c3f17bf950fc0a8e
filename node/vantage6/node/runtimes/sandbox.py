"""Runs algorithms with bubblewrap on an unpacked image, for machines without an engine.

For development and demonstrations: it keeps a run from the network, the files and the other processes of the machine,
but has no seccomp profile, and its limits are those of processes (prlimit), not of a control group: memory is limited
for each process of a run by itself, processor time not at all.

A sandbox outlives the node, as a container does: bubblewrap is *not* started with --die-with-parent, but in a session
of its own, and writes how it ended into a file. A service manager that ends all processes of the node's service ends
them too; such a run is found again as one that was killed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vantage6.node.runtimes.base import Handle, ImageMissing, RunMissing, RunRefused
from vantage6.node.runtimes.registry import text_option
from vantage6.node.runtimes.sandbox_command import Rootfs, command_line, find_bwrap
from vantage6.node.runtimes.sandbox_run import SandboxRun
from vantage6.node.runtimes.watching import changing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from vantage6.node.runtimes.base import Exit, Progress, RunSpec

log = logging.getLogger(__name__)

_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]{0,254}")
_LONGEST = 255
"""Of a folder's name."""
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class SandboxRuntime:
    """The runtime `sandbox`. A run's handle is its key; all that is known of it lies in `state_folder`/key."""

    name = "sandbox"

    def __init__(self, image_folder: Path, state_folder: Path, bwrap: str | None = None) -> None:
        self._images = image_folder.absolute()
        self._states = state_folder.absolute()
        self._states.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._bwrap = find_bwrap(bwrap)
        self._starting = asyncio.Lock()
        log.warning("algorithms run in a sandbox: this is for development and demonstrations, not for patient data")

    async def pull(self, image: str, progress: Progress | None = None) -> str:
        """Nothing is fetched: the image is unpacked in the image folder, or it is missing."""
        description = await asyncio.to_thread(self._describe, image)
        if progress is not None:
            progress(1.0)
        return str(description["digest"])

    async def start(self, spec: RunSpec) -> Handle:
        """Starts the sandbox, or finds the one that was started for this key."""
        if not _KEY.fullmatch(spec.key):
            raise RunRefused(f"key {spec.key!r} is not a plain name", key=spec.key)
        async with self._starting:  # The second to ask for a key is told of the run when there is one.
            return await asyncio.to_thread(self._start, spec)

    async def wait(self, handle: Handle) -> Exit:
        """Hears of the end from the kernel; ends the run itself when its time is over."""
        run = self._run(handle)
        over = asyncio.Event()
        with run.process.ending(over):
            try:
                async with asyncio.timeout(run.remaining()):
                    await over.wait()
            except TimeoutError:
                log.warning("run %s is over its time, it is ended", handle)
                run.mark_timed_out()
                run.kill()
                await over.wait()
        run.kill()  # What the program started and left behind.
        return await asyncio.to_thread(run.exit)

    async def logs(self, handle: Handle, *, from_now: bool = False) -> AsyncIterator[bytes]:
        """Reads the log on as it grows."""
        run = self._run(handle)
        news = asyncio.Event()
        with run.log.open("rb") as stream, changing(run.log, news), run.process.ending(news):
            stream.seek(0, os.SEEK_END if from_now else os.SEEK_SET)
            while True:
                news.clear()
                over = run.process.is_over()  # Asked first: what it said at last is read below.
                while chunk := stream.read(64 * 1024):
                    yield chunk
                if over:
                    return
                await news.wait()

    async def stop(self, handle: Handle, grace: float) -> None:
        """SIGTERM to the program, and SIGKILL to all of the sandbox after the grace."""
        run = self._run(handle)
        over = asyncio.Event()
        with run.process.ending(over):
            run.terminate()
            try:
                async with asyncio.timeout(grace):
                    await over.wait()
            except TimeoutError:
                run.kill()
                await over.wait()

    async def recover(self) -> dict[str, Handle]:
        """All that the state folder knows; a start that was cut short is undone, so it is made anew."""
        handles = {}
        for folder in self._states.iterdir():
            run = SandboxRun(folder)
            if run.is_complete():
                handles[folder.name] = Handle(folder.name)
            else:
                await asyncio.to_thread(run.remove)
        return handles

    async def remove(self, handle: Handle) -> None:
        """Ends it and drops its state and log."""
        try:
            run = self._run(handle)
        except RunMissing:
            return
        over = asyncio.Event()
        with run.process.ending(over):
            run.kill()
            await over.wait()
        await asyncio.to_thread(run.remove)

    async def drop_shared(self, names: Collection[str]) -> None:
        """There are none: what is shared is a folder."""

    async def measure(self, folder: Path, enough: int) -> int:
        """To the kernel its runs are the node's own user: what they closed would have to be opened under them."""
        return enough + 1

    async def open_up(self, folder: Path) -> None:
        """What runs made is the node's own."""

    async def close(self) -> None:
        """Nothing is open; sandboxes go on."""

    def _run(self, handle: Handle) -> SandboxRun:
        run = SandboxRun(self._states / handle)
        if not _KEY.fullmatch(handle) or not run.is_complete():
            raise RunMissing("there is no such run (any more)", handle=handle)
        return run

    def _start(self, spec: RunSpec) -> Handle:
        description = self._describe(spec.image)
        run = SandboxRun(self._states / spec.key)
        if run.begin():
            try:
                rootfs = self._rootfs(spec, description)
                run.spawn(lambda status: command_line(self._bwrap, rootfs, spec, status), spec)
            except BaseException:
                run.remove()
                raise
        return Handle(spec.key)

    def _describe(self, image: str) -> dict[str, Any]:
        folder = image.replace("/", "__")
        description = self._images / folder / "image.json"
        if not _IMAGE.fullmatch(image) or len(folder) > _LONGEST or not description.is_file():
            raise ImageMissing(f"image {image} is not unpacked on this machine", image=image)
        return cast("dict[str, Any]", json.loads(description.read_text()))

    def _rootfs(self, spec: RunSpec, description: Mapping[str, Any]) -> Rootfs:
        if spec.digest not in {"", description["digest"]}:  # The policy was asked about the one that it was then.
            raise ImageMissing(
                f"image {spec.image} was replaced on this machine: the run is for {spec.digest}, and there is now "
                f"{description['digest']}; start the task again",
                image=spec.image,
            )
        command = description.get("command", []) if spec.command is None else spec.command
        return Rootfs(
            folder=self._images / spec.image.replace("/", "__") / description.get("rootfs", "rootfs"),
            arguments=[*description["entrypoint"], *command],
            environment=description.get("env", {}),
            workdir=description.get("workdir", "/"),
        )


def from_options(options: Mapping[str, object]) -> SandboxRuntime:
    """Options: `image_folder`, `state_folder` (text), `bwrap` (the program, else it is looked for)."""
    bwrap = options.get("bwrap")
    return SandboxRuntime(
        Path(text_option(options, "image_folder")),
        Path(text_option(options, "state_folder")),
        str(bwrap) if bwrap else None,
    )
