"""Holds back who says too much."""

from __future__ import annotations

import time
from collections.abc import Callable


class Brake:
    """So much a second, and a burst at once; what is more does not pass."""

    def __init__(
        self, per_second: float, burst: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = per_second
        self._burst = per_second if burst is None else burst
        self._clock = clock
        self._left = self._burst
        self._at = clock()

    def lets_pass(self, cost: float = 1.0) -> bool:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < cost:
            return False
        self._left -= cost
        return True
