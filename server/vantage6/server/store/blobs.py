"""The bytes of payloads, in parts of one size, in whatever obstore can write to: a folder, S3, GCS, Azure.

A part is an object of its own, so that an upload can be resumed at the last whole part on stores that cannot append.
It is written once: of two streams of one upload, in whatever process, the second must bring the same bytes, so what was
checked against a digest is what is read ever after.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import obstore
import structlog
from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError
from obstore.store import LocalStore, ObjectStore, from_url

from vantage6.common.errors import DataLoss, Unavailable

log = structlog.get_logger()

PART = 4 * 1024 * 1024
"""Bytes of a part; one transfer holds at most one part in memory."""


class Blobs:
    """Payload parts in a folder (path) or a bucket (URL)."""

    def __init__(self, location: str) -> None:
        self._store: ObjectStore
        self._once = True
        self._folder: Path | None = None
        if "://" in location:
            self._store = from_url(location)
        else:
            Path(location).mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder = Path(location)
            self._store = LocalStore(location)

    async def write_part(self, payload_id: str, index: int, data: bytes) -> None:
        """Stores a part; DataLoss if it is there already with other bytes, Unavailable if the store has a bad day."""
        try:
            await self._write_part(payload_id, index, data)
        except (OSError, BaseError) as error:
            # A full disk, a bucket that is away: it passes, and the upload goes on then. Its words name paths.
            log.warning("payload_not_stored", payload_id=payload_id, part=index, error=type(error).__name__)
            raise Unavailable("the payload store does not take anything at the moment; go on a little later") from error

    async def _write_part(self, payload_id: str, index: int, data: bytes) -> None:
        name = _name(payload_id, index)
        if self._once:
            try:
                await obstore.put_async(self._store, name, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                if await self._part(payload_id, index) != data:
                    raise DataLoss("two streams of one upload brought different bytes; begin a new upload") from None
                return
            except (NotSupportedError, NotImplementedError):
                # Some of those that speak S3 cannot; there, only streams through one server process are kept apart.
                log.warning("blob_store_overwrites", message="the store has no conditional writes")
                self._once = False
            else:
                return
        await obstore.put_async(self._store, name, data, use_multipart=False)

    async def read(self, payload_id: str, size: int, offset: int = 0) -> AsyncGenerator[memoryview]:
        """Yields what is stored from `offset` on, in pieces of at most one part; one more is fetched meanwhile."""
        ahead = asyncio.ensure_future(self._part(payload_id, offset // PART)) if offset < size else None
        try:
            while ahead:
                index, skip = divmod(offset, PART)
                part, ahead = await ahead, None
                if not (piece := part[skip:]):
                    raise DataLoss(f"payload {payload_id}: part {index} is too short in the payload store")
                offset += len(piece)
                if offset < size:
                    ahead = asyncio.ensure_future(self._part(payload_id, offset // PART))
                yield piece
        finally:
            if ahead:
                ahead.cancel()

    async def _part(self, payload_id: str, index: int) -> memoryview:
        try:
            found = await obstore.get_async(self._store, _name(payload_id, index))
            return memoryview(await found.bytes_async())
        except FileNotFoundError as error:
            raise DataLoss(f"payload {payload_id}: part {index} is missing from the payload store") from error

    async def head(self, payload_id: str, length: int) -> bytes:
        """The first bytes, at most `length`."""
        return bytes(await obstore.get_range_async(self._store, _name(payload_id, 0), start=0, length=length))

    async def digest(self, payload_id: str, size: int) -> bytes:
        """SHA-256 of the stored bytes."""
        digest = hashlib.sha256()
        async for piece in self.read(payload_id, size):
            digest.update(piece)
        return digest.digest()

    async def ids(self) -> list[str]:
        """The payloads that something is stored of."""
        found = await obstore.list_with_delimiter_async(self._store)
        return [prefix.rstrip("/") for prefix in found["common_prefixes"]]

    async def delete_all(self, payload_id: str) -> None:
        """Deletes whatever is stored of a payload whose size nobody knows any more."""
        async for entries in obstore.list(self._store, prefix=payload_id):
            for entry in entries:
                if entry["path"].startswith(f"{payload_id}/"):
                    await obstore.delete_async(self._store, entry["path"])
        if self._folder:
            with contextlib.suppress(OSError):
                await asyncio.to_thread((self._folder / payload_id).rmdir)

    async def delete(self, payload_id: str, size: int) -> None:
        """Deletes all parts that a payload of this size can have; missing ones do not matter."""
        for index in range(size // PART + 1):
            try:
                await obstore.delete_async(self._store, _name(payload_id, index))
            except FileNotFoundError:
                continue
        if self._folder:
            with contextlib.suppress(OSError):
                await asyncio.to_thread((self._folder / payload_id).rmdir)


def _name(payload_id: str, index: int) -> str:
    return f"{payload_id}/{index:08d}"
