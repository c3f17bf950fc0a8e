"""Slows down those who guess secrets, by account and by address (CVE-2025-43863)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from vantage6.common.errors import Throttled

MOST_KEYS = 100_000


@dataclass
class _Failures:
    count: int = 0
    # Not before this moment of the clock is the next attempt heard.
    until: float = 0.0
    forget: float = 0.0


class Throttle:
    """After `free` failures each further one doubles the wait, up to `longest` seconds.

    An unknown name counts like a known one, so nothing is learnt from being throttled (CVE-2022-39228).
    """

    def __init__(
        self, free: int = 5, longest: float = 900.0, *, address_free: int = 30, clock: Callable[[], float] | None = None
    ) -> None:
        self._free = {"account": free, "address": address_free}
        self._longest = longest
        self._clock = clock or time.monotonic
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def check(self, account: str, address: str) -> None:
        """Raises Throttled if it is too early for another attempt."""
        now = self._clock()
        wait = max((self._waits(key, now) for key in _keys(account, address)), default=0.0)
        if wait > 0:
            seconds = int(wait) + 1
            raise Throttled(f"Too many failed attempts; try again in {seconds} seconds.", retry_after=seconds)

    def failed(self, account: str, address: str) -> None:
        now = self._clock()
        for key in _keys(account, address):
            entry = self._failures.get(key)
            if entry is None or entry.forget < now:
                entry = self._failures[key] = _Failures()
            self._failures.move_to_end(key)
            entry.count += 1
            over = entry.count - self._free[key[0]]
            if over >= 0:
                entry.until = now + min(2.0**over, self._longest)
            entry.forget = now + self._longest * 4
        while len(self._failures) > MOST_KEYS:
            self._failures.popitem(last=False)

    def succeeded(self, account: str, address: str) -> None:
        """Forgives the account all; the address only this attempt, or one own account would free the way."""
        self._failures.pop(("account", account), None)
        entry = self._failures.get(("address", address))
        if entry is not None:
            entry.count -= 1

    def undone(self, account: str, address: str) -> None:
        """The attempt was no failure, and no success either."""
        for key in _keys(account, address):
            entry = self._failures.get(key)
            if entry is not None:
                entry.count -= 1
                entry.until = 0.0

    def _waits(self, key: tuple[str, str], now: float) -> float:
        entry = self._failures.get(key)
        return 0.0 if entry is None else entry.until - now


def _keys(account: str, address: str) -> list[tuple[str, str]]:
    keys = [("account", account)] if account else []
    return [*keys, ("address", address)] if address else keys
