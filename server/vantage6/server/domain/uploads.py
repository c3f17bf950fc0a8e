"""One stream of an upload on its way into the blob store: a part is hashed and stored while the next one arrives."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from vantage6.common.chunks import Bytes
from vantage6.common.errors import InvalidArgument
from vantage6.server.store.blobs import PART, Blobs

# Few on purpose: the allocator keeps a heap for each thread, and parts would lie about in all of them.
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="uploads")


class Upload:
    """Takes pieces of any size and stores whole parts, and the last one."""

    def __init__(self, blobs: Blobs, payload_id: str, size: int, received: int) -> None:
        self.payload_id = payload_id
        self.received = received
        """Stored so far."""
        self._blobs = blobs
        self._size = size
        self._taken = received
        # Of a stream that goes on, the beginning was never seen here.
        self._hash = None if received else hashlib.sha256()
        self._pieces: list[memoryview] = []
        self._held = 0
        self._storing: asyncio.Task[None] | None = None

    async def add(self, piece: Bytes) -> None:
        """Waits only for the part before the one that it completes."""
        self._taken += len(piece)
        if self._taken > self._size:
            raise InvalidArgument(f"more than the announced {self._size} bytes", field="size")
        view = memoryview(piece)
        while view:
            taken = view[: PART - self._held]
            view = view[len(taken) :]
            self._pieces.append(taken)
            self._held += len(taken)
            if self._held == PART:
                await self._begin()

    async def finish(self) -> None:
        """Stores the last part, if it is that: of a stream that ended early it is thrown away."""
        if self._held and self._taken == self._size:
            await self._begin()
        await self.settle()

    async def settle(self) -> None:
        """Waits for what is being stored."""
        if self._storing:
            await asyncio.shield(self._storing)
            self._storing = None

    @property
    def digest(self) -> bytes:
        """Of all that was stored, if this stream brought all of it."""
        return self._hash.digest() if self._hash else b""

    async def _begin(self) -> None:
        await self.settle()
        pieces, self._pieces, self._held = self._pieces, [], 0
        self._storing = asyncio.create_task(self._store(pieces))

    async def _store(self, pieces: Sequence[memoryview]) -> None:
        data = await asyncio.get_running_loop().run_in_executor(_threads, self._whole, pieces)
        await self._blobs.write_part(self.payload_id, self.received // PART, data)
        self.received += len(data)

    def _whole(self, pieces: Sequence[memoryview]) -> bytes:
        data = b"".join(pieces)
        if self._hash:
            self._hash.update(data)
        return data
