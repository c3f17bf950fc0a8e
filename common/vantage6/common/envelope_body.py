"""The body of an envelope: its chunks' cipher, and cutting streams into chunks (docs/envelope.md, "Body")."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vantage6.common.chunks import CHUNK, Bytes
from vantage6.common.errors import EnvelopeBroken, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

T = TypeVar("T")

TAG_SIZE: Final = 16
PIECE: Final = CHUNK + TAG_SIZE
"""Bytes of a full chunk once it is encrypted."""
_MAX_CHUNKS: Final = 2**32
_BODY_DOMAIN: Final = b"vantage6 envelope v1 body\0"


class Body:
    """The chunks' cipher: AES-256-GCM in the STREAM construction, under a key that is used for one envelope only."""

    def __init__(self, key: bytes, header: bytes) -> None:
        self._cipher = AESGCM(key)
        self._associated = hashlib.sha256(_BODY_DOMAIN + header).digest()
        self._counter = 0

    def seal(self, content: Bytes, *, last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(last=last), content, self._associated)

    def seal_into(self, content: Bytes, target: memoryview, *, last: bool) -> int:
        """Writes the encrypted chunk to the beginning of `target`; returns its size."""
        place = target[: len(content) + TAG_SIZE]
        return self._cipher.encrypt_into(self._nonce(last=last), content, self._associated, place)

    def open(self, piece: Bytes, *, last: bool) -> bytes:
        counter = self._check(piece, last=last)
        try:
            return self._cipher.decrypt(self._nonce(last=last), piece, self._associated)
        except InvalidTag as error:
            raise _damaged(counter) from error

    def open_into(self, piece: Bytes, target: memoryview, *, last: bool) -> int:
        """Writes the chunk's content to the beginning of `target`; returns its size."""
        counter = self._check(piece, last=last)
        place = target[: len(piece) - TAG_SIZE]
        try:
            return self._cipher.decrypt_into(self._nonce(last=last), piece, self._associated, place)
        except InvalidTag as error:
            raise _damaged(counter) from error

    def _check(self, piece: Bytes, *, last: bool) -> int:
        if len(piece) < TAG_SIZE:
            raise too_short()
        if last and self._counter and len(piece) == TAG_SIZE:
            raise broken("chunk", "The envelope ends in an empty chunk, which no sealer writes.")
        return self._counter

    def _nonce(self, *, last: bool) -> bytes:
        if self._counter >= _MAX_CHUNKS:
            raise InvalidArgument("The content is too large for one envelope (4 PiB).")
        nonce = bytes(7) + self._counter.to_bytes(4, "big") + bytes([last])
        self._counter += 1
        return nonce


class Cutter:
    """Cuts what arrives into pieces of one size, each handed on as soon as there is a byte behind it.

    Copies nothing of large parts, and holds one piece of small ones.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held = b""  # A full piece that came as one and cannot change.
        # A view, since assigning to a part of the bytearray itself would copy twice.
        self._buffer = memoryview(b"")
        self._filled = 0

    def cut(self, data: Bytes, use: Callable[[Bytes], T]) -> list[T]:
        """What `use` made of each piece that is complete and not the last."""
        out: list[T] = []
        if not len(data):
            return out
        if self._held:
            out.append(use(self._held))
            self._held = b""
        if type(data) is bytes and not self._filled and len(data) == self._size:
            self._held = data
            return out
        with memoryview(data) as view, view.cast("B") as octets:
            at = 0
            while len(octets) - at > (room := self._size - self._filled):
                with octets[at : at + room] as part:
                    out.append(self._joined(part, use))
                at += room
            self._fill(octets[at:])
        return out

    def rest(self) -> Bytes:
        """The last piece, which may be full or empty."""
        return self._held or self._buffer[: self._filled]

    def _joined(self, part: memoryview, use: Callable[[Bytes], T]) -> T:
        if not self._filled:
            return use(part)
        self._fill(part)
        self._filled = 0
        return use(self._buffer)

    def _fill(self, part: memoryview) -> None:
        if not self._buffer and len(part):
            self._buffer = memoryview(bytearray(self._size))
        self._buffer[self._filled : self._filled + len(part)] = part
        self._filled += len(part)


class Step(Protocol):
    """`Body.seal_into` or `Body.open_into`."""

    def __call__(self, piece: Bytes, target: memoryview, /, *, last: bool) -> int: ...


def transform(source: BinaryIO, target: BinaryIO, size: int, step: Step) -> None:
    """Reads pieces of one size, each a piece ahead of its use, so that the last one is known as such."""
    now, ahead = memoryview(bytearray(size)), memoryview(bytearray(size))
    place = memoryview(bytearray(PIECE))
    piece = read_into(source, now)
    while len(piece) == size and len(following := read_into(source, ahead)):
        target.write(place[: step(piece, place, last=False)])
        piece, now, ahead = following, ahead, now
    target.write(place[: step(piece, place, last=True)])


def read_into(source: BinaryIO, buffer: memoryview) -> memoryview:
    """The filled part of the buffer, which is all of it unless the source is at its end."""
    filled = 0
    while filled < len(buffer) and (count := source.readinto(buffer[filled:])):  # type: ignore[attr-defined]
        filled += count
    return buffer[:filled]


def too_short() -> EnvelopeBroken:
    return broken("size", "The envelope ends too early: it was cut off, or is no envelope.")


def broken(cause: str, message: str) -> EnvelopeBroken:
    """An error whose `cause` tests and logs can tell apart."""
    return EnvelopeBroken(message, cause=cause)


def _damaged(number: int) -> EnvelopeBroken:
    return broken("chunk", f"Chunk {number} is damaged, misplaced, or the envelope was cut off there.")
