"""Wall clocks that step, each side its own: the node's tasks run in a context that says so, all else is the server."""

from __future__ import annotations

import ctypes
import datetime as dt
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

side: ContextVar[str] = ContextVar("side", default="server")


class Clocks:
    """Seconds by which each clock is wrong; monotonic clocks never step, neither here nor in the kernel."""

    def __init__(self) -> None:
        self.off = {"server": 0.0, "node": 0.0}

    def step(self, who: str, seconds: float) -> None:
        self.off[who] += seconds

    @property
    def now(self) -> float:
        return self.off[side.get()]


@contextmanager
def stepping_clocks() -> Iterator[Clocks]:
    """Everything that asks for the time in this process is told that of its side."""
    clocks = Clocks()
    true_now, true_time = dt.datetime.now, time.time
    members: dict[str, Any] = gc.get_referents(dt.datetime.__dict__)[0]
    own = members["now"]

    def now(cls: type[dt.datetime], tz: dt.tzinfo | None = None) -> dt.datetime:
        return true_now(tz) + dt.timedelta(seconds=clocks.now)

    # A built-in class takes no new methods, but its table does; there is no other one place to tell everybody.
    members["now"] = classmethod(now)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(dt.datetime))
    time.time = lambda: true_time() + clocks.now
    try:
        yield clocks
    finally:
        time.time = true_time
        members["now"] = own
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(dt.datetime))
