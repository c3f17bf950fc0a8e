"""A key file over the years: the organization's key pair, and behind it those that it had before.

New envelopes are sealed for and signed with the first pair only. The others open what was sealed for them: results
from before a rotation, and tasks that were under way during one.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vantage6.common.errors import FailedPrecondition
from vantage6.common.keys import KeyPair, read_private_file

if TYPE_CHECKING:
    from vantage6.common.keys import PublicKey

MOST: Final = 16
"""Pairs in a file; the oldest goes when there are more."""


class KeyRing:
    """The current pair first. Wherever a `KeyPair` opens, this one opens more."""

    def __init__(self, current: KeyPair, *earlier: KeyPair) -> None:
        self.current = current
        self.earlier = earlier

    @property
    def public(self) -> PublicKey:
        return self.current.public

    @property
    def id(self) -> bytes:
        return self.public.id

    def pair(self, key_id: bytes) -> KeyPair | None:
        """The pair that an envelope was sealed for: `envelope.Keys`."""
        return next((each for each in (self.current, *self.earlier) if each.public.id == key_id), None)

    def signer(self, key_id: bytes) -> PublicKey | None:
        """The public half of any of them, for what the organization sent to itself: `envelope.Senders`."""
        pair = self.pair(key_id)
        return pair.public if pair else None

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None) -> KeyRing:
        """Reads a file that `KeyPair.save` or `rotate` wrote."""
        return cls(*read_private_file(path, passphrase))


def rotate(path: Path, passphrase: str | None = None) -> KeyRing:
    """Makes a new pair and puts it before the others in the file, which is replaced in one step."""
    ring = KeyRing.load(path, passphrase)
    ring = KeyRing(KeyPair.generate(), *(ring.current, *ring.earlier)[: MOST - 1])
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    except OSError as error:
        reason = f"Nothing can be written beside key file {path}: {error.strerror}. The key was not changed."
        raise FailedPrecondition(reason, path=path) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(b"".join(pair.to_pem(passphrase) for pair in (ring.current, *ring.earlier)))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return ring
