"""The node's own program, which on SIGUSR1 also says what its memory holds: `python -m tests.node.soaked FILE start …`.

Resident memory says how much the process has of the machine; that moves with the C library's habits. What leaks shows
in what is in use: blocks of Python's allocator, and bytes of the C library's.
"""

from __future__ import annotations

import ctypes
import gc
import json
import signal
import sys
from pathlib import Path


class _Malloc(ctypes.Structure):
    """glibc's mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


def say(file: Path) -> None:
    """Writes the figures into the file."""
    gc.collect()
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Malloc
    told = mallinfo()
    figures = {"blocks": sys.getallocatedblocks(), "in_use": told.uordblks + told.hblkhd, "kept": told.fordblks}
    unfinished = file.with_suffix(".new")
    unfinished.write_text(json.dumps(figures))
    unfinished.rename(file)


if __name__ == "__main__":
    from vantage6.node.cli import main

    place = Path(sys.argv.pop(1))
    signal.signal(signal.SIGUSR1, lambda *_: say(place))
    main()
