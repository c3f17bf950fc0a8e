"""`vnode check`: everything that a node stands on, tested one by one; each line says what, how it is, and the fix."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from vantage6.common.errors import Vantage6Error
from vantage6.common.findings import Fault, Finding, failed, ok, skipped, warning
from vantage6.common.keys import KeyPair
from vantage6.common.settings import ConfigError, Document
from vantage6.node.config import NodeConfig, settings_of
from vantage6.node.databases import without_password
from vantage6.node.disclosure import Disclosure
from vantage6.node.doctor_line import check_line
from vantage6.node.doctor_registry import check_registries
from vantage6.node.doctor_runtime import check_runtime
from vantage6.node.signatures import Signatures
from vantage6.node.workspace import Workspace

GIB = 1024**3
LITTLE, TOO_LITTLE = 5 * GIB, GIB // 2
FULL = "make room: nothing can be written down until there is some"

CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}

Severity = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Report:
    """All findings of one node."""

    findings: list[Finding]

    @property
    def good(self) -> bool:
        """Whether the node can be started."""
        return not any(finding.outcome == "failed" for finding in self.findings)

    def plain(self) -> list[dict[str, str]]:
        return [asdict(finding) for finding in self.findings]


async def examine(
    config: NodeConfig, document: Document | None = None, *, deep: bool = True,
    told: Callable[[Finding], None] = lambda _finding: None,
) -> Report:  # fmt: skip
    """Runs all checks; `deep` starts a container as well, to look around from inside. `told` hears each at once."""
    findings: list[Finding] = []

    def add(more: Iterable[Finding]) -> None:
        for finding in more:
            findings.append(finding)
            told(finding)

    add(check_environments(document) if document else [])
    add(check_folders(config))
    add(check_databases(config))
    add(check_policy(config))
    add(await _guarded("engine", lambda: check_runtime(config, deep=deep)))
    add(await asyncio.to_thread(check_registries, config))
    add(await _guarded("server", lambda: check_line(config)))
    return Report(findings)


async def _guarded(what: str, check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    try:
        return await check()
    except (Vantage6Error, OSError) as error:
        return [failed(what, str(error), "see the message")]


def check_environments(document: Document) -> list[Finding]:
    """Of the whole file: an environment that nobody starts today must not be wrong unnoticed."""
    found = []
    for name in document.environments():
        try:
            settings_of(document, name)
        except ConfigError as error:
            found.append(failed(f"environment {name}", error.message, "correct the lines that are named", "config"))
    good = [name for name in document.environments() if f"environment {name}" not in {each.what for each in found}]
    return [ok("configuration", f"{document.path}: {', '.join(good)}"), *found] if good else found


def check_folders(config: NodeConfig) -> list[Finding]:
    """Task, log and data folder: can be written, have room, and the task folder's path is not too long."""
    found = []
    for label, folder in (("task", config.task_dir), ("log", config.log_dir), ("data", config.data_dir)):
        found.append(_folder(f"{label} folder", folder))
    key = config.private_key_file
    if key.exists():
        found.append(_own_key(key))
    elif config.private_key is not None:
        found.append(
            failed("private key", f"{key} does not exist", "run 'vnode create-private-key', or leave private_key out")
        )
    return found


def _folder(what: str, folder: Path) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return failed(what, f"{folder}: {error.strerror}", FULL, "disk")
        kind: Fault = "permission" if error.errno in CLOSED else ""
        return failed(what, f"{folder}: {error.strerror}", "give the node's user the right to write there", kind)
    free = shutil.disk_usage(folder).free
    text = f"{folder} ({free / GIB:.1f} GiB free)"
    if free < TOO_LITTLE:
        return failed(what, text, FULL, "disk")
    if free < LITTLE:
        return warning(what, text, "make room, or choose another folder in 'directories'")
    return ok(what, text)


def _own_key(path: Path) -> Finding:
    try:
        keys = KeyPair.load(path)
    except (Vantage6Error, OSError) as error:
        return failed("private key", f"{path}: {error}", "put the organization's private key there")
    if path.stat().st_mode & 0o077:
        return warning("private key", f"{path} can be read by other users", f"chmod 600 {path}")
    return ok("private key", f"{path}, fingerprint {keys.public.fingerprint}")


def check_databases(config: NodeConfig) -> list[Finding]:
    """Whether algorithms, which run as an unprivileged user, can read them."""
    if not config.databases:
        return [warning("databases", "there are none", "add at least 'default' under 'databases'")]
    found = []
    workspace = Workspace(config.task_dir, config.name)
    for label, database in config.databases.items():
        what = f"database {label}"
        try:
            workspace.locate(0, 0, "check", {label: database})
        except Vantage6Error as error:
            text = f"{error.message} ({without_password(database.uri)})"
            found.append(failed(what, text, "chmod o+r, or a group that may read it"))
            continue
        if "://" in database.uri:
            found.append(skipped(what, f"{without_password(database.uri)} is for algorithms to open"))
        else:
            found.append(_content(what, Path(database.uri)))
    return found


def _content(what: str, path: Path) -> Finding:
    if path.is_dir():
        return ok(what, f"{path} (folder)")
    with suppress(OSError):
        size = path.stat().st_size
        if not size:
            return warning(what, f"{path} is empty", "is this the right file?")
        return ok(what, f"{path} ({size:,} bytes)")
    return failed(what, f"{path} cannot be read", "check the path and its permissions")


def check_policy(config: NodeConfig) -> list[Finding]:
    """A node that allows nothing is safe and of no use."""
    try:
        Disclosure(config.policy.disclosure)
        Signatures(config.policy.signatures, None, config.data_dir)
    except ConfigError as error:
        return [failed("policy", error.message, "correct what is named")]
    allowed = [*config.policy.allowed_images, *config.policy.allowed_digests]
    if not allowed:
        return [warning("policy", "no image is allowed, every run will be refused", "set policy.allowed_images")]
    if any(pattern in {".*", ".+", ""} for pattern in config.policy.allowed_images):
        return [warning("policy", "every image is allowed", "name the images that you know in policy.allowed_images")]
    return [ok("policy", f"{len(allowed)} patterns of images are allowed")]


def run(config: NodeConfig, document: Document | None = None, *, deep: bool = True,
        told: Callable[[Finding], None] = lambda _finding: None) -> Report:  # fmt: skip
    """`examine`, for commands."""
    return asyncio.run(examine(config, document, deep=deep, told=told))
