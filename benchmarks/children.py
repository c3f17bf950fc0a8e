"""Child processes that are told what to do by lines of JSON and answer by lines of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 300


class Child:
    """`async with Child("benchmarks.wire", "hub") as hub: answer = await hub.ask(nodes=3)`.

    What it says on standard error goes to `log`, a file.
    """

    def __init__(self, module: str, *arguments: str, log: Path) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                start_new_session=True, limit=2**26,
            )  # fmt: skip
        # Each session may have a share of the processors of its own, within which alone `nice` counts: it gets ours.
        with contextlib.suppress(OSError):
            priority = str(os.getpriority(os.PRIO_PROCESS, 0))
            Path(f"/proc/{self._process.pid}/autogroup").write_text(priority, encoding="ascii")  # noqa: ASYNC240
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    async def ask(self, **command: Any) -> dict[str, Any]:
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        """The next line that is an answer; others are passed over."""
        assert self._process
        assert self._process.stdout
        async with asyncio.timeout(SECONDS):
            while line := await self._process.stdout.readline():
                if line.startswith(b"{"):
                    answer: dict[str, Any] = json.loads(line)
                    return answer
        raise RuntimeError(f"{' '.join(self._command)} ended:\n{self._log.read_text(errors='replace')[-3000:]}")

    async def wait_for(self, text: str) -> str:
        """Waits for a line in the log; only while something starts, so looking again and again does no harm."""
        async with asyncio.timeout(SECONDS):
            while True:
                for line in self._log.read_text(errors="replace").splitlines():
                    if text in line:
                        return line
                assert self._process
                if self._process.returncode is not None:
                    raise RuntimeError(f"{' '.join(self._command)} ended:\n{self._log.read_text()[-3000:]}")
                await asyncio.sleep(0.05)


Command = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


async def obey(command: Command) -> None:
    """The child's side: answers each line until the parent is gone or says SIGTERM."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    ended = asyncio.ensure_future(stopped.wait())
    while True:
        line = asyncio.ensure_future(reader.readline())
        await asyncio.wait([line, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done() or not line.result():
            return
        answer = await command(json.loads(line.result()))
        print(json.dumps(answer), flush=True)


def memory_kib(pid: int) -> float:
    """Resident memory of a process."""
    return _status(pid, "VmRSS:")


def _status(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return float(line.split()[1])
    raise RuntimeError(f"process {pid} has no {field}")


def processor_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
