"""Starts a program that ends when its parent does: `python -I -S tied.py PARENT PROGRAM ARGUMENT…`.

It is a program of its own since such a thing must be done between fork and exec, where a process with threads may run
no Python.
"""

import ctypes
import os
import signal
import sys

_SET_PARENT_DEATH_SIGNAL = 1


def main() -> None:
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != int(parent):  # It died before the line above.
            sys.exit("the parent has ended")
    os.execv(command[0], command)  # noqa: S606 - the command is the caller's own


if __name__ == "__main__":
    main()
