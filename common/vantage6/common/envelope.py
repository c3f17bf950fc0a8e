"""Seals bytes for one organization and opens them again: who sent them, for whom and for what is part of the seal.

`docs/envelope.md` describes the format byte by byte. In short: a signed header with the wrapped content key, and the
body in encrypted chunks that are bound to it. What is sealed for one task, recipient or purpose opens for no other.
"""

from __future__ import annotations

import enum
import hashlib
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke

from vantage6.common.chunks import CHUNK, Bytes
from vantage6.common.envelope_body import PIECE, TAG_SIZE, Body, Cutter, broken, read_into, too_short, transform
from vantage6.common.errors import InvalidArgument
from vantage6.common.keys import KEY_ID_SIZE, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from vantage6.common.keys import KeyPair, PublicKey

MAGIC: Final = b"\xf6V6SEAL\n"  # Not UTF-8 at its first byte, so no text and no serialized value begins like this.
VERSION: Final = 1
SUITE: Final = 1  # X-Wing (ML-KEM-768 + X25519), HKDF-SHA256, AES-256-GCM; Ed25519; SHA-256.

_SIGNATURE: Final = 64
_KNOWN: Final = MAGIC + bytes([VERSION, SUITE])
_RECIPIENT: Final = slice(len(_KNOWN), len(_KNOWN) + KEY_ID_SIZE)
_SENDER: Final = slice(_RECIPIENT.stop, _RECIPIENT.stop + KEY_ID_SIZE)
_BINDING: Final = slice(_SENDER.stop, _SENDER.stop + 32)
_WRAPPED: Final = slice(_BINDING.stop, _BINDING.stop + 1120 + 32 + TAG_SIZE)
_SIGNED: Final = slice(0, _WRAPPED.stop)
HEADER_SIZE: Final = _WRAPPED.stop + _SIGNATURE
MIN_SIZE: Final = HEADER_SIZE + TAG_SIZE

_BINDING_DOMAIN: Final = b"vantage6 binding v1\0"
_WRAP_DOMAIN: Final = b"vantage6 envelope v1 key\0"
_HEADER_DOMAIN: Final = b"vantage6 envelope v1 header\0"
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


class Signer(Protocol):
    """Who can have sealed: a `PublicKey`, or what a known-organizations file keeps of an earlier one."""

    @property
    def id(self) -> bytes: ...
    def signed(self, signature: bytes, data: bytes) -> bool: ...


class Keys(Protocol):
    """Who opens: a `KeyPair`, or a `KeyRing` with the organization's earlier pairs."""

    @property
    def public(self) -> PublicKey: ...
    def pair(self, key_id: bytes) -> KeyPair | None: ...


class Senders(Protocol):
    """All keys of one sender that are good: a `PublicKey` alone, or `trust.Trusted` with its earlier ones."""

    @property
    def id(self) -> bytes: ...
    def signer(self, key_id: bytes) -> Signer | None: ...


class Sealer:
    """Seals what arrives piece by piece: send out what `update` and then `finish` return, in order."""

    def __init__(self, *, to: PublicKey, by: KeyPair, binding: Binding) -> None:
        self._header, self._body = _begin(to, by, binding)
        self._cutter = Cutter(CHUNK)
        self._started = False

    def update(self, data: Bytes) -> list[bytes]:
        """Takes content; what comes back may be nothing or several pieces, of about the size of what went in."""
        # The last chunk is flagged, so a full chunk waits until it is known not to be the last.
        return self._begun() + self._cutter.cut(data, lambda chunk: self._body.seal(chunk, last=False))

    def finish(self) -> list[bytes]:
        """The last chunk. The sealer is of no further use."""
        return [*self._begun(), self._body.seal(self._cutter.rest(), last=True)]

    def _begun(self) -> list[bytes]:
        first, self._started = not self._started, True
        return [self._header] if first else []


class Opener:
    """Opens an envelope that arrives piece by piece.

    Nothing comes out before the sender's signature on the header held and the chunk itself is authentic. That nothing
    is missing at the end is known once `finish` returned: content counts from then on.
    """

    def __init__(self, *, to: Keys, by: Senders, binding: Binding) -> None:
        self._to, self._by, self._binding = to, by, binding
        self._body: Body | None = None
        self._header = bytearray()
        self._cutter = Cutter(PIECE)

    def update(self, data: Bytes) -> list[bytes]:
        """Takes a part of the envelope; returns the content that is authentic so far."""
        with memoryview(data) as view, view.cast("B") as octets:
            if self._body is not None:
                return self._chunks(self._body, octets)
            missing = HEADER_SIZE - len(self._header)
            self._header += octets[:missing]
            if len(self._header) < HEADER_SIZE:
                return []
            self._body = _read_header(bytes(self._header), self._to, self._by, self._binding)
            return self._chunks(self._body, octets[missing:])

    def finish(self) -> list[bytes]:
        """The last piece of content, which says of itself that it is the last."""
        last = self._cutter.rest()
        if self._body is None or len(last) < TAG_SIZE:
            raise too_short()
        return [self._body.open(last, last=True)]

    def _chunks(self, body: Body, data: memoryview) -> list[bytes]:
        return self._cutter.cut(data, lambda piece: body.open(piece, last=False))


def seal(data: Bytes, *, to: PublicKey, by: KeyPair, binding: Binding) -> bytes:
    """Seals content that is in memory; it grows by `sealed_size`."""
    header, body = _begin(to, by, binding)
    with memoryview(data) as view, view.cast("B") as content:
        whole = io.BytesIO(bytes(sealed_size(len(content))))  # Written in place; getvalue does not copy.
        with whole.getbuffer() as target:
            target[:HEADER_SIZE] = header
            at, last = HEADER_SIZE, max(0, (len(content) - 1) // CHUNK)
            for number in range(last + 1):
                chunk = content[number * CHUNK : (number + 1) * CHUNK]
                end = at + len(chunk) + TAG_SIZE
                body.seal_into(chunk, target[at:end], last=number == last)
                at = end
    return whole.getvalue()


def open_sealed(data: Bytes, *, to: Keys, by: Senders, binding: Binding) -> bytes:
    """The content, whole and sent by `by`; else `EnvelopeBroken`, which says what is wrong."""
    with memoryview(data) as view, view.cast("B") as envelope:
        if len(envelope) < HEADER_SIZE:
            raise too_short()
        body = _read_header(bytes(envelope[:HEADER_SIZE]), to, by, binding)
        if len(envelope) <= HEADER_SIZE + PIECE:
            return body.open(envelope[HEADER_SIZE:], last=True)
        whole, place = io.BytesIO(), memoryview(bytearray(CHUNK))
        for at in range(HEADER_SIZE, len(envelope), PIECE):
            size = body.open_into(envelope[at : at + PIECE], place, last=at + PIECE >= len(envelope))
            whole.write(place[:size])
    return whole.getvalue()


def seal_chunks(chunks: Iterable[Bytes], *, to: PublicKey, by: KeyPair, binding: Binding) -> Iterator[bytes]:
    """Seals content of any size and in any pieces, holding about one chunk in memory."""
    return _pump(Sealer(to=to, by=by, binding=binding), chunks)


def open_chunks(chunks: Iterable[Bytes], *, to: Keys, by: Senders, binding: Binding) -> Iterator[bytes]:
    """Opens as `Opener` does: the content counts once the iterator ended without an error, not before."""
    return _pump(Opener(to=to, by=by, binding=binding), chunks)


def seal_file(source: BinaryIO, target: BinaryIO, *, to: PublicKey, by: KeyPair, binding: Binding) -> None:
    """Seals from where `source` stands to its end, through buffers that are used again: the fastest way."""
    header, body = _begin(to, by, binding)
    target.write(header)
    transform(source, target, CHUNK, body.seal_into)


def open_file(source: BinaryIO, target: BinaryIO, *, to: Keys, by: Senders, binding: Binding) -> None:
    """Opens from where `source` stands to its end; on an error what is in `target` is to be thrown away."""
    header = read_into(source, memoryview(bytearray(HEADER_SIZE)))
    if len(header) < HEADER_SIZE:
        raise too_short()
    body = _read_header(bytes(header), to, by, binding)
    transform(source, target, PIECE, body.open_into)


def sealed_size(size: int) -> int:
    """Bytes of the envelope for `size` bytes of content."""
    return HEADER_SIZE + size + TAG_SIZE * max(1, -(-size // CHUNK))


def looks_sealed(data: Bytes) -> bool:
    """Whether an envelope of a known version, or its first `MIN_SIZE` bytes or more, can be what `data` is.

    A check of structure for those who hold no key: it keeps plain content out of an encrypted collaboration and proves
    nothing else.
    """
    return len(data) >= MIN_SIZE and bytes(data[: len(_KNOWN)]) == _KNOWN


def _begin(to: PublicKey, by: KeyPair, binding: Binding) -> tuple[bytes, Body]:
    """A header with a fresh content key, and the cipher for what follows it."""
    key = os.urandom(32)
    start = _KNOWN + to.id + by.public.id + binding.digest
    try:
        wrapped = _HPKE.encrypt(key, to.kem, info=_WRAP_DOMAIN + start)
    except ValueError as error:
        raise InvalidArgument("The recipient's public key is unusable: it must upload a new one.") from error
    signed = start + wrapped
    header = signed + by.sign(_HEADER_DOMAIN + signed)
    return header, Body(key, header)


def _read_header(header: bytes, to: Keys, by: Senders, binding: Binding) -> Body:
    _check_version(header)
    pair = to.pair(header[_RECIPIENT])
    if pair is None:
        keys = f"key {fingerprint(header[_RECIPIENT])}…, and this side holds {fingerprint(to.public.id)}…"
        raise broken("recipient", f"The envelope was sealed for {keys}: the sender used an outdated or wrong key.")
    signer = by.signer(header[_SENDER])
    if signer is None:
        keys = f"key {fingerprint(header[_SENDER])}…, and the sender is known by {fingerprint(by.id)}…"
        raise broken("sender", f"The envelope was sealed with {keys}: it is of somebody else, or of an old key.")
    if header[_BINDING] != binding.digest:
        what = "collaboration, task, sender, recipient or purpose"
        raise broken("binding", f"The envelope was sealed for another {what} than it came with ({binding}).")
    if not signer.signed(header[_WRAPPED.stop :], _HEADER_DOMAIN + header[_SIGNED]):
        raise broken("signature", "The envelope is not signed by its sender: its header was altered or forged.")
    try:
        key = _HPKE.decrypt(header[_WRAPPED], pair.kem, info=_WRAP_DOMAIN + header[: _BINDING.stop])
        return Body(key, header)
    except (InvalidTag, ValueError) as error:
        raise broken("key", "The envelope's content key does not open: it was not made for this header.") from error


def _pump(step: Sealer | Opener, chunks: Iterable[Bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if len(chunk) <= PIECE:
            yield from step.update(chunk)
            continue
        with memoryview(chunk) as view, view.cast("B") as octets:  # What comes out at once stays about as large.
            for start in range(0, len(octets), CHUNK):
                yield from step.update(octets[start : start + CHUNK])
    yield from step.finish()


def _check_version(header: bytes) -> None:
    if not header.startswith(MAGIC):
        raise broken("magic", "This is no envelope: it is plain, or in another format.")
    version, suite = header[len(MAGIC)], header[len(MAGIC) + 1]
    if version != VERSION:
        asks = f"this program knows version {VERSION}: bring both sides to the same release"
        raise broken("version", f"The envelope has version {version}; {asks}.")
    if suite != SUITE:
        raise broken("suite", f"The envelope uses cipher suite {suite}; this program knows suite {SUITE} only.")
