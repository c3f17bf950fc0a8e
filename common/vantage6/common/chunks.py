"""Sizes of what travels, cutting bytes into pieces, and digests of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

INLINE_LIMIT = 64 * 1024
"""Up to so many bytes travel and are stored in the message or row itself; more go through the payload store."""

CHUNK = 1024 * 1024
"""Bytes of one piece of a payload, on the wire and inside an envelope."""

Bytes = bytes | bytearray | memoryview


def chunked(data: Bytes, size: int = CHUNK) -> Iterator[bytes]:
    """Cuts `data` into pieces of `size` bytes, the last one shorter; nothing comes of nothing."""
    with memoryview(data) as view, view.cast("B") as octets:
        for start in range(0, len(octets), size):
            yield bytes(octets[start : start + size])


def recut(pieces: Iterable[Bytes], size: int = CHUNK) -> Iterator[bytes]:
    """The same bytes in pieces of exactly `size`, the last one shorter, whatever sizes come in.

    Holds one outgoing piece in memory, and of an incoming one no more than its caller does.
    """
    pending = bytearray()
    for piece in pieces:
        for part in chunked(piece, size):
            pending += part
            if len(pending) >= size:
                yield bytes(pending[:size])
                del pending[:size]
    if pending:
        yield bytes(pending)


def sha256(data: Bytes) -> bytes:
    """The digest that payloads are announced with: 32 bytes."""
    return hashlib.sha256(data).digest()


def sha256_of(pieces: Iterable[Bytes]) -> tuple[bytes, int]:
    """Digest and size of all pieces together, for an upload that has to announce both."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return digest.digest(), size
