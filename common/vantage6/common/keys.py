"""Key pairs of organizations: make, load, save, and the fingerprint that people compare.

A pair is three keys: ML-KEM-768 and X25519, which together (X-Wing) receive envelopes, and Ed25519, which signs them.
A file holds each as a PEM block that other tools read too: PKCS #8, or SubjectPublicKeyInfo for the public half.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, hpke, padding
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from vantage6.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

K = TypeVar("K")

KEY_ID_SIZE: Final = 16
PBKDF2_ROUNDS: Final = 600_000
_MAX_FILE: Final = 64 * 1024
_FINGERPRINT_DOMAIN: Final = b"vantage6 public key v1\0"
_OID_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_OID_PBKDF2: Final = bytes.fromhex("06092a864886f70d01050c")
_OID_HMAC_SHA256: Final = bytes.fromhex("06082a864886f70d0209")
_OID_AES256_CBC: Final = bytes.fromhex("060960864801650304012a")
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_WHAT: Final = "an ML-KEM-768, an X25519 and an Ed25519 key"
_REMEDY: Final = "Make a new key pair, or restore the file from a backup."


@dataclass(frozen=True, slots=True, repr=False)
class PublicKey:
    """What others need to seal for an organization and to check its signatures."""

    mlkem768: bytes
    x25519: bytes
    ed25519: bytes

    @classmethod
    def from_pem(cls, text: bytes) -> PublicKey:
        """Reads three `PUBLIC KEY` blocks in any order; anything else is refused with the reason."""
        return _public_from_pem(text)

    def to_pem(self) -> bytes:
        """The three blocks, in the order ML-KEM-768, X25519, Ed25519."""
        keys = (
            MLKEM768PublicKey.from_public_bytes(self.mlkem768),
            X25519PublicKey.from_public_bytes(self.x25519),
            Ed25519PublicKey.from_public_bytes(self.ed25519),
        )
        spki = pem.PublicFormat.SubjectPublicKeyInfo
        return b"".join(key.public_bytes(pem.Encoding.PEM, spki) for key in keys)

    @property
    def digest(self) -> bytes:
        """SHA-256 over all three keys: it names the organization's identity."""
        return hashlib.sha256(_FINGERPRINT_DOMAIN + self.mlkem768 + self.x25519 + self.ed25519).digest()

    @property
    def id(self) -> bytes:
        """The digest's beginning, by which an envelope says whose keys it was made with."""
        return self.digest[:KEY_ID_SIZE]

    @property
    def fingerprint(self) -> str:
        """The digest for people: 16 groups of 4 hexadecimal digits, with colons between."""
        return fingerprint(self.digest)

    def signer(self, key_id: bytes) -> PublicKey | None:
        """This key, if an envelope names it: the simplest of `envelope.Senders`."""
        return self if key_id == self.id else None

    @property
    def kem(self) -> hpke.MLKEM768X25519PublicKey:
        """The half that content keys are wrapped for."""
        return hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.mlkem768), X25519PublicKey.from_public_bytes(self.x25519)
        )

    def signed(self, signature: bytes, data: bytes) -> bool:
        """Whether the owner of this key signed `data`."""
        return signed_by(self.ed25519, signature, data)

    def __repr__(self) -> str:
        return f"PublicKey({self.fingerprint})"


@functools.lru_cache(maxsize=2048)
def _public_from_pem(text: bytes) -> PublicKey:
    """Remembered, since the same few keys come again with every task."""
    if b"PRIVATE KEY-----" in text:
        raise InvalidArgument("This is a private key: keep it, and hand out the public one.", field="public_key")
    try:
        keys = [pem.load_pem_public_key(block) for block in _blocks(text, b"PUBLIC KEY")]
        mlkem, x25519, ed25519 = _public(keys)
    except (ValueError, UnsupportedAlgorithm) as error:
        reason = f"Not a public key of an organization: {_because(error)}."
        raise InvalidArgument(reason, field="public_key") from error
    return PublicKey(mlkem.public_bytes_raw(), x25519.public_bytes_raw(), ed25519.public_bytes_raw())


class KeyPair:
    """The private keys of an organization. Several nodes and users of it may share one file."""

    __slots__ = ("_ed25519", "_mlkem768", "_x25519", "public")

    def __init__(self, mlkem768: MLKEM768PrivateKey, x25519: X25519PrivateKey, ed25519: Ed25519PrivateKey) -> None:
        self._mlkem768, self._x25519, self._ed25519 = mlkem768, x25519, ed25519
        self.public = PublicKey(
            mlkem768.public_key().public_bytes_raw(),
            x25519.public_key().public_bytes_raw(),
            ed25519.public_key().public_bytes_raw(),
        )

    @classmethod
    def generate(cls) -> KeyPair:
        """Fresh keys from the operating system's randomness."""
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate(), Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None) -> KeyPair:
        """Reads a file that `save` wrote; refuses one that other accounts of the machine can read."""
        return read_private_file(path, passphrase)[0]

    @classmethod
    def from_pem(cls, text: bytes, passphrase: str | None = None) -> KeyPair:
        """Reads the three private blocks, all plain or all under the passphrase; of several pairs the first."""
        return cls.all_from_pem(text, passphrase)[0]

    @classmethod
    def all_from_pem(cls, text: bytes, passphrase: str | None = None) -> list[KeyPair]:
        """Reads pairs one after the other, three blocks each (`keyring`)."""
        if len(text) > _MAX_FILE:
            raise InvalidArgument(f"it is larger than {_MAX_FILE} bytes, so it is no key file. {_REMEDY}")
        secret = passphrase.encode() if passphrase else None
        try:
            keys = [pem.load_pem_private_key(block, secret) for block in _blocks(text, b"PRIVATE KEY")]
            return _distinct([cls(*_private(keys[start : start + 3])) for start in range(0, len(keys), 3)])
        except TypeError as error:  # How cryptography says that only one of file and caller has a passphrase.
            asks = "it is protected: give its" if secret is None else "it is not protected: give no"
            raise InvalidArgument(f"{asks} passphrase.") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            if secret is not None and b"ENCRYPTED" in text and "password" in str(error).lower():
                raise InvalidArgument("wrong passphrase.") from error
            raise InvalidArgument(f"{_because(error)}. {_REMEDY}") from error

    def save(self, path: Path, passphrase: str | None = None) -> None:
        """Writes a new file that its owner alone can read. Never overwrites: with a key goes what was sealed for it."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            reason = f"Key file {path} exists and is never overwritten: choose another path."
            raise AlreadyExists(reason, path=path) from error
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(self.to_pem(passphrase))
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def to_pem(self, passphrase: str | None = None) -> bytes:
        """The three private blocks, each under the passphrase if there is one."""
        ders = [
            key.private_bytes(pem.Encoding.DER, pem.PrivateFormat.PKCS8, pem.NoEncryption())
            for key in (self._mlkem768, self._x25519, self._ed25519)
        ]
        if not passphrase:
            return b"".join(_armour("PRIVATE KEY", der) for der in ders)
        return b"".join(_armour("ENCRYPTED PRIVATE KEY", _protect(der, passphrase.encode())) for der in ders)

    def pair(self, key_id: bytes) -> KeyPair | None:
        """This pair, if an envelope names it: the simplest of `envelope.Keys`."""
        return self if key_id == self.public.id else None

    @property
    def kem(self) -> hpke.MLKEM768X25519PrivateKey:
        """The half that unwraps content keys."""
        return hpke.MLKEM768X25519PrivateKey(self._mlkem768, self._x25519)

    def sign(self, data: bytes) -> bytes:
        """The organization's Ed25519 signature: 64 bytes."""
        return self._ed25519.sign(data)

    def __repr__(self) -> str:
        return f"KeyPair({self.public.fingerprint})"


def read_private_file(path: Path, passphrase: str | None) -> list[KeyPair]:
    """All pairs of a key file, the current one first; refuses a file that other accounts of the machine can read."""
    try:
        with path.open("rb") as file:
            _check_private(path, os.fstat(file.fileno()).st_mode)
            text = file.read(_MAX_FILE + 1)
    except FileNotFoundError as error:
        raise NotFound(f"There is no key file {path}. Make a key pair, or correct the path.", path=path) from error
    except OSError as error:
        raise FailedPrecondition(f"Key file {path} cannot be read: {error.strerror}.", path=path) from error
    try:
        return KeyPair.all_from_pem(text, passphrase)
    except InvalidArgument as error:
        raise InvalidArgument(f"Key file {path}: {error.message}", path=path) from error


def signed_by(ed25519: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the owner of a raw Ed25519 key signed `data`."""
    try:
        Ed25519PublicKey.from_public_bytes(ed25519).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def fingerprint(digest: bytes) -> str:
    """Groups of 4 hexadecimal digits."""
    text = digest.hex()
    return ":".join(text[start : start + 4] for start in range(0, len(text), 4))


def _blocks(text: bytes, kind: bytes) -> list[bytes]:
    if len(text) > _MAX_FILE:
        raise ValueError(f"it is larger than {_MAX_FILE} bytes")
    blocks = [match.group(0) for match in _BLOCK.finditer(text) if match.group(1).endswith(kind)]
    if not blocks:
        raise ValueError(f"it has no PEM block of kind {kind.decode()}; it must have {_WHAT}")
    return blocks


def _distinct(pairs: list[KeyPair]) -> list[KeyPair]:
    if len({pair.public for pair in pairs}) < len(pairs):
        raise ValueError("it holds one key pair twice")
    return pairs


def _public(keys: Sequence[object]) -> tuple[MLKEM768PublicKey, X25519PublicKey, Ed25519PublicKey]:
    match sorted(keys, key=_name):
        case [Ed25519PublicKey() as ed25519, MLKEM768PublicKey() as mlkem, X25519PublicKey() as x25519]:
            return mlkem, x25519, ed25519
    raise _other(keys)


def _private(keys: Sequence[object]) -> tuple[MLKEM768PrivateKey, X25519PrivateKey, Ed25519PrivateKey]:
    match sorted(keys, key=_name):
        case [Ed25519PrivateKey() as ed25519, MLKEM768PrivateKey() as mlkem, X25519PrivateKey() as x25519]:
            return mlkem, x25519, ed25519
    raise _other(keys)


def _other(keys: Sequence[object]) -> ValueError:
    return ValueError(f"it must have {_WHAT}, one PEM block each, but has {', '.join(map(_name, keys))}")


def _name(key: object) -> str:
    name = type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")
    return f"{name} (of version 1.x)" if name == "RSA" else name


def _because(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _check_private(path: Path, mode: int) -> None:
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        found = f"Key file {path} can be read by other accounts (mode {stat.S_IMODE(mode):04o})."
        raise FailedPrecondition(f"{found} Run: chmod 600 {path}", path=path)


def _armour(label: str, der: bytes) -> bytes:
    body = base64.encodebytes(der).replace(b"\n", b"")
    lines = [body[start : start + 64].decode() for start in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def _protect(der: bytes, passphrase: bytes) -> bytes:
    """An EncryptedPrivateKeyInfo (RFC 5958, PBES2).

    Written out here because cryptography's own stretches a passphrase by 2,048 rounds only, which is guessed quickly.
    """
    salt, start = os.urandom(16), os.urandom(16)
    key = PBKDF2HMAC(hashes.SHA256(), 32, salt, PBKDF2_ROUNDS).derive(passphrase)
    padder, encryptor = padding.PKCS7(128).padder(), Cipher(algorithms.AES256(key), modes.CBC(start)).encryptor()
    body = encryptor.update(padder.update(der) + padder.finalize()) + encryptor.finalize()
    rounds = _tlv(0x02, PBKDF2_ROUNDS.to_bytes(3, "big"))
    stretch = _tlv(0x30, _OID_PBKDF2, _tlv(0x30, _tlv(0x04, salt), rounds, _tlv(0x30, _OID_HMAC_SHA256, _tlv(0x05))))
    cipher = _tlv(0x30, _OID_AES256_CBC, _tlv(0x04, start))
    return _tlv(0x30, _tlv(0x30, _OID_PBES2, _tlv(0x30, stretch, cipher)), _tlv(0x04, body))


def _tlv(tag: int, *parts: bytes) -> bytes:
    """One DER element; no element here reaches 64 KiB."""
    body = b"".join(parts)
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    octets = size.to_bytes(1 if size < 0x100 else 2, "big")
    return bytes([tag, 0x80 + len(octets)]) + octets + body
