"""The run's token: what the container shows on every call, good on its own socket until its run ends."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from vantage6.common.errors import FailedPrecondition, Unauthenticated


class RunEnded(FailedPrecondition):
    """The run is over; its token opens nothing any more."""


class RunToken:
    """One token. It is the node's own and no use at the server, whose token for the run never enters the container."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()
        self._ended = False

    def end(self) -> None:
        """The run is over."""
        self._ended = True

    def check(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Raises unless the call's metadata carry the token."""
        shown = [value for key, value in metadata if key == "authorization"]
        given = shown[0] if len(shown) == 1 else b""
        given = given.encode() if isinstance(given, str) else given
        # Constant time: how much of a guess was right must not be measurable.
        if not hmac.compare_digest(given, self._expected):
            raise Unauthenticated(
                "metadata 'authorization: Bearer <content of TOKEN_FILE>' is missing or not this run's"
            )
        if self._ended:
            raise RunEnded("the run has ended")
