"""Pinned keys: first use, pinned only, changed keys, damaged files, and several processes at one file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vantage6.common.errors import FailedPrecondition, KeyChanged, KeyUnknown
from vantage6.common.keys import KeyPair
from vantage6.common.trust import KnownOrganizations


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site" / "known_organizations.json"


def test_the_first_key_is_pinned_and_stays(path: Path, sender: KeyPair) -> None:
    KnownOrganizations(path).check(3, "Hospital", sender.public)
    assert path.stat().st_mode & 0o777 == 0o600
    again = KnownOrganizations(path)
    again.check(3, "Hospital, renamed", sender.public)
    assert again.fingerprints() == {3: sender.public.fingerprint}


@pytest.mark.attack
@pytest.mark.parametrize("policy", ["first_use", "pinned"])
def test_a_changed_key_is_refused_with_both_fingerprints_and_the_way_out(
    path: Path, sender: KeyPair, stranger: KeyPair, policy: str
) -> None:
    KnownOrganizations(path).check(3, "Hospital", sender.public)
    known = KnownOrganizations(path, policy)  # type: ignore[arg-type]
    with pytest.raises(KeyChanged) as error:
        known.check(3, "Hospital\x1b[2J", stranger.public)
    for words in (
        sender.public.fingerprint,
        stranger.public.fingerprint,
        str(path),
        "WARNING: THE KEY OF AN ORGANIZATION HAS CHANGED",
        "vnode trust accept",
        "not by way of this server",
    ):
        assert words in error.value.message
    assert "\x1b" not in error.value.message
    assert error.value.metadata["shown"] == stranger.public.fingerprint
    assert known.fingerprints() == {3: sender.public.fingerprint}
    known.accept(3, "Hospital", stranger.public)
    known.check(3, "Hospital", stranger.public)
    with pytest.raises(KeyChanged):
        known.check(3, "Hospital", sender.public)


@pytest.mark.attack
def test_pinned_takes_nobody_new(path: Path, sender: KeyPair) -> None:
    known = KnownOrganizations(path, "pinned")
    with pytest.raises(KeyUnknown, match="not among the known ones") as error:
        known.check(3, "Hospital", sender.public)
    assert sender.public.fingerprint in error.value.message
    assert not path.exists()
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'{{"version": 1, "organizations": {{"3": {{"fingerprint": "{sender.public.fingerprint}"}}}}}}')
    path.chmod(0o600)
    known.check(3, "Hospital", sender.public)


def test_an_edit_of_the_file_is_seen_at_once(path: Path, sender: KeyPair, stranger: KeyPair) -> None:
    known = KnownOrganizations(path)
    known.check(3, "Hospital", sender.public)
    path.write_text(path.read_text().replace(sender.public.fingerprint, stranger.public.fingerprint))
    known.check(3, "Hospital", stranger.public)
    path.unlink()
    assert known.fingerprints() == {}


def test_many_are_checked_with_one_write_or_none_is_pinned(path: Path, sender: KeyPair, stranger: KeyPair) -> None:
    known = KnownOrganizations(path)
    known.check_all((number, "x", sender.public) for number in range(1, 50))
    assert len(known.fingerprints()) == 49
    with pytest.raises(KeyChanged):
        known.check_all([(60, "new", stranger.public), (7, "x", stranger.public)])
    with pytest.raises(KeyChanged):
        known.check_all([(61, "one", sender.public), (61, "one", stranger.public)])
    assert len(known.fingerprints()) == 49


@pytest.mark.attack
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"version": 2, "organizations": {}}',
        '{"version": 1, "organizations": {"a": {}}}',
        '{"version": 1',
    ],
)
def test_a_damaged_file_is_no_empty_one(path: Path, sender: KeyPair, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(FailedPrecondition, match="known_organizations"):
        KnownOrganizations(path).check(3, "Hospital", sender.public)
    assert path.read_text() == text


@pytest.mark.attack
def test_a_file_that_others_can_write_is_not_believed(path: Path, sender: KeyPair) -> None:
    KnownOrganizations(path).check(3, "Hospital", sender.public)
    path.chmod(0o666)
    with pytest.raises(FailedPrecondition, match="chmod 600"):
        KnownOrganizations(path).check(3, "Hospital", sender.public)


def test_an_unknown_policy_is_refused(path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="first_use or pinned"):
        KnownOrganizations(path, "always")  # type: ignore[arg-type]


PIN = """
import sys
from pathlib import Path
from vantage6.common.keys import PublicKey
from vantage6.common.trust import KnownOrganizations

known, key = KnownOrganizations(Path(sys.argv[1])), PublicKey.from_pem(sys.stdin.buffer.read())
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 25):
    known.check(number, "x", key)
"""


@pytest.mark.row("M47")
def test_several_processes_lose_no_pin(path: Path, sender: KeyPair) -> None:
    key = path.parent.parent / "key"
    key.write_bytes(sender.public.to_pem())
    workers = []
    for start in ("1", "101", "201"):
        with key.open("rb") as file:
            workers.append(subprocess.Popen([sys.executable, "-c", PIN, str(path), start], stdin=file))
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert len(json.loads(path.read_text())["organizations"]) == 75
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name, path.name + ".lock"]
