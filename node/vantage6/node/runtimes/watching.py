"""Hears of changes of a file from the kernel (inotify), which Python's own library cannot."""

from __future__ import annotations

import asyncio
import ctypes
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MODIFIED = 0x2
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def changing(path: Path, event: asyncio.Event) -> Iterator[None]:
    """Sets the event whenever something was written to the file."""
    descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    loop = asyncio.get_running_loop()

    def news() -> None:
        os.read(descriptor, 64 * 1024)
        event.set()

    try:
        _checked(_libc.inotify_add_watch(descriptor, os.fsencode(path), _MODIFIED))
        loop.add_reader(descriptor, news)
        yield
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
