"""What a node asks of the thing that runs algorithms: a few verbs, no word of Docker.

A runtime knows nothing of tasks, envelopes or servers. It starts a program that sees its own run's files and one
Unix socket, says how it ended, and can be asked after a restart of the node what is still there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NewType, Protocol, runtime_checkable

from vantage6.common.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
NOBODY = 65534
"""User and group that every algorithm runs as, whatever its image says."""

Handle = NewType("Handle", str)
"""Names one started run inside its runtime; opaque to everybody else, may be stored in the journal."""

Progress = Callable[[float], None]
"""Is told the part of an image that has arrived, 0 to 1; called on the event loop."""


class ImageMissing(NotFound):
    """The image is neither here nor can it be fetched."""


class ImageUnreachable(Unavailable):
    """The image is not here, and whether its registry has it nobody can tell now: it does not answer, or fails."""


class RuntimeUnavailable(Unavailable):
    """The engine or the sandbox does not answer, or is not installed."""


class RuntimeUnknown(InvalidArgument):
    """The configuration names a runtime that nobody provides."""


class RunRefused(FailedPrecondition):
    """The engine was asked and would not start the run; the message is the engine's."""


class RunMissing(NotFound):
    """No such run (any more) in this runtime."""


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine (`Path`), or a named volume (`str`), at `target` inside the run."""

    source: Path | str
    target: str
    read_only: bool = True
    shared: str = ""
    """Of a folder that several runs share: the name by which a runtime with volumes makes it one."""


@dataclass(frozen=True)
class Forward:
    """A database server of the site: what the run connects to, and the socket where the node passes it on.

    `address` is one of the run's own loopback. Only a runtime that gives a run a network listens there (isolation
    `network`); in others the run uses the socket.
    """

    host: str
    port: int
    address: str
    socket: str  # As the run sees it.


@dataclass(frozen=True)
class Limits:
    """What one run may use. A run that has none of these takes the whole machine with it."""

    memory_bytes: int = 2048 * MIB
    cpus: float = 1.0
    pids: int = 256  # A gRPC process starts 10 to 15 threads, and hangs instead of failing when it gets none.
    seconds: float | None = 24 * 3600.0  # Wall clock, from the start; survives a restart of the node.
    output_bytes: int = 256 * MIB  # Of any single file that the run writes, its output among them.
    tmp_bytes: int = 256 * MIB  # Of /tmp inside the run, which is memory.
    open_files: int = 1024
    log_bytes: int = 64 * 1024  # Of the tail in `Exit`.


@dataclass(frozen=True)
class RunSpec:
    """All that a runtime is told. `key` is unique per attempt: a second start with it starts nothing new."""

    key: str
    image: str
    run_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    command: tuple[str, ...] | None = None  # Arguments for the image's own entry point.
    groups: tuple[int, ...] = ()  # Groups of this machine that may read the mounted databases.
    forwards: tuple[Forward, ...] = ()
    digest: str = ""  # As `pull` gave it; a name may have come to mean another image since.


@dataclass(frozen=True)
class Exit:
    """How a run ended. `code` is 128 + signal number when a signal ended it."""

    code: int
    oom: bool = False
    log_tail: bytes = b""
    timed_out: bool = False


@runtime_checkable
class Runtime(Protocol):
    """The verbs. All may raise `RuntimeUnavailable`; all but `start` take a handle and may raise `RunMissing`."""

    @property
    def name(self) -> str:
        """As in the configuration: docker, sandbox, null, …"""
        ...

    async def pull(self, image: str, progress: Progress | None = None) -> str:
        """Makes the image ready to start and gives its digest; raises `ImageMissing`, or `ImageUnreachable`."""
        ...

    async def start(self, spec: RunSpec) -> Handle:
        """Starts the run, once per `spec.key`; raises `ImageMissing` or `RunRefused`. Does not fetch the image."""
        ...

    async def wait(self, handle: Handle) -> Exit:
        """Returns when the run has ended, and ends it itself when its wall clock limit is over.

        Cancelling the wait leaves the run alone. It can be called again, also after the end.
        """
        ...

    def logs(self, handle: Handle, *, from_now: bool = False) -> AsyncIterator[bytes]:
        """Standard output and error, from the start (or from now) and onwards until the run ends."""
        ...

    async def stop(self, handle: Handle, grace: float) -> None:
        """Asks the run to end (SIGTERM), ends it after `grace` seconds; nothing happens when it has ended."""

    async def recover(self) -> dict[str, Handle]:
        """Runs of this node that exist, ended or not, by the `key` of their spec."""
        ...

    async def remove(self, handle: Handle) -> None:
        """Ends the run if need be and forgets it; nothing happens when it is gone."""

    async def drop_shared(self, names: Collection[str]) -> None:
        """Forgets the volumes of these names (`Mount.shared`), if it made any and no run uses them."""

    async def measure(self, folder: Path, enough: int) -> int:
        """Bytes below a temporary folder in which runs closed something to the node's user; more than `enough` where it
        cannot be told. May raise `RunRefused`."""
        ...

    async def open_up(self, folder: Path) -> None:
        """Removes from a temporary folder what runs closed to the node's user."""

    async def close(self) -> None:
        """Lets go of connections and threads; runs go on."""
