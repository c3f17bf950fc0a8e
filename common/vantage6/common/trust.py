"""Known organizations: which key belongs to whom, as this site saw it first or an administrator wrote it down.

The server hands out everybody's public keys. Without this file, a server that lies about one of them would read, or
write, in that organization's name.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from vantage6.common.errors import FailedPrecondition, KeyChanged, KeyUnknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vantage6.common.keys import PublicKey

Policy = Literal["first_use", "pinned"]
Party = tuple[int, str, "PublicKey"]

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Pin:
    """One entry of the file."""

    fingerprint: str
    name: str = ""
    since: str = ""


class KnownOrganizations:
    """The pinned fingerprints in one file, which several nodes and clients of a site may share.

    With `first_use` an organization's first key is pinned; with `pinned` only keys that are in the file already are
    good. Under both a changed key is refused until somebody accepts it.
    """

    def __init__(self, path: Path, policy: Policy = "first_use") -> None:
        if policy not in ("first_use", "pinned"):
            raise FailedPrecondition(f"Trust policy {policy!r} is unknown: write first_use or pinned.", field="trust")
        self._path, self._policy = path, policy
        self._seen: tuple[int, int, int] | None = None
        self._pins: dict[int, Pin] = {}

    def check(self, organization_id: int, name: str, key: PublicKey) -> None:
        """Returns if the key is the pinned one, or the first one and the policy allows it; else raises."""
        self.check_all([(organization_id, name, key)])

    def check_all(self, parties: Iterable[Party]) -> None:
        """Checks many in one go and writes at most once; pins none of them if one is refused."""
        parties = list(parties)
        if not self._missing(parties):
            return
        with _locked(self._path):  # Another process may have pinned meanwhile: look again before writing.
            if missing := self._missing(parties):
                self._write(self._pins | _pins(missing))

    def accept(self, organization_id: int, name: str, key: PublicKey) -> None:
        """Pins this key in place of any other: for people who compared the fingerprint over another channel."""
        with _locked(self._path):
            self._write(self._read() | _pins([(organization_id, name, key)]))

    def fingerprints(self) -> dict[int, str]:
        """What is pinned, by organization id."""
        return {organization: pin.fingerprint for organization, pin in self._read().items()}

    def _missing(self, parties: list[Party]) -> list[Party]:
        """Those that are to be pinned now; raises for those that must not be."""
        pins, missing = self._read(), dict[int, Party]()
        for organization_id, name, key in parties:
            pin = pins.get(organization_id)
            if pin is None and organization_id in missing:
                pin = Pin(missing[organization_id][2].fingerprint)
            if pin is None and self._policy == "pinned":
                raise self._unknown(organization_id, name, key)
            if pin is None:
                missing[organization_id] = (organization_id, name, key)
            elif pin.fingerprint != key.fingerprint:
                raise self._changed(organization_id, name, key, pin)
        return list(missing.values())

    def _unknown(self, organization_id: int, name: str, key: PublicKey) -> KeyUnknown:
        return KeyUnknown(
            f"Organization {organization_id} {name!r} is not among the known ones, and this site trusts pinned keys "
            f"only. The server shows {key.fingerprint}. Ask the organization for its fingerprint, not by way of this "
            f'server; if it is the same, add it to {self._path} under "{organization_id}".',
            organization_id=organization_id,
            shown=key.fingerprint,
        )

    def _changed(self, organization_id: int, name: str, key: PublicKey, pin: Pin) -> KeyChanged:
        since = f" on {pin.since[:10]}" if pin.since else ""
        return KeyChanged(
            f"Organization {organization_id} {name!r} shows another key than before.\n"
            f"  pinned{since}: {pin.fingerprint}\n"
            f"  shown now: {key.fingerprint}\n"
            "Either it made a new key pair, or somebody stands between. Nothing was sealed for or opened from it. Ask "
            "the organization for its fingerprint, not by way of this server; if it is the one shown now, write it "
            f'into {self._path} under "{organization_id}".',
            organization_id=organization_id,
            pinned=pin.fingerprint,
            shown=key.fingerprint,
        )

    def _read(self) -> dict[int, Pin]:
        """The file's content; read again only when it was replaced, since every seal asks."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                seen = (status.st_ino, status.st_mtime_ns, status.st_size)
                if seen != self._seen:
                    self._pins = _parse(self._path, status.st_mode, file.read())
                    self._seen = seen
        except FileNotFoundError:
            self._pins, self._seen = {}, None
        except OSError as error:
            raise FailedPrecondition(f"{self._path} cannot be read: {error.strerror}.", path=self._path) from error
        return self._pins

    def _write(self, pins: dict[int, Pin]) -> None:
        entries = {str(organization): asdict(pins[organization]) for organization in sorted(pins)}
        text = json.dumps({"version": _VERSION, "organizations": entries}, indent=2, ensure_ascii=False) + "\n"
        handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self._path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _pins(parties: list[Party]) -> dict[int, Pin]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {organization_id: Pin(key.fingerprint, name, now) for organization_id, name, key in parties}


def _parse(path: Path, mode: int, text: bytes) -> dict[int, Pin]:
    """Never takes a damaged file for an empty one: that would pin whatever the server shows."""
    if os.name == "posix" and stat.S_IMODE(mode) & 0o022:
        found = f"{path} can be changed by other accounts (mode {stat.S_IMODE(mode):04o})."
        raise FailedPrecondition(f"{found} Look at what it pins, then run: chmod 600 {path}", path=path)
    try:
        content = json.loads(text)
        known = content["version"] == _VERSION
        pins = {int(organization): Pin(**entry) for organization, entry in content["organizations"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "Restore it from a backup, or have every fingerprint confirmed again before you delete it"
        raise FailedPrecondition(f"{path} is no list of known organizations ({error}). {remedy}.", path=path) from error
    if not known:
        raise FailedPrecondition(f"{path} has version {content['version']}, not {_VERSION}.", path=path)
    return pins


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time among all processes; the lock goes with its process, so none is left behind."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415

            msvcrt.locking(handle, msvcrt.LK_LOCK, 1)
        else:
            import fcntl  # noqa: PLC0415

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
