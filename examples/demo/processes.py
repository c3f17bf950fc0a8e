"""Server, gateway and nodes as processes of their own, and nothing left of them afterwards."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

READY_SECONDS = 60
STOP_SECONDS = 20

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

BIN = Path(sys.executable).parent


class NotReadyError(Exception):
    """A process ended, or said nothing of being ready; the text has its last words."""


@dataclass
class Service:
    """One process. Its words go to a file; `ready` is the line that says it serves."""

    name: str
    command: Sequence[str]
    log: Path
    ready: str
    _process: subprocess.Popen[bytes] | None = None
    _reader: threading.Thread | None = None
    _lines: queue.SimpleQueue[re.Match[str] | None] = field(default_factory=queue.SimpleQueue)

    def start(self) -> None:
        """In a session of its own: Ctrl-C is the demo's to handle, in the right order."""
        with _later():
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                [*self.command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self._reader = threading.Thread(target=self._read, name=self.name, daemon=True)
        self._reader.start()

    def wait_ready(self) -> re.Match[str]:
        """Returns the match of `ready`."""
        try:
            found = self._lines.get(timeout=READY_SECONDS)
        except queue.Empty:
            found = None
        if found is None:
            raise NotReadyError(f"{self.name} did not start:\n{self.last_words()}")
        return found

    def _read(self) -> None:
        assert self._process is not None  # noqa: S101 - started
        assert self._process.stdout is not None  # noqa: S101 - piped
        with self.log.open("wb") as file, self._process.stdout as lines:
            for line in lines:
                file.write(line)
                file.flush()
                if match := re.search(self.ready, line.decode(errors="replace")):
                    self._lines.put(match)
        self._lines.put(None)

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]) if self.log.exists() else ""

    def end(self) -> None:
        """Asks it to stop."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def ended(self) -> None:
        """Waits until it has stopped, and ends by force what of its group is still there."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._reader is not None:
            self._reader.join(STOP_SECONDS)


class Services:
    """Starts services and stops all of them, the last ones first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: list[list[Service]] = []

    def start(self, services: Mapping[str, tuple[Sequence[str], str]]) -> dict[str, re.Match[str]]:
        """Starts some at once, each name with its command and the pattern of its ready line; waits for all."""
        group = [
            Service(name, command, self._logs / f"{name}.log", ready) for name, (command, ready) in services.items()
        ]
        self._started.append(group)
        for service in group:
            service.start()
        return {service.name: service.wait_ready() for service in group}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        undisturbed()
        while self._started:
            group = self._started.pop()
            for service in group:
                service.end()
            for service in group:
                service.ended()


def interruptible() -> None:
    """Lets the first of these signals end the demo in order; what comes after it changes nothing."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def undisturbed() -> None:
    """From here on, cleaning up is not stopped half way."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _later() -> Iterator[None]:
    """Holds an interrupt back until the process that is being started is known, or it would be left behind."""
    arrived: list[int] = []
    before = {number: signal.signal(number, lambda each, _: arrived.append(each)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for each in arrived:
        signal.raise_signal(each)


def _interrupt(number: int, frame: object) -> NoReturn:
    undisturbed()
    raise KeyboardInterrupt


def program(name: str) -> str:
    """A command that is installed beside this Python."""
    return str(BIN / name)


def python(module: str) -> list[str]:
    """A module as a command, with this Python."""
    return [sys.executable, "-m", module]
