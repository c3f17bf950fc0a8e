"""Content on its way into a file: opened piece by piece in an encrypted collaboration, as it is in a plain one."""

from __future__ import annotations

import hashlib
from typing import Protocol

from vantage6.common.chunks import Bytes
from vantage6.common.envelope import MIN_SIZE, Opener, looks_sealed, sealed_size
from vantage6.common.errors import DataLoss, NotSealed, ResourceExhausted


class Target(Protocol):
    """Where content goes."""

    def write(self, data: Bytes, /) -> object: ...
    def flush(self) -> None: ...


class Incoming:
    """Takes what arrives in any pieces. What is in the file counts once `finish` returned, not before."""

    def __init__(self, target: Target, opener: Opener | None, what: str, limit: int | None = None) -> None:
        self._target = target
        self._opener = opener
        self._what = what
        # Of the content; its envelope is a little larger.
        self._limit = sealed_size(limit) if opener and limit is not None else limit
        self._head = bytearray()
        self._checked = False
        # Envelopes bring their own proof.
        self._digest = None if opener else hashlib.sha256()
        self.received = 0

    def expect(self, size: int) -> None:
        """Raises before anything is fetched that would be too much."""
        if self._limit is not None and size > self._limit:
            raise ResourceExhausted(f"the {self._what} has {size} bytes; this site takes at most {self._limit}")

    def write(self, data: Bytes) -> None:
        self.received += len(data)
        self.expect(self.received)
        if self._checked:
            self._pass_on(data)
            return
        self._head += data
        if len(self._head) >= MIN_SIZE:
            self._begin()

    def finish(self, sha256: bytes = b"") -> None:
        """All has arrived; `sha256` is what was announced."""
        if not self._checked:
            self._begin()
        if self._opener:
            for piece in self._opener.finish():
                self._target.write(piece)
        elif self._digest and sha256 and self._digest.digest() != sha256:
            raise DataLoss(f"the {self._what} arrived damaged: its SHA-256 is not the announced one")
        self._target.flush()

    def _begin(self) -> None:
        self._checked = True
        check_sealed(self._head, sealed=self._opener is not None, what=self._what)
        head, self._head = bytes(self._head), bytearray()
        self._pass_on(head)

    def _pass_on(self, data: Bytes) -> None:
        if self._opener:
            for piece in self._opener.update(data):
                self._target.write(piece)
        else:
            self._target.write(data)
            if self._digest:
                self._digest.update(data)


def check_sealed(data: Bytes, *, sealed: bool, what: str) -> None:
    """Neither is guessed from the content: an encrypted collaboration takes envelopes only, a plain one none."""
    if looks_sealed(data) == sealed:
        return
    if sealed:
        raise NotSealed(f"the {what} is not sealed, which an encrypted collaboration demands; it was not used")
    raise NotSealed(f"the {what} is sealed, but the collaboration is not encrypted; send it as it is")
