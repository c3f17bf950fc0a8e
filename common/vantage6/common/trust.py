"""Known organizations: which key belongs to whom, as this site saw it first or an administrator wrote it down.

The server hands out everybody's public keys. Without this file, a server that lies about one of them would read, or
write, in that organization's name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from vantage6.common.errors import FailedPrecondition, InvalidArgument, KeyChanged, KeyUnknown
from vantage6.common.keys import KEY_ID_SIZE, signed_by
from vantage6.common.keys import fingerprint as fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vantage6.common.keys import PublicKey

Policy = Literal["first_use", "pinned"]
Party = tuple[int, str, "PublicKey"]

_VERSION: Final = 1
_EARLIER_KEPT: Final = 8
_DIGITS: Final = re.compile("[0-9a-f]{64}")
_COMMANDS: Final = "`vnode trust accept` at a node or `client.trust` in Python"
_ALARM: Final = "@@@ WARNING: THE KEY OF AN ORGANIZATION HAS CHANGED. SOMEBODY MAY BE READING ALONG. @@@"


@dataclass(frozen=True, slots=True)
class Pin:
    """One entry of the file."""

    fingerprint: str
    name: str = ""
    since: str = ""
    # The Ed25519 half in hexadecimal: once the key is replaced, nobody else can say how to check its signatures.
    signing: str = ""
    # Earlier pins that were replaced in good order, newest first: what they signed stays readable.
    previous: tuple[Pin, ...] = ()


@dataclass(frozen=True, slots=True)
class EarlierKey:
    """What is left of a replaced key: enough to check what was signed with it, and nothing is sealed for it."""

    id: bytes
    ed25519: bytes

    def signed(self, signature: bytes, data: bytes) -> bool:
        """Whether the owner of this key signed `data`."""
        return signed_by(self.ed25519, signature, data)


@dataclass(frozen=True, slots=True)
class Trusted:
    """One organization's pinned key, with those before it: `envelope.Senders`."""

    key: PublicKey
    earlier: tuple[EarlierKey, ...] = ()

    @property
    def id(self) -> bytes:
        return self.key.id

    def signer(self, key_id: bytes) -> PublicKey | EarlierKey | None:
        """The key with this id, if it is or was this organization's."""
        return self.key.signer(key_id) or next((key for key in self.earlier if key.id == key_id), None)


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

    def trusted(self, organization_id: int, name: str, key: PublicKey) -> Trusted:
        """`check`, and with the key those that were replaced by it, for opening what they signed."""
        self.check(organization_id, name, key)
        pin = self._read().get(organization_id)
        return Trusted(key, tuple(_earlier(each) for each in pin.previous if each.signing) if pin else ())

    def check_all(self, parties: Iterable[Party]) -> None:
        """Checks many in one go and writes at most once; pins none of them if one is refused."""
        parties = list(parties)
        if not self._missing(parties) and not self._incomplete(parties):
            return
        with _locked(self._path):  # Another process may have pinned meanwhile: look again before writing.
            fresh = _pins(self._missing(parties)) | self._incomplete(parties)
            if fresh:
                self._write(self._pins | fresh)

    def accept(self, organization_id: int, name: str, key: PublicKey, *, compromised: bool = False) -> None:
        """Pins this key in place of any other: for people who compared the fingerprint over another channel.

        What was signed with the key before stays readable, unless that key is `compromised`.
        """
        self._accept(organization_id, _pin(name, key), compromised=compromised)

    def accept_fingerprint(
        self, organization_id: int, fingerprint: str, name: str = "", *, compromised: bool = False
    ) -> str:
        """`accept` where the key itself is not at hand; returns the fingerprint as it was written down."""
        whole = fingerprint_of(bytes.fromhex(digits(fingerprint)))
        self._accept(organization_id, Pin(whole, name, _now()), compromised=compromised)
        return whole

    def pins(self) -> dict[int, Pin]:
        """What the file says, by organization id."""
        return dict(self._read())

    def _accept(self, organization_id: int, pin: Pin, *, compromised: bool) -> None:
        with _locked(self._path):
            pins = self._read()
            before = pins.get(organization_id)
            earlier: tuple[Pin, ...] = ()
            if before and before.fingerprint == pin.fingerprint:
                earlier, pin = before.previous, replace(pin, signing=pin.signing or before.signing)
            elif before:
                earlier = (replace(before, previous=()), *before.previous)
            pin = replace(pin, name=pin.name or (before.name if before else ""))
            pin = replace(pin, previous=() if compromised else earlier[:_EARLIER_KEPT])
            self._write(pins | {organization_id: pin})

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

    def _incomplete(self, parties: list[Party]) -> dict[int, Pin]:
        """Pins that people wrote by fingerprint alone, completed from the key that has it."""
        pins = self._read()
        return {
            id_: replace(pins[id_], signing=key.ed25519.hex(), name=pins[id_].name or name)
            for id_, name, key in parties
            if id_ in pins and not pins[id_].signing and pins[id_].fingerprint == key.fingerprint
        }

    def _unknown(self, organization_id: int, name: str, key: PublicKey) -> KeyUnknown:
        return KeyUnknown(
            f"Organization {organization_id} {name!r} is not among the known ones, and this site trusts pinned keys "
            f"only. The server shows {key.fingerprint}. Ask the organization for its fingerprint, not by way of this "
            f"server; if it is the same, accept it with {_COMMANDS} (it is kept in {self._path}).",
            organization_id=organization_id,
            shown=key.fingerprint,
        )

    def _changed(self, organization_id: int, name: str, key: PublicKey, pin: Pin) -> KeyChanged:
        since = f" on {pin.since[:10]}" if pin.since else ""
        return KeyChanged(
            f"{_ALARM}\n"
            f"Organization {organization_id} {name!r} shows another key than before.\n"
            f"  pinned{since}: {pin.fingerprint}\n"
            f"  shown now: {key.fingerprint}\n"
            "Either it made a new key pair, or somebody stands between. Nothing was sealed for or opened from it. Ask "
            "the organization for its fingerprint, not by way of this server; only if it is the one shown now, accept "
            f"it with {_COMMANDS} (it is kept in {self._path}).",
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


def digits(fingerprint: str) -> str:
    """A fingerprint as people type it, without what is for the eye."""
    plain = fingerprint.replace(":", "").replace(" ", "").lower()
    if not _DIGITS.fullmatch(plain):
        raise InvalidArgument("A fingerprint has 64 hexadecimal digits (0-9, a-f).", field="fingerprint")
    return plain


def _pins(parties: list[Party]) -> dict[int, Pin]:
    return {organization_id: _pin(name, key) for organization_id, name, key in parties}


def _pin(name: str, key: PublicKey) -> Pin:
    return Pin(key.fingerprint, name, _now(), key.ed25519.hex())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _earlier(pin: Pin) -> EarlierKey:
    return EarlierKey(bytes.fromhex(pin.fingerprint.replace(":", ""))[:KEY_ID_SIZE], bytes.fromhex(pin.signing))


def _entry(previous: tuple[dict[str, Any], ...] | list[dict[str, Any]] = (), **fields: str) -> Pin:
    return Pin(**fields, previous=tuple(_entry(**each) for each in previous))


def _parse(path: Path, mode: int, text: bytes) -> dict[int, Pin]:
    """Never takes a damaged file for an empty one: that would pin whatever the server shows."""
    if os.name == "posix" and stat.S_IMODE(mode) & 0o022:
        found = f"{path} can be changed by other accounts (mode {stat.S_IMODE(mode):04o})."
        raise FailedPrecondition(f"{found} Look at what it pins, then run: chmod 600 {path}", path=path)
    try:
        content = json.loads(text)
        known = content["version"] == _VERSION
        pins = {int(organization): _entry(**entry) for organization, entry in content["organizations"].items()}
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
