"""Keeps the C library from holding what threads have given back.

glibc gives threads arenas of their own, up to eight for each processor, and returns their ends only. Nodes
and servers work with dozens of threads, so what one run or payload once needed would stay in each of them: nothing that
leaks, but a program that seems to grow for days. Two arenas do for it, and memory at their ends is returned at once.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Of mallopt(3)."""
ARENAS = 2
BYTES = 128 * 1024
"""The library's own start value for both; setting it keeps it from growing."""


def bound_arenas() -> bool:
    """To be called before there are threads. False where the C library is another one."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_ARENA_MAX: ARENAS, _TRIM_THRESHOLD: BYTES, _MMAP_THRESHOLD: BYTES}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
