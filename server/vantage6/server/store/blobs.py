"""The bytes of payloads, in parts of one size, in whatever obstore can write to: a folder, S3, GCS, Azure.

A part is an object of its own, so that an upload can be resumed at the last whole part on stores that cannot append.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import obstore
from obstore.store import LocalStore, ObjectStore, from_url

from vantage6.common.errors import DataLoss

PART = 4 * 1024 * 1024
"""Bytes of a part; one transfer holds at most one part in memory."""


class Blobs:
    """Payload parts in a folder (path) or a bucket (URL)."""

    def __init__(self, location: str) -> None:
        self._store: ObjectStore
        self._folder: Path | None = None
        if "://" in location:
            self._store = from_url(location)
        else:
            Path(location).mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder = Path(location)
            self._store = LocalStore(location)

    async def write_part(self, payload_id: str, index: int, data: bytes) -> None:
        await obstore.put_async(self._store, _name(payload_id, index), data)

    async def read(self, payload_id: str, size: int, offset: int = 0) -> AsyncIterator[bytes]:
        """Yields what is stored from `offset` on, in pieces of at most one part."""
        while offset < size:
            index, skip = divmod(offset, PART)
            try:
                part = bytes(await (await obstore.get_async(self._store, _name(payload_id, index))).bytes_async())
            except FileNotFoundError as error:
                raise DataLoss(f"payload {payload_id}: part {index} is missing from the payload store") from error
            piece = part[skip:]
            if not piece:
                raise DataLoss(f"payload {payload_id}: part {index} is too short in the payload store")
            yield piece
            offset += len(piece)

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
