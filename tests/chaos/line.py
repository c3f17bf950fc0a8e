"""A line between two parts that can be cut, delayed or silenced: a TCP relay."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

CHUNK = 64 * 1024


class Line:
    """What goes through is counted in pieces, both ways together; `trouble` is asked before each piece."""

    def __init__(self, port: Callable[[], int]) -> None:
        self._upstream = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.open = asyncio.Event()
        self.open.set()
        self.port = 0
        self.pieces = 0
        self.delay = 0.0
        self.silent = False
        self.act_at = -1
        """Number of the piece at which `act` is called instead of passing it on."""
        self.act: Callable[[], None] = self.cut

    def cut(self) -> None:
        """Both ends are told at once, as by a machine that reboots."""
        for writer in self._writers:
            writer.transport.abort()

    def go_silent(self) -> None:
        """Half-open: nobody is told anything, nothing comes through; connections made from now on are good again."""
        self.silent = True

    def act_after(self, pieces: int, act: Callable[[], None]) -> None:
        self.act_at, self.act = self.pieces + pieces, act

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.silent = False
        await self.open.wait()
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._upstream())
        except OSError:
            writer.transport.abort()
            return
        mine = _Pair()
        self._writers |= {writer, other_writer}
        ways = [
            asyncio.ensure_future(self._carry(reader, other_writer, mine)),
            asyncio.ensure_future(self._carry(other_reader, writer, mine)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # The line is closed; that the streams module's own callback would call this a failure is of no use.
        finally:
            self._writers -= {writer, other_writer}
            for end in (writer, other_writer):
                end.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: _Pair) -> None:
        while data := await reader.read(CHUNK):
            self.pieces += 1
            if self.pieces == self.act_at:
                self.act()
                if self.silent:
                    pair.silent, self.silent = True, False
            if self.silent:
                pair.silent = True
            if pair.silent:
                continue
            if self.delay:
                await asyncio.sleep(self.delay)
            writer.write(data)
            await writer.drain()

    async def close(self) -> None:
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Pair:
    """Of one connection, both ways."""

    silent = False


@asynccontextmanager
async def line_to(port: Callable[[], int]) -> AsyncIterator[Line]:
    line = Line(port)
    server = await asyncio.start_server(line._serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        await line.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await server.wait_closed()
