"""The files of one run, on this machine and as the run sees them.

A run is shown its own files one by one, never the folder they lie in, so there is no path from one run to another's.
The folders around them are for the node's user alone; the files themselves are open to everybody, since the run's
user (65534) is nobody here and what keeps others out is the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from vantage6.common.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from vantage6.node.disk import remove_tree
from vantage6.node.forwards import Isolation, Way, plan
from vantage6.node.runtimes.base import Mount

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vantage6.api.v1.delivery_pb2 import Assignment

INPUT = "/mnt/data/input"
OUTPUT = "/mnt/data/output"
TOKEN = "/mnt/data/token"  # noqa: S105 - where the token is, not the token
TEMPORARY = "/mnt/tmp"
DATABASES = "/mnt/databases"
SOCKET_FOLDER = "/run/vantage6"
SOCKET = "proxy.sock"
WEB_SOCKET = "http.sock"
SOCKET_PATH_LIMIT = 107  # Of the kernel, for the address of a Unix socket.

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_RUN_FOLDER = re.compile(r"(-?\d+)-(-?\d+)")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://")


def shared_name(run: Assignment) -> str:
    """Which runs share a temporary folder: those of one `run_id`, and nobody else.

    That a run has this `run_id` is the server's word. So it is bound to what all runs of one user's task have in
    common: collaboration, user and image (which the initiator vouches for). A server that lies can bring together runs
    of one image only, which could have told each other in other ways.
    """
    facts = json.dumps([run.collaboration_id, run.user_id, run.image])
    return f"{run.run_id}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"


class OutputUnsafe(FailedPrecondition):
    """What lies at the output's place is not a plain file of this run alone."""


class OutputTooLarge(ResourceExhausted):
    """The run wrote more than this node lets out."""


class DatabaseUnreadable(FailedPrecondition):
    """A database of the configuration is missing or closed to the user that algorithms run as."""


class DatabaseLike(Protocol):
    """What the workspace needs to know of a database of the configuration."""

    @property
    def uri(self) -> str:
        """A path of this machine, or a URL that algorithms understand."""
        ...


@dataclass(frozen=True)
class RunFiles:
    """Where the files of one run are, and what its `RunSpec` says of them."""

    run_dir: Path
    temporary: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    groups: tuple[int, ...] = ()
    ways: Mapping[str, Way] = field(default_factory=dict)

    @property
    def input_path(self) -> Path:
        """The opened input."""
        return self.run_dir / "input"

    @property
    def output_path(self) -> Path:
        """What the run has written; read it with `Workspace.open_output` only."""
        return self.run_dir / "output"

    @property
    def token_path(self) -> Path:
        """The run's token for the proxy."""
        return self.run_dir / "token"

    @property
    def socket_path(self) -> Path:
        """Where the proxy listens. The socket needs mode 0666: connecting is writing."""
        return self.run_dir / "socket" / SOCKET


class Workspace:
    """Makes, finds, reads and removes the files of runs, below `root`. All calls are short and blocking."""

    def __init__(self, root: Path, node_name: str, isolation: Isolation = "socket") -> None:
        self.root = root.absolute()
        self._isolation: Isolation = isolation
        self.node_name = node_name
        for folder in (self.root, self._runs, self._temporary, self._gone, self.incoming_folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def _runs(self) -> Path:
        return self.root / "runs"

    @property
    def _temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def _gone(self) -> Path:
        return self.root / "gone"

    @property
    def incoming_folder(self) -> Path:
        """For what is being fetched and opened; on the same disk as the runs, so that it is moved and not copied."""
        return self.root / "incoming"

    def incoming(self, result_id: int, epoch: int) -> Path:
        """Where an input lies until `prepare` moves it."""
        return self.incoming_folder / f"{int(result_id)}-{int(epoch)}"

    def prepare(
        self,
        result_id: int,
        epoch: int,
        input: bytes | Path,  # noqa: A002 - the contract's word
        token: str,
        databases: Mapping[str, DatabaseLike],
        *,
        run_id: str | int,
    ) -> RunFiles:
        """Makes all files of the run afresh; an input that is a `Path` on the same disk is moved here, not copied."""
        files = self.locate(result_id, epoch, run_id, databases)
        _check_socket(files.socket_path)
        self.remove(files)
        files.run_dir.mkdir(mode=0o700)
        _open_folder(files.socket_path.parent, 0o711)
        _open_folder(files.temporary, 0o777)  # Not sticky: the runs that share it may have different users here.
        os.utime(files.temporary)  # Its age counts from here.
        if isinstance(input, Path):
            shutil.move(input, files.input_path)
            files.input_path.chmod(0o444)
        else:
            _write(files.input_path, input, 0o444)
        _write(files.token_path, token.encode(), 0o444)
        _write(files.output_path, b"", 0o666)
        return files

    def locate(
        self, result_id: int, epoch: int, run_id: str | int, databases: Mapping[str, DatabaseLike] | None = None
    ) -> RunFiles:
        """Says where the files of a run are, touching nothing: after a restart the run may be using them."""
        if not _RUN_ID.fullmatch(str(run_id)):
            raise InvalidArgument(f"run_id {run_id!r} is not a plain name", field="run_id")
        run_dir = self._runs / f"{int(result_id)}-{int(epoch)}"
        temporary = self._temporary / str(run_id)
        ways = plan(databases or {}, run_dir / "socket", SOCKET_FOLDER, self._isolation)
        shown = [_show(label, database, ways.get(label)) for label, database in (databases or {}).items()]
        return RunFiles(
            run_dir=run_dir,
            temporary=temporary,
            environment=_environment(shown),
            mounts=(*_own_mounts(run_dir, temporary), *(db.mount for db in shown if db.mount)),
            groups=tuple(sorted({db.group for db in shown if db.group is not None})),
            ways=ways,
        )

    def open_output(self, files: RunFiles, limit: int) -> BinaryIO:
        """Opens what the run wrote, if it is a plain file of at most `limit` bytes; never follows, never blocks."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(files.output_path, flags)
        except OSError as error:
            raise OutputUnsafe(f"the output cannot be opened: {error.strerror}") from error
        try:
            _check_output(os.fstat(descriptor), limit)
        except BaseException:
            os.close(descriptor)
            raise
        return os.fdopen(descriptor, "rb")

    def remove(self, files: RunFiles) -> None:
        """Removes the run's own files; the temporary folder belongs to all runs with its run_id and stays."""
        if files.run_dir.parent != self._runs:
            raise InvalidArgument(f"{files.run_dir.name} is no run of this workspace", field="run_dir")
        if files.run_dir.exists():
            shutil.rmtree(files.run_dir)

    def runs(self) -> list[tuple[int, int]]:
        """(result id, epoch) of every run that has files here."""
        named = (_RUN_FOLDER.fullmatch(folder.name) for folder in self._runs.iterdir())  # Others put things there too.
        return sorted((int(match[1]), int(match[2])) for match in named if match)

    def temporary_folders(self) -> list[str]:
        """The run_ids that have a temporary folder."""
        return sorted(folder.name for folder in self._temporary.iterdir())

    def old_folders(self, days: float) -> list[str]:
        """Temporary folders that no run has been given for so many days."""
        limit = time.time() - days * 24 * 3600
        return sorted(each.name for each in self._temporary.iterdir() if each.lstat().st_mtime < limit)

    def retire(self, name: str) -> Path:
        """Puts a temporary folder aside, to be removed: whoever needs one of that name gets a new one."""
        aside = self._gone / uuid.uuid4().hex
        with suppress(FileNotFoundError):
            (self._temporary / name).rename(aside)
        return aside

    def retired(self) -> list[Path]:
        """What was put aside."""
        return list(self._gone.iterdir())

    def remove_temporary(self, run_id: str | int) -> None:
        """Removes what runs with this run_id left for one another."""
        folder = self.locate(0, 0, run_id).temporary
        if folder.exists():
            remove_tree(folder)


@dataclass(frozen=True)
class _Shown:
    label: str
    uri: str
    mount: Mount | None = None
    group: int | None = None
    kind: str = ""
    socket: str = ""


def _show(label: str, database: DatabaseLike, way: Way | None = None) -> _Shown:
    """How a run sees a database: a file or folder of this machine read-only in its own place, a URL as it is."""
    if not _LABEL.fullmatch(label):
        raise InvalidArgument(f"database label {label!r} must be letters, digits, - and _", field="databases")
    uri, kind = database.uri, str(getattr(database, "type", ""))
    if way:
        return _Shown(label, way.uri, kind=kind, socket=way.forward.socket)
    if _URL.match(uri) and not uri.startswith("file://"):
        return _Shown(label, uri, kind=kind)
    path = Path(uri.removeprefix("file://")).expanduser().absolute().resolve()
    target = f"{DATABASES}/{label}/{path.name}"
    return _Shown(label, target, Mount(path, target), _reading_group(label, path), kind)


def _reading_group(label: str, path: Path) -> int | None:
    """The group that a run must be in to read the file, none when everybody may."""
    try:
        info = path.stat()
    except OSError as error:
        raise DatabaseUnreadable(f"database {label!r} cannot be read: {error.strerror}", label=label) from error
    needed = 0o5 if stat.S_ISDIR(info.st_mode) else 0o4
    if info.st_mode & needed == needed:
        return None
    if info.st_mode >> 3 & needed == needed and info.st_gid != 0:  # An algorithm never gets the group of root.
        return info.st_gid
    raise DatabaseUnreadable(
        f"database {label!r} is closed to algorithms: they run as an unprivileged user; "
        "give the file a group (other than root) that may read it",
        label=label,
    )


def _environment(shown: list[_Shown]) -> dict[str, str]:
    environment = {
        "INPUT_FILE": INPUT,
        "OUTPUT_FILE": OUTPUT,
        "TOKEN_FILE": TOKEN,
        "TEMPORARY_FOLDER": TEMPORARY,
        "PROXY_ADDRESS": f"unix:{SOCKET_FOLDER}/{SOCKET}",
        "PROXY_HTTP_ADDRESS": f"unix:{SOCKET_FOLDER}/{WEB_SOCKET}",
    }
    for database in shown:
        environment |= _variables(f"{database.label.upper().replace('-', '_')}_", database)
    if shown:
        environment |= _variables("", next((db for db in shown if db.label == "default"), shown[0]))
    return environment


def _variables(prefix: str, shown: _Shown) -> dict[str, str]:
    found = {"URI": shown.uri, "TYPE": shown.kind, "SOCKET": shown.socket}
    return {f"{prefix}DATABASE_{name}": value for name, value in found.items() if value}


def _own_mounts(run_dir: Path, temporary: Path) -> tuple[Mount, ...]:
    return (
        Mount(run_dir / "input", INPUT),
        Mount(run_dir / "token", TOKEN),
        Mount(run_dir / "output", OUTPUT, read_only=False),
        Mount(run_dir / "socket", SOCKET_FOLDER),  # The folder: the proxy may be restarted with a new socket.
        Mount(temporary, TEMPORARY, read_only=False, shared=temporary.name),
    )


def _open_folder(folder: Path, mode: int) -> None:
    folder.mkdir(exist_ok=True)
    folder.chmod(mode)  # Not by mkdir: the umask would take part of it away.


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        os.fchmod(stream.fileno(), mode)


def _check_socket(path: Path) -> None:
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise InvalidArgument(
            f"the task directory's path is too long: a socket's address has at most {SOCKET_PATH_LIMIT} bytes, "
            f"{len(os.fsencode(path))} are needed; choose a shorter one",
            field="directories.task",
        )


def _check_output(info: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise OutputUnsafe("the output is not a plain file")
    if info.st_nlink != 1:
        raise OutputUnsafe("the output has another name somewhere else")
    if info.st_size > limit:
        raise OutputTooLarge(f"the output has {info.st_size} bytes, {limit} are allowed", limit=limit)
