"""The envelope once more, written from docs/envelope.md alone: without vantage6 and without a library's HPKE.

It holds the product to its page, seals what no honest sender would (the attack tests), and makes the test vectors:

    python tests/vectors/reference.py     # writes envelope_v1.json beside it, with fresh keys
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK = 1 << 20
SUITE_ID = b"HPKE" + bytes.fromhex("647a" "0001" "0002")  # fmt: skip
VECTORS = Path(__file__).with_name("envelope_v1.json")


@dataclass
class Keys:
    """An organization's private keys."""

    mlkem: MLKEM768PrivateKey = field(default_factory=MLKEM768PrivateKey.generate)
    x25519: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    ed25519: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def pem(self) -> bytes:
        form = serialization.PrivateFormat.PKCS8
        keys = (self.mlkem, self.x25519, self.ed25519)
        none = serialization.NoEncryption()
        return b"".join(key.private_bytes(serialization.Encoding.PEM, form, none) for key in keys)

    def public_pem(self) -> bytes:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        keys = (self.mlkem.public_key(), self.x25519.public_key(), self.ed25519.public_key())
        return b"".join(key.public_bytes(serialization.Encoding.PEM, form) for key in keys)

    def fingerprint(self) -> bytes:
        raw = (key.public_key().public_bytes_raw() for key in (self.mlkem, self.x25519, self.ed25519))
        return hashlib.sha256(b"vantage6 public key v1\0" + b"".join(raw)).digest()


def binding_digest(binding: dict[str, Any]) -> bytes:
    ids = (binding["collaboration_id"], binding["sender_id"], binding["recipient_id"])
    fields = b"".join(number.to_bytes(8, "big") for number in ids) + bytes([binding["purpose"]])
    return hashlib.sha256(b"vantage6 binding v1\0" + fields + binding["task_key"].encode()).digest()


def xwing(shared_mlkem: bytes, shared_x25519: bytes, ephemeral: bytes, static: bytes) -> bytes:
    return hashlib.sha3_256(shared_mlkem + shared_x25519 + ephemeral + static + bytes.fromhex("5c2e2f2f5e5c")).digest()


def extract(salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + SUITE_ID + label + material, "sha256")


def expand(secret: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return hmac.digest(secret, size.to_bytes(2, "big") + b"HPKE-v1" + SUITE_ID + label + info + b"\1", "sha256")[:size]


def schedule(shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """HPKE's key and nonce in base mode, from the KEM's shared secret."""
    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    return expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)


def wrap(key: bytes, to: Keys, info: bytes) -> bytes:
    shared_mlkem, ciphertext = to.mlkem.public_key().encapsulate()
    ephemeral, static = X25519PrivateKey.generate(), to.x25519.public_key()
    point = ephemeral.public_key().public_bytes_raw()
    shared = xwing(shared_mlkem, ephemeral.exchange(static), point, static.public_bytes_raw())
    secret, nonce = schedule(shared, info)
    return ciphertext + point + AESGCM(secret).encrypt(nonce, key, b"")


def unwrap(wrapped: bytes, to: Keys, info: bytes) -> bytes:
    ciphertext, point, sealed = wrapped[:1088], wrapped[1088:1120], wrapped[1120:]
    shared_x25519 = to.x25519.exchange(X25519PublicKey.from_public_bytes(point))
    static = to.x25519.public_key().public_bytes_raw()
    secret, nonce = schedule(xwing(to.mlkem.decapsulate(ciphertext), shared_x25519, point, static), info)
    return AESGCM(secret).decrypt(nonce, sealed, b"")


@dataclass
class Sealing:
    """One envelope to be made; a forger changes what an honest sender leaves alone."""

    to: Keys
    by: Keys
    binding: dict[str, Any]
    key: bytes = field(default_factory=lambda: os.urandom(32))
    start: bytes = b"\xf6V6SEAL\n\x01\x01"
    claims: bytes = b""  # the sender's fingerprint in the header, if not the signer's

    def header(self) -> bytes:
        sender = self.claims or self.by.fingerprint()
        head = self.start + self.to.fingerprint()[:16] + sender[:16] + binding_digest(self.binding)
        head += wrap(self.key, self.to, b"vantage6 envelope v1 key\0" + head)
        return head + self.by.ed25519.sign(b"vantage6 envelope v1 header\0" + head)

    def body(self, header: bytes, content: bytes) -> list[bytes]:
        parts = [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)] or [b""]
        return [self.chunk(header, part, place, last=place == len(parts) - 1) for place, part in enumerate(parts)]

    def chunk(self, header: bytes, content: bytes, place: int, *, last: bool) -> bytes:
        return AESGCM(self.key).encrypt(nonce(place, last=last), content, associated(header))

    def seal(self, content: bytes) -> bytes:
        header = self.header()
        return header + b"".join(self.body(header, content))


def nonce(place: int, *, last: bool) -> bytes:
    return bytes(7) + place.to_bytes(4, "big") + bytes([last])


def associated(header: bytes) -> bytes:
    return hashlib.sha256(b"vantage6 envelope v1 body\0" + header).digest()


def open_envelope(data: bytes, to: Keys, by: Keys, binding: dict[str, Any]) -> bytes:
    """Opens what is good; raises anything on what is not."""
    header, body = data[:1306], data[1306:]
    expected = b"\xf6V6SEAL\n\x01\x01" + to.fingerprint()[:16] + by.fingerprint()[:16] + binding_digest(binding)
    if header[:74] != expected:
        raise ValueError("not for us, not from them, not here, or not of version 1")
    signer = by.ed25519.public_key()
    signer.verify(header[1242:], b"vantage6 envelope v1 header\0" + header[:1242])
    key = unwrap(header[74:1242], to, b"vantage6 envelope v1 key\0" + header[:74])
    pieces = [body[start : start + CHUNK + 16] for start in range(0, len(body), CHUNK + 16)]
    if len(pieces) > 1 and len(pieces[-1]) == 16:
        raise ValueError("an empty last chunk")
    content = b""
    for place, piece in enumerate(pieces):
        content += AESGCM(key).decrypt(nonce(place, last=place == len(pieces) - 1), piece, associated(header))
    return content


def pattern(size: int) -> bytes:
    """The content of the large vectors: 0, 1, … 250, 0, 1, …"""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def make() -> dict[str, Any]:
    recipient, sender = Keys(), Keys()
    binding = {"collaboration_id": 7, "task_key": "c0ffee-é", "sender_id": 3, "recipient_id": 12, "purpose": 1}
    small, large = [], []
    for content in (b"", b"x", b'json.{"method":"average","args":[],"kwargs":{"column":"age"}}'):
        sealing = Sealing(recipient, sender, binding)
        small.append({"content": content.hex(), "key": sealing.key.hex(), "envelope": sealing.seal(content).hex()})
    for size in (CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5):
        sealing = Sealing(recipient, sender, binding)
        data = sealing.seal(pattern(size))
        large.append({
            "size": size, "key": sealing.key.hex(), "header": data[:1306].hex(),
            "sha256": hashlib.sha256(data).hexdigest(),
        })  # fmt: skip
    places = {
        "magic": 0, "version": 8, "suite": 9, "recipient": 10, "sender": 26, "binding": 42, "ML-KEM ciphertext": 74,
        "X25519 point": 1162, "wrapped key": 1194, "header signature": 1242, "chunk": 1306, "tag": -16, "end": -1,
    }  # fmt: skip
    return {
        "note": "docs/envelope.md, version 1, suite 1. The private keys are for tests only.",
        "recipient": {"private": recipient.pem().decode(), "fingerprint": recipient.fingerprint().hex()},
        "sender": {"private": sender.pem().decode(), "public": sender.public_pem().decode(),
                   "fingerprint": sender.fingerprint().hex()},
        "binding": {**binding, "digest": binding_digest(binding).hex()},
        "small": small,
        "large": {"content": "byte number i is i modulo 251", "envelopes": large},
        "broken": {"what": "the last small envelope with one byte XOR 1 must not open", "at": places},
    }  # fmt: skip


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(make(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
