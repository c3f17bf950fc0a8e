"""Images that are signed as cosign signs them, in Debian's real registry with TLS and a password."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.conftest import missing
from tests.node.site import SiteUnderTest
from vantage6.common.settings import ConfigError
from vantage6.node import states
from vantage6.node.audit import records
from vantage6.node.policy import Refused
from vantage6.node.runtimes.registries import Registries
from vantage6.node.signatures import ANNOTATION, KIND, MEDIA_TYPE, Signatures

from .registry import Registry, RegistryMissingError, real

Key = ec.EllipticCurvePrivateKey | Ed25519PrivateKey
OTHER = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    try:
        with real(tmp_path_factory.mktemp("registry")) as made:
            yield made
    except RegistryMissingError as error:
        missing("registry", str(error))


class Image:
    """One in the registry, to be signed."""

    def __init__(self, registry: Registry) -> None:
        self._registry, self._repository = registry, f"study/average-{uuid.uuid4().hex[:8]}"
        self.name = f"{registry.host}/{self._repository}:1"
        self.digest = registry.put(self._repository, "1", [("application/octet-stream", uuid.uuid4().bytes, {})])

    def text(self, **changed: Any) -> bytes:
        critical = {"identity": {"docker-reference": self.name}, "image": {"docker-manifest-digest": self.digest},
                    "type": KIND}  # fmt: skip
        return json.dumps({"critical": {**critical, **changed}, "optional": None}).encode()

    def attach(self, *signed: tuple[bytes, str], media: str = MEDIA_TYPE) -> None:
        tag = f"{self.digest.replace(':', '-')}.sig"
        self._registry.put(self._repository, tag, [(media, text, {ANNOTATION: written}) for text, written in signed])

    def bundle(self, text: bytes) -> None:
        media = "application/vnd.dev.sigstore.bundle.v0.3+json"
        self._registry.put(self._repository, self.digest.replace(":", "-"), [(media, text, {})])


def sign(key: Key, text: bytes) -> str:
    if isinstance(key, Ed25519PrivateKey):
        return base64.b64encode(key.sign(text)).decode()
    return base64.b64encode(key.sign(text, ec.ECDSA(hashes.SHA256()))).decode()


def pem(key: Any, file: Path) -> Path:
    file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return file


@pytest.fixture
def image(registry: Registry) -> Image:
    return Image(registry)


@pytest.fixture(params=["ecdsa", "ed25519"])
def key(request: pytest.FixtureRequest) -> Key:
    return Ed25519PrivateKey.generate() if request.param == "ed25519" else ec.generate_private_key(ec.SECP256R1())


def of(registry: Registry, folder: Path, *keys: Key) -> Signatures:
    files = [pem(key, folder / f"{number}.pem") for number, key in enumerate(keys)]
    return Signatures(files, Registries(registry.credentials), folder / "signatures")


def refused(signatures: Signatures, image: Image) -> str:
    with pytest.raises(Refused) as found:
        signatures.check(image.name, image.digest)
    return found.value.rule


def test_a_signed_image(registry: Registry, image: Image, key: Key, tmp_path: Path) -> None:
    stranger = Ed25519PrivateKey.generate()
    image.attach((image.text(), sign(stranger, image.text())), (image.text(), sign(key, image.text())))
    assert (
        of(registry, tmp_path, ec.generate_private_key(ec.SECP256R1()), key).check(image.name, image.digest) == "1.pem"
    )
    # Once seen it is good without the registry, and for keys that are still trusted only.
    alone = Signatures([tmp_path / "1.pem"], None, tmp_path / "signatures")
    assert alone.check(image.name, image.digest) == "1.pem"
    assert refused(Signatures([tmp_path / "0.pem"], None, tmp_path / "signatures"), image) == "SIGNATURE_MISSING"


@pytest.mark.attack
def test_what_is_no_signature_of_this_image(registry: Registry, image: Image, key: Key, tmp_path: Path) -> None:
    signatures = of(registry, tmp_path, key)
    assert refused(signatures, image) == "SIGNATURE_MISSING"  # Nothing is there.
    other, good = image.text(image={"docker-manifest-digest": OTHER}), sign(key, image.text())
    image.attach(
        (image.text(), sign(Ed25519PrivateKey.generate(), image.text())),
        (other, sign(key, other)),
        (image.text(type="something else"), sign(key, image.text(type="something else"))),
        (image.text(identity={}), good),
        (image.text(), "not base64!"),
        (image.text(), ""),
        (b"[]", sign(key, b"[]")),
        (b"\xff", sign(key, b"\xff")),
        (b"[" * 50_000, good),
        (b" " * 70_000 + image.text(), good),
    )
    assert refused(signatures, image) in {"SIGNATURE_MISSING", "SIGNATURE_UNAVAILABLE"}
    image.attach((image.text(), good), media="text/plain")
    assert refused(signatures, image) == "SIGNATURE_MISSING"
    assert not (tmp_path / "signatures").exists()
    image.attach((image.text(), good))
    assert signatures.check(image.name, image.digest)


@pytest.mark.attack
def test_what_is_kept_is_checked_again(registry: Registry, image: Image, key: Key, tmp_path: Path) -> None:
    image.attach((image.text(), sign(key, image.text())))
    of(registry, tmp_path, key).check(image.name, image.digest)
    [kept] = (tmp_path / "signatures").iterdir()
    moved = kept.with_name(f"{OTHER.removeprefix('sha256:')}.json")
    kept.rename(moved)
    alone = Signatures([tmp_path / "0.pem"], None, tmp_path / "signatures")
    with pytest.raises(Refused):
        alone.check(image.name, OTHER)
    moved.write_text("[[[")
    with pytest.raises(Refused):
        alone.check(image.name, OTHER)


def test_a_bundle_is_not_read_and_that_is_said(registry: Registry, image: Image, key: Key, tmp_path: Path) -> None:
    """cosign 3 signs so unless told otherwise; under the tag that it takes where a registry knows no referrers."""
    bundle = b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}'
    image.bundle(bundle)
    with pytest.raises(Refused, match="new-bundle-format=false") as found:
        of(registry, tmp_path, key).check(image.name, image.digest)
    assert found.value.rule == "SIGNATURE_FORM"
    image.attach((image.text(), sign(key, image.text())))
    assert of(registry, tmp_path, key).check(image.name, image.digest) == "0.pem"


def test_a_silent_registry_is_said(image: Image, key: Key, tmp_path: Path) -> None:
    signatures = Signatures([pem(key, tmp_path / "0.pem")], Registries(), tmp_path / "signatures")
    assert refused(signatures, image) == "SIGNATURE_UNAVAILABLE"


def test_keys_that_are_none(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no key")
    weak = [generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP521R1())]
    files = [pem(key, tmp_path / f"{number}.pem") for number, key in enumerate(weak)]
    for file in [wrong, tmp_path / "missing.pem", *files]:
        with pytest.raises(ConfigError, match=r"policy\.signatures"):
            Signatures([file], None, tmp_path)


async def test_a_run_needs_a_signature_or_a_listed_digest(site: SiteUnderTest) -> None:
    """With the fake runtime, whose every image has the digest 0…; the registry is not asked."""
    key = Ed25519PrivateKey.generate()
    site.settings["policy"] = {"allowed_images": [".*"], "signatures": [pem(key, site.folder / "0.pem")]}
    site.settings["runtime"] = "null"
    connection = await site.online()
    connection.send(assignment=site.assignment())
    assert (await site.server.report(states.REFUSED)).reason == "SIGNATURE_MISSING"
    assert not site.runtime.started
    text = json.dumps({"critical": {"image": {"docker-manifest-digest": OTHER}, "type": KIND}}).encode()
    place = site.folder / "data" / "signatures" / f"{OTHER.removeprefix('sha256:')}.json"
    place.parent.mkdir()
    place.write_text(json.dumps([[base64.b64encode(text).decode(), sign(key, text)]]))
    connection.send(assignment=site.assignment(result_id=13))
    await site.server.report(states.COMPLETED)
    assert site.node
    allowed = [each for each in records(site.node.site.gate.audit.path) if each["event"] == "allowed"]
    assert [each["signed_with"] for each in allowed] == ["0.pem"]
    await site.stop()
    place.unlink()
    site.settings["policy"]["allowed_digests"] = [OTHER]
    connection = await site.online()
    connection.send(assignment=site.assignment(result_id=14))
    await site.server.report(states.COMPLETED)
