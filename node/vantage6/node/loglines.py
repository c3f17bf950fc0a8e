"""What a run prints, on its way to those who may read it: in few messages, sealed, bounded, never before a report.

Lines may be lost, and then the reader is told how many; the end of them is kept and goes with the run's outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import structlog

from vantage6.api.v1.delivery_pb2 import LogLines, NodeMessage
from vantage6.common.envelope import Purpose
from vantage6.common.errors import Vantage6Error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from vantage6.api.v1.delivery_pb2 import Assignment
    from vantage6.node.link import Link
    from vantage6.node.sealing import Sealer

log = structlog.get_logger(__name__)

FIRST_SECONDS = 0.2
SECONDS = 1.0
"""Between two messages of one run: an envelope costs more than the lines in it."""
MESSAGE = 16 * 1024
"""Bytes of lines in one message, and so in a second; what is more is left out."""
LINE = 4096
"""Longest line; what is longer is cut into several."""
KEPT = 32 * 1024
"""Bytes of the end of it all."""
LAST_SECONDS = 1.0
"""How long the end of a run waits for the last lines of its runtime's log."""


class RunLog:
    """The log of one run, of what its container prints and of what it says through its proxy."""

    def __init__(self, link: Link, sealer: Sealer, run: Assignment, *, shared: bool) -> None:
        self._link = link
        self._sealer = sealer
        self._run = run
        self.shared = shared
        self._unfinished = bytearray()
        self._waiting = bytearray()
        self._kept = bytearray()
        self._left_out = 0
        self._sequence = 0
        self._sending: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._whole = False

    def follow(self, stream: Callable[[], AsyncIterator[bytes]], *, from_the_start: bool) -> None:
        """Takes what the container prints from here on."""
        if self.shared:
            self._following = asyncio.create_task(self._follow(stream(), from_the_start))

    def say(self, line: str) -> None:
        """Takes a line that the algorithm says through its proxy."""
        if self.shared:
            self._take(line[:LINE].encode() + b"\n")

    async def end(self) -> None:
        """The run is over: takes the last lines, for a moment, and sends what is left."""
        if self._following is not None:
            await asyncio.wait([self._following], timeout=LAST_SECONDS)
        self._take(bytes(self._unfinished) + b"\n" if self._unfinished else b"")
        self._unfinished.clear()
        await self.stop()
        if self._waiting or self._left_out:
            await self._send()

    async def stop(self) -> None:
        """Lets go of the stream; what is not sent is forgotten."""
        tasks = [task for task in (self._following, self._sending) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._following = self._sending = None

    def kept(self, tail: bytes) -> bytes:
        """The end of the log; `tail` is the runtime's own, for what was printed while nobody here was listening."""
        if not self.shared:
            return b""
        return bytes(self._kept) if self._whole or not tail else tail[-KEPT:]

    async def _follow(self, stream: AsyncIterator[bytes], from_the_start: bool) -> None:
        try:
            async with aclosing(cast("AsyncGenerator[bytes, None]", stream)) as pieces:
                async for piece in pieces:
                    self._unfinished += piece
                    end = self._unfinished.rfind(b"\n") + 1
                    self._take(bytes(self._unfinished[:end]))
                    del self._unfinished[:end]
                    while len(self._unfinished) > LINE:
                        self._take(bytes(self._unfinished[:LINE]) + b"\n")
                        del self._unfinished[:LINE]
        except (Vantage6Error, OSError) as error:
            log.warning("log_not_followed", result_id=self._run.result_id, error=type(error).__name__)
        else:
            self._whole = from_the_start

    def _take(self, lines: bytes) -> None:
        if not lines:
            return
        self._kept += lines
        del self._kept[: max(0, len(self._kept) - KEPT)]
        room = MESSAGE - len(self._waiting)
        fits = lines if len(lines) <= room else lines[: lines.rfind(b"\n", 0, room) + 1]
        self._waiting += fits
        self._left_out += lines.count(b"\n") - fits.count(b"\n")
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_soon())

    async def _send_soon(self) -> None:
        seconds = FIRST_SECONDS
        while self._waiting or self._left_out:
            await asyncio.sleep(seconds)
            await self._send()
            seconds = SECONDS
        self._sending = None

    async def _send(self) -> None:
        lines, self._waiting = bytes(self._waiting), bytearray()
        if self._left_out:
            lines += f"[{self._left_out} lines left out here: more than the node passes on]\n".encode()
            self._left_out = 0
        run = self._run
        try:
            # Not on the event loop, which carries the reports.
            sealed = await asyncio.to_thread(self._sealer.seal_for_initiator, run, lines, Purpose.LOG)
        except Vantage6Error as error:
            log.warning("log_not_shared", result_id=run.result_id, reason=error.reason)
            self.shared = False
            return
        message = LogLines(result_id=run.result_id, epoch=run.epoch, sequence=self._sequence, lines=sealed)
        self._sequence += 1
        self._link.say(NodeMessage(log=message))
