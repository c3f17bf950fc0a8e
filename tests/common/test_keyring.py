"""A rotated key file opens the old and seals with the new; nothing is lost when rotating fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from vantage6.common.envelope import Binding, open_sealed, seal
from vantage6.common.errors import EnvelopeBroken, InvalidArgument
from vantage6.common.keyring import MOST, KeyRing, rotate
from vantage6.common.keys import KeyPair

pytestmark = pytest.mark.row("M35")


@pytest.mark.parametrize("passphrase", [None, "three plain words"])
def test_rotation(tmp_path: Path, sender: KeyPair, binding: Binding, passphrase: str | None) -> None:
    path, old = tmp_path / "key.pem", KeyPair.generate()
    old.save(path, passphrase)
    sealed = seal(b"old", to=old.public, by=sender, binding=binding)
    ring = rotate(path, passphrase)
    loaded = KeyRing.load(path, passphrase)
    assert loaded.public == ring.public != old.public
    assert KeyPair.load(path, passphrase).public == ring.public
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert open_sealed(sealed, to=loaded, by=sender.public, binding=binding) == b"old"
    new = seal(b"new", to=ring.public, by=sender, binding=binding)
    assert open_sealed(new, to=loaded, by=sender.public, binding=binding) == b"new"
    with pytest.raises(EnvelopeBroken, match="outdated or wrong key"):
        open_sealed(new, to=old, by=sender.public, binding=binding)


def test_what_the_organization_sent_to_itself_before(sender: KeyPair, binding: Binding) -> None:
    ring = KeyRing(KeyPair.generate(), sender)
    sealed = seal(b"own", to=sender.public, by=sender, binding=binding)
    assert open_sealed(sealed, to=ring, by=ring, binding=binding) == b"own"


def test_a_wrong_passphrase_changes_nothing(tmp_path: Path, sender: KeyPair) -> None:
    sender.save(tmp_path / "key.pem", "right")
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(InvalidArgument, match="wrong passphrase"):
        rotate(tmp_path / "key.pem", "wrong")
    assert (tmp_path / "key.pem").read_bytes() == before


def test_the_oldest_pair_goes_in_the_end(tmp_path: Path, sender: KeyPair) -> None:
    sender.save(tmp_path / "key.pem")
    for _ in range(MOST - 1):
        ring = rotate(tmp_path / "key.pem")
    assert ring.pair(sender.public.id)
    assert rotate(tmp_path / "key.pem").pair(sender.public.id) is None
