"""A program on a pseudo terminal, and somebody who answers it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

BIN = Path(sys.executable).parent
SECONDS = 60.0
DOWN, ENTER, INTERRUPT = "\x1b[B", "\r", "\x03"


class Terminal:
    """A program on a pseudo terminal."""

    def __init__(self, home: Path, *command: str) -> None:
        self.seen = ""
        self._from = 0
        places = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "DATA", "STATE", "CACHE")}
        environment = {**os.environ, **places, "HOME": str(home), "TERM": "xterm", "LINES": "50", "COLUMNS": "200"}
        environment.pop("VANTAGE6_NODE_API_KEY", None)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 118, 0, 0))
        self._process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=environment, cwd=home,
        )  # fmt: skip
        os.close(slave)

    def answer(self, question: str, reply: str) -> None:
        """Waits for a question that has not been answered yet."""
        end = time.monotonic() + SECONDS
        while (place := self.seen.find(question, self._from)) < 0:
            assert self._read(end), f"{question!r} was never asked:\n{self.seen[self._from :]}"
        self._from = place + len(question)
        os.write(self._master, reply.encode())

    def end(self) -> int:
        end = time.monotonic() + SECONDS
        while self._read(end):
            pass
        code = self._process.wait(SECONDS)
        os.close(self._master)
        return code

    def _read(self, end: float) -> bool:
        readable, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
        if not readable:
            self._process.kill()
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # How Linux says that the other side has closed.
            return False
        text = data.decode(errors="replace")
        self.seen += text
        if "\x1b[6n" in text:
            os.write(self._master, b"\x1b[1;1R")  # Where the cursor is: a terminal answers that.
        return bool(data)
