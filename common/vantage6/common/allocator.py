"""Keeps the memory of a long-running program that passes payloads on near what it uses."""

from __future__ import annotations

import ctypes

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_HEAPS = 2


def keep_few_heaps() -> bool:
    """Says whether the allocator took it: glibc's does, if it is told before the program has many threads.

    By itself it keeps up to eight heaps for each processor, so that threads need not wait for each other, and pieces of
    a MiB that one thread makes and another frees come to lie about in all of them.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # Another allocator, or another system.
        return False
    return bool(mallopt(_ARENA_MAX, _HEAPS))
