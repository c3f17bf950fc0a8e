"""The program in a run's relay container: TCP on the run's own loopback to the Unix sockets that the node serves.

Started as text (`python3 -I -c`), so it needs nothing but Python's library in its image. It has no way to anything
but these sockets; what they lead to is decided by the node.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import sys

CONNECTIONS = 64
CHUNK = 64 * 1024


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies until the end, and passes the end on."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def join(path: str, room: asyncio.Semaphore, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection of the algorithm."""
    async with room:
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(path)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        finally:
            inner_writer.close()
            writer.close()


async def serve(ways: list[tuple[str, int, str]]) -> None:
    """Each way: address and port to listen on, socket to pass on to."""
    room = asyncio.Semaphore(CONNECTIONS)
    servers = [
        await asyncio.start_server(functools.partial(join, path, room), address, port) for address, port, path in ways
    ]
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
