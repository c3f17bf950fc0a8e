"""Images that somebody whom the site trusts has signed, in the form that cosign writes (`cosign sign --key`).

A signature lies in the image's own repository under the tag `sha256-HEX.sig`: a manifest whose layers are the signed
texts ("simple signing"), each with its signature as an annotation. The text names the digest of the image, so a
signature says what really runs and not what it is called. Keys are ECDSA P-256 or Ed25519.
Sources: cosign's SIGNATURE_SPEC, containers/image's "simple signing", OCI distribution specification.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from vantage6.common.settings import ConfigError
from vantage6.node.policy import Refused
from vantage6.node.runtimes.registries import Registries, RegistrySilentError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
BUNDLE = b"vnd.dev.sigstore.bundle"
KIND = "cosign container image signature"
TEXT_LIMIT = 64 * 1024
SIGNATURES_READ = 64
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Signed:
    """A text and what is said to be its signature."""

    text: bytes
    signature: bytes


class Signatures:
    """Of one site. What was good once is kept in `folder`, so that a registry that is away stops nothing.

    `registries` None: no registry is asked, and only what is in the folder counts. All calls block.
    """

    def __init__(self, files: Sequence[Path], registries: Registries | None, folder: Path) -> None:
        self._keys = {file.name: _key(file) for file in files}
        self._registries = registries
        self._folder = folder

    def __bool__(self) -> bool:
        return bool(self._keys)

    def check(self, image: str, digest: str) -> str:
        """The file of the key that signed this image; raises Refused."""
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise Refused("SIGNATURE_MISSING", f"image {image!r} has no digest that could be signed")
        kept = self._folder / f"{match[1]}.json"
        if signer := next((name for each in _kept(kept) if (name := self._signer(each, digest))), ""):
            return signer
        for each in self._offered(image, digest):
            if signer := self._signer(each, digest):
                self._keep(kept, each)
                log.info("image_signature", image=image, digest=digest, key=signer)
                return signer
        if self._is_bundled(image, digest):
            raise Refused(
                "SIGNATURE_FORM",
                f"image {image!r} is signed in cosign's newer form (a bundle), which this node does not read: sign it "
                "with 'cosign sign --key KEY --new-bundle-format=false --use-signing-config=false', or have the site "
                "list its digest",
            )
        raise Refused("SIGNATURE_MISSING", f"image {image!r} ({digest}) is signed with none of this site's keys")

    def _is_bundled(self, image: str, digest: str) -> bool:
        """Whether something in the newer form refers to the image; only to say so, nothing of it is believed."""
        if self._registries is None:
            return False
        try:
            return any(BUNDLE in (index or b"") for index in self._registries.referrers(image, digest))
        except RegistrySilentError:
            return False

    def _offered(self, image: str, digest: str) -> Iterator[Signed]:
        """What lies in the image's repository; nothing of it is believed."""
        if self._registries is None:
            return
        try:
            manifest = self._registries.manifest(image, f"{digest.replace(':', '-')}.sig")
            for place, signature in _layers(manifest or b"{}"):
                text = self._registries.blob(image, place, TEXT_LIMIT)
                if text is not None:
                    yield Signed(text, signature)
        except RegistrySilentError as error:
            log.warning("signature_not_read", image=image, reason=str(error))
            message = f"the registry of image {image!r} does not say whether it is signed; try again later"
            raise Refused("SIGNATURE_UNAVAILABLE", message) from error

    def _signer(self, signed: Signed, digest: str) -> str:
        if _subject(signed.text) != digest:
            return ""
        return next((name for name, key in self._keys.items() if _verified(key, signed)), "")

    def _keep(self, place: Path, signed: Signed) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        parts = [base64.b64encode(part).decode() for part in (signed.text, signed.signature)]
        unfinished = place.with_suffix(".new")
        unfinished.write_text(json.dumps([parts]), encoding="ascii")
        unfinished.replace(place)


def _key(file: Path) -> EllipticCurvePublicKey | Ed25519PublicKey:
    try:
        key = load_pem_public_key(file.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"policy.signatures: {file} cannot be read as a public key (PEM): {error}") from error
    if isinstance(key, Ed25519PublicKey) or (
        isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    ):
        return key
    raise ConfigError(f"policy.signatures: {file} is neither an ECDSA P-256 nor an Ed25519 key")


def _verified(key: EllipticCurvePublicKey | Ed25519PublicKey, signed: Signed) -> bool:
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signed.signature, signed.text)
        else:
            key.verify(signed.signature, signed.text, ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _subject(text: bytes) -> str:
    """The digest that a signed text is about; empty if it is about something else."""
    try:
        critical = json.loads(text)["critical"]
        return str(critical["image"]["docker-manifest-digest"]) if critical["type"] == KIND else ""
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _layers(manifest: bytes) -> Iterator[tuple[str, bytes]]:
    """Digest and signature of each layer that has one; what is malformed is passed over."""
    layers: Any = None
    try:
        layers = json.loads(manifest).get("layers")
    except (ValueError, AttributeError, RecursionError):
        log.warning("signature_manifest_malformed", sha256=hashlib.sha256(manifest).hexdigest())
    for layer in layers[:SIGNATURES_READ] if isinstance(layers, list) else ():
        try:
            place, written = str(layer["digest"]), layer["annotations"][ANNOTATION]
            if layer["mediaType"] == MEDIA_TYPE and layer["size"] <= TEXT_LIMIT and _DIGEST.fullmatch(place):
                yield place, base64.b64decode(written, validate=True)
        except (KeyError, TypeError, ValueError):
            continue


def _kept(place: Path) -> list[Signed]:
    try:
        found = json.loads(place.read_text(encoding="ascii"))
        return [Signed(*(base64.b64decode(part, validate=True) for part in pair)) for pair in found]
    except (OSError, ValueError, TypeError):
        return []
