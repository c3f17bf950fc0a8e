"""Bytes on their way into an upload: read from any offset, since lines break, and hashed once on the way.

An upload need not know its digest before it begins, so what is sealed can leave while the rest is being sealed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import threading
from contextlib import AbstractContextManager, aclosing
from typing import TYPE_CHECKING, Protocol, TypeVar

from vantage6.common.chunks import CHUNK
from vantage6.common.errors import DataLoss, FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
    from pathlib import Path
    from typing import Any

    Aside = Callable[..., Coroutine[Any, Any, Any]]

T = TypeVar("T")


class Outgoing(Protocol):
    """What an uploader reads from, in a thread; safe against a reader that was given up and still reads."""

    @property
    def size(self) -> int: ...
    def piece_at(self, offset: int) -> bytes: ...
    def digest(self) -> bytes: ...


class _Hashed:
    """SHA-256 of what was read in order; what was skipped is read for it at the end."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.upto = 0

    def take(self, offset: int, piece: bytes) -> None:
        if offset == self.upto:
            self._hash.update(piece)
            self.upto += len(piece)

    def digest(self) -> bytes:
        return self._hash.digest()


class OutgoingBytes:
    """Bytes at hand."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def piece_at(self, offset: int) -> bytes:
        return self._data[offset : offset + CHUNK]

    def digest(self) -> bytes:
        return hashlib.sha256(self._data).digest()


class OutgoingFile:
    """Bytes in a file that nobody writes to any more, never in memory as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size
        self._hashed = _Hashed()
        self._lock = threading.Lock()

    def piece_at(self, offset: int) -> bytes:
        with self._lock, self._path.open("rb", buffering=0) as file:
            piece = os.pread(file.fileno(), CHUNK, offset)
            self._hashed.take(offset, piece)
            return piece

    def digest(self) -> bytes:
        while self._hashed.upto < self.size:
            if not self.piece_at(self._hashed.upto):
                raise FailedPrecondition(f"{self._path.name} became shorter while it was sent")
        return self._hashed.digest()


class OutgoingMade(AbstractContextManager["OutgoingMade"]):
    """Bytes that are made while they are sent, once: the last `kept` are in a file without a name.

    More need not come again: a server tells its database every 64 MiB how far an upload is. One that lost more gets a
    new upload.
    """

    def __init__(self, pieces: Iterable[bytes], size: int, *, kept: int = 128 * 1024 * 1024) -> None:
        self.size = size
        self._pieces = iter(pieces)
        self._kept = kept
        self._hashed = _Hashed()
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by __exit__
        self._lock = threading.Lock()

    def piece_at(self, offset: int) -> bytes:
        with self._lock:
            while offset >= self._hashed.upto and (piece := next(self._pieces, b"")):
                before = self._hashed.upto
                self._hashed.take(before, piece)
                if self._hashed.upto > self.size:
                    raise FailedPrecondition("the content became longer while it was sent")
                self._keep(before, piece)
                if offset < self._hashed.upto:
                    return piece[offset - before :] if offset > before else piece
            return self._again(offset)

    def digest(self) -> bytes:
        while self.piece_at(self._hashed.upto):
            pass
        if self._hashed.upto != self.size:
            raise FailedPrecondition("the content became shorter while it was sent")
        return self._hashed.digest()

    def _keep(self, offset: int, piece: bytes) -> None:
        """Over what was kept longest: the same pages of the disk's cache, which new ones would cost more than this."""
        left = memoryview(piece)
        while left:
            at = offset % self._kept
            written = os.pwrite(self._file.fileno(), left[: self._kept - at], at)
            offset, left = offset + written, left[written:]

    def _again(self, offset: int) -> bytes:
        upto = self._hashed.upto
        if offset < upto - self._kept:
            raise DataLoss(f"the server lost what was sent from byte {offset} on, and it is not kept here any more")
        at = offset % self._kept
        return os.pread(self._file.fileno(), min(CHUNK, upto - offset, self._kept - at), at)

    def __exit__(self, *_: object) -> None:
        with self._lock:  # A reader that was given up may be in the middle of a piece.
            self._file.close()


async def pieces_of(source: Outgoing, offset: int, aside: Aside = asyncio.to_thread) -> AsyncGenerator[bytes]:
    """The pieces from an offset on; the next one is made while this one travels."""
    ahead = asyncio.ensure_future(aside(source.piece_at, offset))
    try:
        while piece := await ahead:
            offset += len(piece)
            ahead = asyncio.ensure_future(aside(source.piece_at, offset))
            yield piece
    finally:
        ahead.cancel()


class Requests(AbstractContextManager["Requests"]):
    """Streams requests. gRPC answers an error of theirs by cancelling the caller: this context raises the error."""

    def __init__(self) -> None:
        self._error: Exception | None = None

    async def watch(self, requests: AsyncGenerator[T]) -> AsyncGenerator[T]:
        try:
            async with aclosing(requests):
                async for request in requests:
                    yield request
        except Exception as error:
            self._error = error
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._error is not None and isinstance(error, asyncio.CancelledError):
            raise self._error from None


async def overlapped(pieces: AsyncIterator[T], use: Callable[[T], object], aside: Aside = asyncio.to_thread) -> None:
    """Uses each piece in a thread while the next one arrives; all that arrived is used when this ends or fails."""
    using: asyncio.Future[object] | None = None
    try:
        async for piece in pieces:
            if using:
                await using
            using = asyncio.ensure_future(aside(use, piece))
    finally:
        if using:
            # Also when the line broke: where to go on depends on what was used.
            await asyncio.shield(using)
