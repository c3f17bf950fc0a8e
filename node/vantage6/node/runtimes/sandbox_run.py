"""What is known of one sandbox, all of it in files: the next program that looks finds the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any, cast

from vantage6.node.runtimes.base import Exit
from vantage6.node.runtimes.processes import Process, children_of, in_namespace, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vantage6.node.runtimes.base import RunSpec

_KILLED = 128 + signal.SIGKILL


class SandboxRun:
    """The folder of one sandbox: run.json (ours), status (bubblewrap's), log, and timed-out when it was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._facts: dict[str, Any] | None = None

    @property
    def log(self) -> Path:
        """Standard output and error."""
        return self._folder / "log"

    @property
    def process(self) -> Process:
        """The outermost process, which ends last."""
        return Process(self.facts["pid"], self.facts["process_started"])

    @property
    def facts(self) -> dict[str, Any]:
        """What was noted at the start."""
        if self._facts is None:
            self._facts = cast("dict[str, Any]", json.loads((self._folder / "run.json").read_text()))
        return self._facts

    def begin(self) -> bool:
        """True for the one who is to start it: making a folder succeeds once."""
        try:
            self._folder.mkdir(mode=0o700)
        except FileExistsError:
            return False
        return True

    def is_complete(self) -> bool:
        """Whether the start came to its end."""
        return (self._folder / "run.json").is_file()

    def spawn(self, command: Callable[[int], list[str]], spec: RunSpec) -> None:
        """Starts the process and notes it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        status = os.open(self._folder / "status", flags, 0o600)
        output = os.open(self.log, flags, 0o600)
        try:
            process = Process.spawn(command(status), output, [status])
        finally:
            os.close(status)
            os.close(output)
        facts = {"pid": process.pid, "process_started": process.started, "time": time.time(),
                 "seconds": spec.limits.seconds, "log_bytes": spec.limits.log_bytes}  # fmt: skip
        unfinished = self._folder / "run.json.new"
        unfinished.write_text(json.dumps(facts))
        unfinished.rename(self._folder / "run.json")

    def remaining(self) -> float | None:
        """Seconds until its time is over."""
        seconds = self.facts["seconds"]
        return None if seconds is None else max(0.0, float(self.facts["time"] + seconds - time.time()))

    def mark_timed_out(self) -> None:
        """Remembers why it is ended."""
        (self._folder / "timed-out").touch()

    def terminate(self) -> None:
        """Asks the program to end."""
        init = self._init()
        for child in children_of(init) if init else ():
            send(child, signal.SIGTERM)

    def kill(self) -> None:
        """Ends the first process of the sandbox's process namespace, and with it all others there."""
        init = self._init()
        if init:
            send(init, signal.SIGKILL)
        elif self.is_complete() and not self.process.is_over():
            send(-self.process.pid, signal.SIGKILL)  # Its group: it has not come to make the namespace.

    def exit(self) -> Exit:
        """How it ended; call it when it is over."""
        code = self._status().get("exit-code")
        if code is None:  # Bubblewrap was killed, or could not make the sandbox and says why in the log.
            code = self.process.exit_code()
        timed_out = (self._folder / "timed-out").exists()
        return Exit(_KILLED if code is None or timed_out else int(code), False, self._tail(), timed_out)

    def remove(self) -> None:
        """Ends what runs and drops the folder."""
        self.kill()
        if self.is_complete():
            self.process.forget()
        shutil.rmtree(self._folder)

    def _tail(self) -> bytes:
        with self.log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - int(self.facts["log_bytes"])))
            return stream.read()

    def _init(self) -> int | None:
        status = self._status()
        pid, namespace = status.get("child-pid"), status.get("pid-namespace")
        return pid if pid and namespace and in_namespace(pid, namespace) else None

    def _status(self) -> dict[str, int]:
        status: dict[str, int] = {}
        path = self._folder / "status"
        for line in path.read_text().splitlines() if path.exists() else ():
            status.update(json.loads(line))
        return status
