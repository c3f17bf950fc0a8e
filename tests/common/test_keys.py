"""Key files: three keys, readable by their owner alone, never overwritten, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from vantage6.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from vantage6.common.keys import PBKDF2_ROUNDS, KeyPair, PublicKey

PASSPHRASE = "correct horse"


@pytest.mark.row("M39")
@pytest.mark.row("M42")
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_saved_and_loaded(tmp_path: Path, sender: KeyPair, passphrase: str | None) -> None:
    path = tmp_path / "new folder" / "key.pem"
    sender.save(path, passphrase)
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = KeyPair.load(path, passphrase)
    assert loaded.public == sender.public
    assert sender.public.signed(loaded.sign(b"text"), b"text")
    assert (b"ENCRYPTED" in path.read_bytes()) == bool(passphrase)


@pytest.mark.row("M41")
def test_fingerprints_tell_pairs_apart(sender: KeyPair, recipient: KeyPair) -> None:
    again = PublicKey.from_pem(sender.public.to_pem())
    assert again == sender.public
    assert len({again, sender.public, recipient.public}) == 2
    assert again.fingerprint == sender.public.fingerprint != recipient.public.fingerprint
    groups = again.fingerprint.split(":")
    assert [len(group) for group in groups] == [4] * 16
    assert bytes.fromhex("".join(groups)) == again.digest


def test_any_of_the_three_keys_changes_the_fingerprint(sender: KeyPair, recipient: KeyPair) -> None:
    one, two = sender.public, recipient.public
    mixed = {
        one,
        PublicKey(two.mlkem768, one.x25519, one.ed25519),
        PublicKey(one.mlkem768, two.x25519, one.ed25519),
        PublicKey(one.mlkem768, one.x25519, two.ed25519),
    }
    assert len({key.fingerprint for key in mixed}) == 4


@pytest.mark.row("M35")
def test_blocks_may_stand_in_any_order_among_other_text(sender: KeyPair) -> None:
    blocks = sender.public.to_pem().split(b"-----END PUBLIC KEY-----\n")[:-1]
    turned = b"# of hospital A\n" + b"\n".join(block + b"-----END PUBLIC KEY-----\n" for block in reversed(blocks))
    assert PublicKey.from_pem(turned) == sender.public


def test_saving_never_overwrites(tmp_path: Path, sender: KeyPair, recipient: KeyPair) -> None:
    path = tmp_path / "key.pem"
    sender.save(path)
    with pytest.raises(AlreadyExists, match=r"key\.pem exists"):
        recipient.save(path)
    assert KeyPair.load(path).public == sender.public


@pytest.mark.attack
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o620])
def test_a_file_that_others_can_reach_is_refused_with_the_command_to_run(
    tmp_path: Path, sender: KeyPair, mode: int
) -> None:
    path = tmp_path / "key.pem"
    sender.save(path)
    path.chmod(mode)
    with pytest.raises(FailedPrecondition, match=f"Run: chmod 600 {path}"):
        KeyPair.load(path)
    path.chmod(0o400)
    assert KeyPair.load(path).public == sender.public


@pytest.mark.row("M24")
@pytest.mark.parametrize(
    ("saved", "given", "says"),
    [
        (PASSPHRASE, None, "it is protected: give its passphrase"),
        (PASSPHRASE, "battery", "wrong passphrase"),
        (None, PASSPHRASE, "it is not protected: give no passphrase"),
    ],
)
def test_passphrases(tmp_path: Path, sender: KeyPair, saved: str | None, given: str | None, says: str) -> None:
    path = tmp_path / "key.pem"
    sender.save(path, saved)
    with pytest.raises(InvalidArgument, match=rf"key\.pem: {says}") as error:
        KeyPair.load(path, given)
    assert PASSPHRASE not in str(error.value)


@pytest.mark.row("M24")
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, sender: KeyPair) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(NotFound, match=r"no key file .*key\.pem"):
        KeyPair.load(path)
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        KeyPair.load(tmp_path)
    mlkem, x25519, _ = sender.to_pem().split(b"-----END PRIVATE KEY-----\n")[:3]
    end = b"-----END PRIVATE KEY-----\n"
    for text, says in (
        (b"", "no PEM block"),
        (mlkem + end + x25519 + end, "but has MLKEM768, X25519"),
        (mlkem + end + x25519 + end + x25519 + end, "but has MLKEM768, X25519, X25519"),
        (mlkem[:80] + end, "restore the file"),
        (sender.to_pem() * 2, "one key pair twice"),
        (sender.to_pem() + mlkem + end, "one PEM block each"),
        (bytes(100_000), "larger than"),
    ):
        path.write_bytes(text)
        path.chmod(0o600)
        with pytest.raises(InvalidArgument, match=says):
            KeyPair.load(path)


@pytest.mark.row("M35")
def test_what_is_no_public_key_is_refused(sender: KeyPair) -> None:
    old = rsa.generate_private_key(65537, 2048).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    for text, says in (
        (b"", "no PEM block"),
        (b"\0" * 100_000, "larger than"),
        (old.public_bytes(serialization.Encoding.PEM, form), r"RSA \(of version 1\.x\)"),
        (sender.public.to_pem()[:-40], "but has"),
        (sender.public.to_pem().replace(b"M", b"N", 1), "Not a public key"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            PublicKey.from_pem(text)


@pytest.mark.attack
def test_a_private_key_is_not_taken_for_a_public_one_nor_shown(sender: KeyPair) -> None:
    with pytest.raises(InvalidArgument, match="This is a private key"):
        PublicKey.from_pem(sender.to_pem())
    secrets = sender.to_pem().decode().split("\n")[1:4]
    for text in (repr(sender), str(sender), repr(sender.public)):
        assert not any(secret in text for secret in secrets)
        assert sender.public.fingerprint in text


def test_other_tools_read_the_files_and_a_passphrase_is_stretched(sender: KeyPair) -> None:
    begin, end = b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"-----END ENCRYPTED PRIVATE KEY-----\n"
    blocks = sender.to_pem(PASSPHRASE).split(end)
    assert len(blocks) == 4
    for block in blocks[:-1]:
        assert block.startswith(begin)
        assert serialization.load_pem_private_key(block + end, PASSPHRASE.encode())
    assert PBKDF2_ROUNDS >= 600_000


def test_signatures(sender: KeyPair, recipient: KeyPair) -> None:
    signature = sender.sign(b"text")
    assert sender.public.signed(signature, b"text")
    assert not sender.public.signed(signature, b"Text")
    assert not sender.public.signed(signature[:-1], b"text")
    assert not recipient.public.signed(signature, b"text")
