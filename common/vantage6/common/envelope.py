"""Seals bytes for one organization and opens them again: who sent them, for whom and for what is part of the seal.

`docs/envelope.md` describes the format byte by byte. In short: a signed header with the wrapped content key, the body
in encrypted chunks, and a trailer that signs all of it. What is sealed for one task, recipient or purpose opens for
no other.
"""

from __future__ import annotations

import enum
import hashlib
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vantage6.common.chunks import CHUNK, Bytes
from vantage6.common.errors import EnvelopeBroken, InvalidArgument
from vantage6.common.keys import KEY_ID_SIZE, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vantage6.common.keys import KeyPair, PublicKey

MAGIC: Final = b"\xf6V6SEAL\n"  # Not UTF-8 at its first byte, so no text and no serialized value begins like this.
VERSION: Final = 1
SUITE: Final = 1  # X-Wing (ML-KEM-768 + X25519), HKDF-SHA256, AES-256-GCM; Ed25519; SHA-256.

_TAG: Final = 16
_SIGNATURE: Final = 64
_KNOWN: Final = MAGIC + bytes([VERSION, SUITE])
_RECIPIENT: Final = slice(len(_KNOWN), len(_KNOWN) + KEY_ID_SIZE)
_SENDER: Final = slice(_RECIPIENT.stop, _RECIPIENT.stop + KEY_ID_SIZE)
_BINDING: Final = slice(_SENDER.stop, _SENDER.stop + 32)
_WRAPPED: Final = slice(_BINDING.stop, _BINDING.stop + 1120 + 32 + _TAG)
_SIGNED: Final = slice(0, _WRAPPED.stop)
HEADER_SIZE: Final = _WRAPPED.stop + _SIGNATURE
MIN_SIZE: Final = HEADER_SIZE + _TAG + _SIGNATURE
_MAX_CHUNKS: Final = 2**32

_BINDING_DOMAIN: Final = b"vantage6 binding v1\0"
_WRAP_DOMAIN: Final = b"vantage6 envelope v1 key\0"
_HEADER_DOMAIN: Final = b"vantage6 envelope v1 header\0"
_WHOLE_DOMAIN: Final = b"vantage6 envelope v1 whole\0"
_HPKE: Final = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class Purpose(enum.IntEnum):
    """What an envelope's content is."""

    INPUT = 1
    OUTPUT = 2
    LOG = 3
    PROGRESS = 4


@dataclass(frozen=True, slots=True)
class Binding:
    """Where an envelope belongs; both sides must say the same. Sender and recipient are organizations."""

    collaboration_id: int
    task_key: str
    sender_id: int
    recipient_id: int
    purpose: Purpose

    def __post_init__(self) -> None:
        for field in ("collaboration_id", "sender_id", "recipient_id"):
            if not 0 < getattr(self, field) < 2**63:
                raise InvalidArgument(f"{field} must be a positive id, not {getattr(self, field)}.", field=field)
        if not 1 <= len(self.task_key) <= 255 or not self.task_key.isprintable():
            raise InvalidArgument("task_key must be 1 to 255 printable characters.", field="task_key")

    @property
    def digest(self) -> bytes:
        """SHA-256 over the fields in fixed places; the task key is last, so no two bindings read the same."""
        ids = (self.collaboration_id, self.sender_id, self.recipient_id)
        fields = b"".join(number.to_bytes(8, "big") for number in ids) + bytes([self.purpose])
        return hashlib.sha256(_BINDING_DOMAIN + fields + self.task_key.encode()).digest()


class Sealer:
    """Seals what arrives piece by piece: send out what `update` and then `finish` return, in order."""

    def __init__(self, *, to: PublicKey, by: KeyPair, binding: Binding) -> None:
        key = os.urandom(32)
        start = _KNOWN + to.id + by.public.id + binding.digest
        try:
            wrapped = _HPKE.encrypt(key, to.kem, info=_WRAP_DOMAIN + start)
        except ValueError as error:
            raise InvalidArgument("The recipient's public key is unusable: it must upload a new one.") from error
        signed = start + wrapped
        self._by = by
        self._header = signed + by.sign(_HEADER_DOMAIN + signed)
        self._body = _Body(key, binding)
        self._whole = hashlib.sha256(self._header)
        self._pending = bytearray()
        self._started = False

    def update(self, data: Bytes) -> list[bytes]:
        """Takes up to about a chunk of content; what comes back may be nothing or several pieces."""
        self._pending += data
        pieces = self._begin()
        # The last chunk is flagged, so a full chunk waits until it is known not to be the last.
        while len(self._pending) > CHUNK:
            pieces.append(self._seal(CHUNK, last=False))
        return pieces

    def finish(self) -> list[bytes]:
        """The last chunk and the trailer. The sealer is of no further use."""
        pieces = [*self._begin(), self._seal(len(self._pending), last=True)]
        return [*pieces, self._by.sign(_WHOLE_DOMAIN + self._whole.digest())]

    def _begin(self) -> list[bytes]:
        first, self._started = not self._started, True
        return [self._header] if first else []

    def _seal(self, size: int, *, last: bool) -> bytes:
        with memoryview(self._pending) as pending, pending[:size] as content:
            piece = self._body.seal(content, last=last)
        del self._pending[:size]
        self._whole.update(piece)
        return piece


class Opener:
    """Opens an envelope that arrives piece by piece.

    Nothing comes out before the sender's signature on the header held and the chunk itself is authentic. The last chunk
    waits for the trailer, by which the sender signed all of it: content is complete and certain once `finish` returned.
    """

    def __init__(self, *, to: KeyPair, by: PublicKey, binding: Binding) -> None:
        self._to, self._by, self._binding = to, by, binding
        self._body: _Body | None = None
        self._whole = hashlib.sha256()
        self._pending = bytearray()

    def update(self, data: Bytes) -> list[bytes]:
        """Takes up to about a chunk of the envelope; returns the content that is authentic so far."""
        self._pending += data
        if self._body is None:
            if len(self._pending) < HEADER_SIZE:
                return []
            self._body = self._read_header(self._take(HEADER_SIZE))
        pieces = []
        # Bytes beyond a full chunk and a trailer prove that this chunk is not the last.
        while len(self._pending) > CHUNK + _TAG + _SIGNATURE:
            pieces.append(self._open(self._body, CHUNK + _TAG, last=False))
        return pieces

    def finish(self) -> list[bytes]:
        """The last piece of content, after the whole proved to be the sender's."""
        size = len(self._pending) - _SIGNATURE
        if self._body is None or size < _TAG:
            raise _broken("size", "The envelope ends too early: it was cut off, or is no envelope.")
        content = self._open(self._body, size, last=True)
        if not self._by.signed(bytes(self._pending), _WHOLE_DOMAIN + self._whole.digest()):
            raise _broken("trailer", "The sender did not sign this content: it was altered. Discard all of it.")
        return [content]

    def _take(self, size: int) -> bytes:
        with memoryview(self._pending) as pending:
            taken = bytes(pending[:size])
        del self._pending[:size]
        return taken

    def _read_header(self, header: bytes) -> _Body:
        self._whole.update(header)
        _check_version(header)
        _check_keys(header, self._to.public, self._by)
        if header[_BINDING] != self._binding.digest:
            what = "collaboration, task, sender, recipient or purpose"
            raise _broken("binding", f"The envelope was sealed for another {what} than it came with ({self._binding}).")
        if not self._by.signed(header[_WRAPPED.stop :], _HEADER_DOMAIN + header[_SIGNED]):
            raise _broken("signature", "The envelope is not signed by its sender: its header was altered or forged.")
        try:
            key = _HPKE.decrypt(header[_WRAPPED], self._to.kem, info=_WRAP_DOMAIN + header[: _BINDING.stop])
            return _Body(key, self._binding)
        except (InvalidTag, ValueError) as error:
            raise _broken(
                "key", "The envelope's content key does not open: it was not made for this header."
            ) from error

    def _open(self, body: _Body, size: int, *, last: bool) -> bytes:
        with memoryview(self._pending) as pending, pending[:size] as piece:
            self._whole.update(piece)
            content = body.open(piece, last=last)
        del self._pending[:size]
        return content


class _Body:
    """The chunks' cipher: AES-256-GCM in the STREAM construction, under a key that is used for one envelope only."""

    def __init__(self, key: bytes, binding: Binding) -> None:
        self._cipher = AESGCM(key)
        self._associated = binding.digest
        self._counter = 0

    def seal(self, content: memoryview, *, last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(last=last), content, self._associated)

    def open(self, piece: memoryview, *, last: bool) -> bytes:
        if last and self._counter and len(piece) == _TAG:
            raise _broken("chunk", "The envelope ends in an empty chunk, which no sealer writes.")
        counter = self._counter
        try:
            return self._cipher.decrypt(self._nonce(last=last), piece, self._associated)
        except InvalidTag as error:
            raise _broken(
                "chunk", f"Chunk {counter} is damaged, misplaced, or the envelope was cut off there."
            ) from error

    def _nonce(self, *, last: bool) -> bytes:
        if self._counter >= _MAX_CHUNKS:
            raise InvalidArgument("The content is too large for one envelope (4 PiB).")
        nonce = bytes(7) + self._counter.to_bytes(4, "big") + bytes([last])
        self._counter += 1
        return nonce


def seal(data: Bytes, *, to: PublicKey, by: KeyPair, binding: Binding) -> bytes:
    """Seals content that is in memory; it grows by `sealed_size`."""
    return _joined(seal_chunks([data], to=to, by=by, binding=binding))


def open_sealed(data: Bytes, *, to: KeyPair, by: PublicKey, binding: Binding) -> bytes:
    """The content, whole and signed by `by`; else `EnvelopeBroken`, which says what is wrong."""
    return _joined(open_chunks([data], to=to, by=by, binding=binding))


def seal_chunks(chunks: Iterable[Bytes], *, to: PublicKey, by: KeyPair, binding: Binding) -> Iterator[bytes]:
    """Seals content of any size and in any pieces, holding about one chunk in memory."""
    return _pump(Sealer(to=to, by=by, binding=binding), chunks)


def open_chunks(chunks: Iterable[Bytes], *, to: KeyPair, by: PublicKey, binding: Binding) -> Iterator[bytes]:
    """Opens as `Opener` does: the content counts once the iterator ended without an error, not before."""
    return _pump(Opener(to=to, by=by, binding=binding), chunks)


def sealed_size(size: int) -> int:
    """Bytes of the envelope for `size` bytes of content."""
    return HEADER_SIZE + size + _TAG * max(1, -(-size // CHUNK)) + _SIGNATURE


def looks_sealed(data: Bytes) -> bool:
    """Whether an envelope of a known version, or its first `MIN_SIZE` bytes or more, can be what `data` is.

    A check of structure for those who hold no key: it keeps plain content out of an encrypted collaboration and proves
    nothing else.
    """
    return len(data) >= MIN_SIZE and bytes(data[: len(_KNOWN)]) == _KNOWN


def _pump(step: Sealer | Opener, chunks: Iterable[Bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        with memoryview(chunk) as view:
            for start in range(0, len(view), CHUNK):
                yield from step.update(view[start : start + CHUNK])
    yield from step.finish()


def _joined(pieces: Iterator[bytes]) -> bytes:
    whole = io.BytesIO()  # Unlike join, it does not keep all pieces beside their sum; getvalue does not copy.
    for piece in pieces:
        whole.write(piece)
    return whole.getvalue()


def _check_version(header: bytes) -> None:
    if not header.startswith(MAGIC):
        raise _broken("magic", "This is no envelope: it is plain, or in another format.")
    version, suite = header[len(MAGIC)], header[len(MAGIC) + 1]
    if version != VERSION:
        asks = f"this program knows version {VERSION}: bring both sides to the same release"
        raise _broken("version", f"The envelope has version {version}; {asks}.")
    if suite != SUITE:
        raise _broken("suite", f"The envelope uses cipher suite {suite}; this program knows suite {SUITE} only.")


def _check_keys(header: bytes, to: PublicKey, by: PublicKey) -> None:
    if header[_RECIPIENT] != to.id:
        keys = f"key {fingerprint(header[_RECIPIENT])}…, and this side holds {fingerprint(to.id)}…"
        raise _broken("recipient", f"The envelope was sealed for {keys}: the sender used an outdated or wrong key.")
    if header[_SENDER] != by.id:
        keys = f"key {fingerprint(header[_SENDER])}…, and the sender is known by {fingerprint(by.id)}…"
        raise _broken("sender", f"The envelope was sealed with {keys}: it is of somebody else, or of an old key.")


def _broken(cause: str, message: str) -> EnvelopeBroken:
    return EnvelopeBroken(message, cause=cause)
