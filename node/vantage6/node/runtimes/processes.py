"""Processes that outlive the object, and even the program, that started them: watched by pidfd, told apart by age."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PROC = Path("/proc")
# A Popen that is dropped while its process runs warns, and one must stay to take the exit code.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Process:
    """A process id is used again some day; with the time of its start it means one process only."""

    pid: int
    started: int  # In ticks since the machine started.

    @classmethod
    def spawn(cls, command: Sequence[str], output: int, keep: Sequence[int]) -> Process:
        """Starts it in a session of its own, without our environment; blocks until the program is there."""
        child = subprocess.Popen(  # noqa: S603 - the caller's command is no shell's
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={}, pass_fds=keep,
            start_new_session=True,
        )  # fmt: skip
        _children[child.pid] = child
        started = _started(child.pid)
        return cls(child.pid, -1 if started is None else started)

    def is_over(self) -> bool:
        """Whether it has ended; a process that nobody has taken the exit code of yet has ended too."""
        descriptor = self._open()
        if descriptor is None:
            return True
        try:
            return bool(select.select([descriptor], [], [], 0)[0])
        finally:
            os.close(descriptor)

    @contextmanager
    def ending(self, event: asyncio.Event) -> Iterator[None]:
        """Sets the event when the process has ended."""
        descriptor = self._open()
        if descriptor is None:
            event.set()
            yield
            return
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(descriptor)
            event.set()

        loop.add_reader(descriptor, ended)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def exit_code(self) -> int | None:
        """What it ended with, if it was started by this program; call it when it is over."""
        child = _children.get(self.pid)
        if child is None or not self.is_over():
            return None
        code = child.wait()
        return code if code >= 0 else 128 - code

    def forget(self) -> None:
        """Takes the exit code, so that nothing is left of it."""
        child = _children.pop(self.pid, None)
        if child is not None:
            child.wait()

    def _open(self) -> int | None:
        if _started(self.pid) != self.started:
            return None
        try:
            return os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None


def _started(pid: int) -> int | None:
    try:
        # The program's name, in parentheses, may hold blanks and parentheses itself.
        return int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def in_namespace(pid: int, namespace: int) -> bool:
    """Whether this process is in that process namespace."""
    try:
        return (_PROC / str(pid) / "ns" / "pid").stat().st_ino == namespace
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def children_of(pid: int) -> list[int]:
    """The processes that this one has started."""
    try:
        return [int(child) for child in (_PROC / str(pid) / "task" / str(pid) / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def send(pid: int, number: signal.Signals) -> None:
    """Sends a signal; one to a process that is gone is lost."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def threads_of(user: int) -> int:
    """How many threads this user has now."""
    total = 0
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == user:
                    total += sum(1 for _ in (entry / "task").iterdir())
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
    return total
