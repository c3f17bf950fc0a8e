"""Slows down those who guess secrets, by account and by address (CVE-2025-43863).

Failures are counted in memory, and told to the other server processes by the bus: in a table, each wrong password would
be a write, so a flood of them would slow down those who work. Where the others are not told, in the moment before a
signal arrives or while the database's connection is broken, each process brakes by itself.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from vantage6.common.errors import Throttled
from vantage6.server.domain.bus import Attempt, Bus, Signal

MOST_KEYS = 100_000
FAILED, SUCCEEDED, UNDONE = "failed", "succeeded", "undone"


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
        self, free: int = 5, longest: float = 900.0, *, address_free: int = 30,
        clock: Callable[[], float] | None = None, bus: Bus | None = None, name: str = "",
    ) -> None:  # fmt: skip
        self._free = {"account": free, "address": address_free}
        self._longest = longest
        self._clock = clock or time.monotonic
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._bus, self._name = bus, name
        if bus is not None:
            bus.subscribe(self._on_signal)

    def check(self, account: str, address: str) -> None:
        """Raises Throttled if it is too early for another attempt."""
        now = self._clock()
        keys = _keys(_digest(account), _digest(address))
        wait = max((self._waits(key, now) for key in keys), default=0.0)
        if wait > 0:
            seconds = int(wait) + 1
            raise Throttled(f"Too many failed attempts; try again in {seconds} seconds.", retry_after=seconds)

    def failed(self, account: str, address: str) -> None:
        self._tell(FAILED, account, address)

    def succeeded(self, account: str, address: str) -> None:
        """Forgives the account all; the address only this attempt, or one own account would free the way."""
        self._tell(SUCCEEDED, account, address)

    def undone(self, account: str, address: str) -> None:
        """The attempt was no failure, and no success either."""
        self._tell(UNDONE, account, address)

    def _tell(self, outcome: str, account: str, address: str) -> None:
        # Digests: a name may be of any length, and may be a password that was typed into the wrong field.
        attempt = Attempt(self._name, outcome, _digest(account), _digest(address))
        if self._bus is None:
            self._on_signal(attempt)
        else:
            self._bus.publish(attempt)

    def _on_signal(self, signal: Signal) -> None:
        """Of this process, which comes at once, or of another one."""
        if not isinstance(signal, Attempt) or signal.throttle != self._name:
            return
        if signal.outcome == FAILED:
            self._count(signal.account, signal.address)
        elif signal.outcome == SUCCEEDED:
            self._forgive(signal.account, signal.address)
        else:
            self._undo(signal.account, signal.address)

    def _count(self, account: str, address: str) -> None:
        now = self._clock()
        for key in _keys(account, address):
            entry = self._failures.get(key)
            if entry is None or entry.forget < now:
                entry = self._failures[key] = _Failures()
            self._failures.move_to_end(key)
            entry.count += 1
            over = entry.count - self._free[key[0]]
            if over >= 0:
                entry.until = now + min(2.0 ** min(over, 32), self._longest)
            entry.forget = now + self._longest * 4
        while len(self._failures) > MOST_KEYS:
            self._failures.popitem(last=False)

    def _forgive(self, account: str, address: str) -> None:
        self._failures.pop(("account", account), None)
        entry = self._failures.get(("address", address))
        if entry is not None:
            entry.count -= 1

    def _undo(self, account: str, address: str) -> None:
        for key in _keys(account, address):
            entry = self._failures.get(key)
            if entry is not None:
                entry.count -= 1
                entry.until = 0.0

    def _waits(self, key: tuple[str, str], now: float) -> float:
        entry = self._failures.get(key)
        return 0.0 if entry is None else entry.until - now


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest() if text else ""


def _keys(account: str, address: str) -> list[tuple[str, str]]:
    keys = [("account", account)] if account else []
    return [*keys, ("address", address)] if address else keys
