"""Processes that go on when the command that started them has ended: one per folder, found again, asked to stop.

Who holds the lock on the file is the process that runs; the lock goes with the process, however it ends, so nothing
stale is ever believed. What stands in the file are facts for people: its id, since when, and how it is doing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vantage6.common.errors import FailedPrecondition

READY_VARIABLE = "VANTAGE6_READY_FD"
"""Names the file descriptor through which a process tells the one that started it how its start went."""
LARGEST_LOG = 10 * 1024 * 1024
KEPT_LOGS = 5


class AlreadyRunning(FailedPrecondition):
    """Another process works with this folder."""


class AddressTaken(FailedPrecondition):
    """The port is another program's, or the address is not this machine's."""


@dataclass
class Seat:
    """The place of the one process of a folder: `with Seat(file).taken() as seat: seat.tell(state="online")`."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    _handle: int = -1

    @contextlib.contextmanager
    def taken(self, what: str, **facts: object) -> Iterator[Seat]:
        """Holds the seat; raises AlreadyRunning. `what` is for the message: "node 'north'"."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise AlreadyRunning(
                    f"another process is running this {what} (its folder {self.path.parent} is locked); stop it first"
                ) from error
            self.facts = {"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
            self.tell()
            yield self
        finally:
            os.close(self._handle)
            self._handle = -1

    def tell(self, **facts: object) -> None:
        """Writes more facts for those who look."""
        self.facts.update(facts)
        data = json.dumps(self.facts, default=str).encode()
        os.pwrite(self._handle, data, 0)
        os.ftruncate(self._handle, len(data))

    def holder(self) -> dict[str, Any] | None:
        """The facts of the process that runs, or None."""
        try:
            with self.path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    return _facts(file.read())
        except OSError:
            return None
        return None

    def stop(self, seconds: float) -> bool:
        """Asks the process to end and waits; False if it has not ended by then."""
        holder = self.holder()
        if holder is None or not holder.get("pid"):
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(holder["pid"]), signal.SIGTERM)
        return self.wait_free(seconds)

    def wait_free(self, seconds: float) -> bool:
        """Returns when nobody holds the seat; False if somebody still does after so long."""
        free = threading.Event()

        def wait() -> None:
            with contextlib.suppress(OSError), self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
            free.set()

        threading.Thread(target=wait, daemon=True).start()
        return free.wait(seconds)


def _facts(data: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(data)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


@dataclass(frozen=True)
class Started:
    """How a start went: `ok` and the facts that the process told, or why not. `pid` 0 when it has ended."""

    ok: bool
    facts: Mapping[str, Any]
    pid: int = 0


_notes: dict[str, object] = {}


def awaited() -> bool:
    """Whether a command waits for this process, and hears what it tells."""
    return READY_VARIABLE in os.environ


def note(**facts: object) -> None:
    """Something that the starter shall hear with the first word, and that must not stand in the log."""
    _notes.update(facts)


def tell_starter(**facts: object) -> None:
    """Tells the command that started this process, if one waits; only the first word is heard."""
    number = os.environ.pop(READY_VARIABLE, "")
    if not number.isdigit():
        return
    with contextlib.suppress(OSError), os.fdopen(int(number), "wb") as pipe:  # It may have gone away.
        pipe.write(json.dumps({**_notes, **facts}, default=str).encode() + b"\n")


def start(command: Sequence[str], log: Path, seconds: float, environment: Mapping[str, str] | None = None) -> Started:
    """Starts a process that stays, with its words in `log`; returns when it said how its start went, or ended."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    rotate(log)
    reading, writing = os.pipe()
    try:
        with log.open("ab") as words:
            process = subprocess.Popen(  # noqa: S603 - our own program
                list(command),
                stdin=subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True, pass_fds=[writing],
                env={**os.environ, **(environment or {}), READY_VARIABLE: str(writing)}, cwd="/",
            )  # fmt: skip
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        readable, _, _ = select.select([pipe], [], [], seconds)
        if not readable:
            process.returncode = 0
            return Started(ok=False, facts={"code": "", "message": ""}, pid=process.pid)
        facts = _facts(pipe.read())
    if facts.get("ok"):
        process.returncode = 0  # Not ours any more: it is to outlive this process, and Popen would warn of that.
        return Started(ok=True, facts=facts, pid=process.pid)
    process.wait()
    return Started(ok=False, facts=facts or {"message": f"it ended with {process.returncode}", "code": ""})


def rotate(log: Path, largest: int = LARGEST_LOG, kept: int = KEPT_LOGS) -> None:
    """Puts a log that has become large aside: `north.log.1` is the one before."""
    if not log.exists() or log.stat().st_size < largest:
        return
    for number in range(kept - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    log.replace(log.with_name(f"{log.name}.1"))


def follow(log: Path, show: Callable[[str], None], seat: Seat, *, lines: int = 100) -> None:
    """Shows the end of a log and what is added to it, until the process has ended (or Ctrl-C)."""
    ended = threading.Event()

    def watch() -> None:
        while not seat.wait_free(3600):
            pass
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    with log.open("r", encoding="utf-8", errors="replace") as file:
        for line in file.readlines()[-lines:]:
            show(line.rstrip("\n"))
        while True:
            over = ended.is_set()
            for line in file.readlines():
                show(line.rstrip("\n"))
            if over:
                return
            ended.wait(0.2)  # Files tell nobody that they grew; the end of the process is heard at once.
