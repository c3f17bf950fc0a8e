"""Makes sure that a Docker engine answers: `python3 tools/engine.py`; `… stop` ends one that this started.

Uses the engine that runs. Where none does, and this is Debian or Ubuntu and the user is root, installs the
distribution's `docker.io` and starts `dockerd`, which stays (log and process id are in build/engine). Otherwise says
why not and ends with 1. Needs nothing but Python.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "build" / "engine"
PID, LOG = FOLDER / "dockerd.pid", FOLDER / "dockerd.log"
DEFAULT = "unix:///var/run/docker.sock"
SECONDS = 90


class NoEngineError(Exception):
    """Why there is none, for people."""


def answers(address: str) -> bool:
    """Whether a Docker API is at this address (of the form that DOCKER_HOST has)."""
    kind, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    try:
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(rest)
                return pinged(connection)
        with socket.create_connection((host, int(port)), timeout=10):
            return True  # TLS and its certificates are the client's business.
    except PermissionError as error:
        raise NoEngineError(f"{rest} may not be used by this user: join the group that owns it") from error
    except (OSError, ValueError):
        return False


def pinged(connection: socket.socket) -> bool:
    connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
    return b" 200 " in connection.recv(64)


def install() -> None:
    if os.geteuid() != 0:
        raise NoEngineError("no engine runs, and only root can install one")
    if not shutil.which("apt-get"):
        raise NoEngineError("no engine runs, and this is no Debian or Ubuntu: install Docker or Podman yourself")
    say("installing the distribution's docker.io (once) …")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "docker.io"]
    for step in (["apt-get", "update", "--quiet"], command):
        done = subprocess.run(
            step, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NoEngineError(f"`{' '.join(step)}` failed:\n{last_lines(done.stdout + done.stderr)}")


def forget_the_dead() -> None:
    """Removes the note that a killed dockerd left: its number may be another process's by now, or a zombie's."""
    note = Path("/var/run/docker.pid")
    with contextlib.suppress(OSError, ValueError):
        status = Path(f"/proc/{int(note.read_text())}/status")
        alive = status.exists() and "dockerd" in (text := status.read_text()) and "State:\tZ" not in text
        if not alive:
            note.unlink()


def start(program: str) -> None:
    """Starts dockerd and waits for its word that it is ready (the protocol of systemd's services)."""
    forget_the_dead()
    mount_cgroups()
    FOLDER.mkdir(parents=True, exist_ok=True)
    address = FOLDER / "ready"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, LOG.open("wb") as log:
        os.chdir(FOLDER)  # A socket's path may have 108 characters, a checkout's more.
        ready.bind(address.name)
        ready.settimeout(SECONDS)
        daemon = subprocess.Popen(
            [program], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env=os.environ | {"NOTIFY_SOCKET": f"/proc/{os.getpid()}/cwd/{address.name}"},
        )  # fmt: skip
        PID.write_text(str(daemon.pid))
        say(f"starting {program} (process {daemon.pid}) …")
        wait(daemon, ready)
    address.unlink(missing_ok=True)


def wait(daemon: subprocess.Popen[bytes], ready: socket.socket) -> None:
    ended = os.pidfd_open(daemon.pid)
    try:
        while True:
            readable, _, _ = select.select([ready.fileno(), ended], [], [], SECONDS)
            if ready.fileno() in readable and b"READY=1" in ready.recv(4096):
                return
            if ended in readable or not readable:
                PID.unlink()
                with contextlib.suppress(ProcessLookupError):
                    daemon.terminate()
                raise NoEngineError(f"dockerd did not start; the end of {LOG}:\n{last_lines(LOG.read_text())}")
    finally:
        os.close(ended)


def mount_cgroups() -> None:
    """In a bare container nothing may be mounted there, and dockerd needs it."""
    root = Path("/sys/fs/cgroup")
    if root.is_dir() and not any(root.iterdir()):
        subprocess.run(["mount", "-t", "cgroup2", "none", str(root)], check=False)


def stop() -> None:
    try:
        process = int(PID.read_text())
        name = Path(f"/proc/{process}/comm").read_text().strip()
    except (OSError, ValueError):
        say("none that was started from here")
        return
    if name == "dockerd":
        with contextlib.suppress(ProcessLookupError):
            ended = os.pidfd_open(process)
            os.kill(process, signal.SIGTERM)
            select.select([ended], [], [], SECONDS)
        say(f"stopped (process {process})")
    PID.unlink()


def ensure() -> None:
    address = os.environ.get("DOCKER_HOST") or DEFAULT
    if answers(address):
        say(f"{address} answers")
        return
    if address != DEFAULT:
        raise NoEngineError(f"DOCKER_HOST is {address}, where nothing answers")
    if not shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        install()
        if answers(address):  # With systemd, the package has started it.
            say(f"{address} answers")
            return
    if os.geteuid() != 0:
        raise NoEngineError("Docker is installed but does not run, and only root can start it")
    program = shutil.which("dockerd", path=f"/usr/sbin:/sbin:{os.environ.get('PATH', '')}")
    if program is None:
        raise NoEngineError("docker.io was installed but has no dockerd")
    start(program)
    say(f"{address} answers; `make engine-stop` ends it")


def last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-8:])


def say(text: str) -> None:
    print(f"engine: {text}", flush=True)


def main() -> int:
    try:
        stop() if "stop" in sys.argv[1:] else ensure()
    except NoEngineError as error:
        say(f"none. {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
