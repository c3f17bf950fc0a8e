"""`vserver check`."""

from __future__ import annotations

import asyncio
import errno
import shutil
import socket
from pathlib import Path

import rich_click as click
from sqlalchemy.exc import SQLAlchemyError

from vantage6.common import terminal
from vantage6.common.commands import Stop, code_of_findings, json_option
from vantage6.common.contexts import Context
from vantage6.common.findings import Fault, Finding, failed, ok, skipped, warning
from vantage6.common.settings import ConfigError, validate
from vantage6.server.admin.options import of_server, seat, short, title
from vantage6.server.config import ServerConfig, load_context
from vantage6.server.store.migrate import current_revision, expected_revision, known_revisions
from vantage6.server.store.sql import Database

GIB = 1024**3
LITTLE, TOO_LITTLE = 5 * GIB, GIB // 2
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}
FULL = "make room: nothing can be written down until there is some"


@click.command()
@of_server
@json_option
def check(context: Context, *, as_json: bool) -> None:
    """Test what a server stands on; each line says what, how it is, and the fix.

    Example: vserver check --name central
    """
    config = load_context(context)
    findings = [*_environments(context), _folder(config.data_dir), *asyncio.run(_database(config)),
                _secret(config), _address(context, config)]  # fmt: skip
    bad = [finding for finding in findings if finding.outcome == "failed"]
    if as_json:
        terminal.write_json({"good": not bad, "findings": [vars(finding) for finding in findings]})
    else:
        for finding in findings:
            terminal.line(finding.outcome, f"{finding.what}: {finding.detail}")
            if finding.fix and finding.outcome != "ok":
                terminal.line("", f"fix: {finding.fix}")
    if bad:
        raise Stop(f"{title(context)} cannot work: {len(bad)} checks failed", code_of_findings(bad))


def _environments(context: Context) -> list[Finding]:
    found = []
    for name in context.document.environments():
        try:
            validate(context.document, name, ServerConfig)
            found.append(ok(f"environment {name}", str(context.path)))
        except ConfigError as error:
            found.append(failed(f"environment {name}", error.message, "correct the lines that are named", "config"))
    return found


def _folder(folder: Path) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / ".probe"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return failed("data folder", f"{folder}: {error.strerror}", FULL, "disk")
        kind: Fault = "permission" if error.errno in CLOSED else ""
        fix = "give the server's user the right to write there"
        return failed("data folder", f"{folder}: {error.strerror}", fix, kind)
    free = shutil.disk_usage(folder).free
    text = f"{folder} ({free / GIB:.1f} GiB free)"
    if free < TOO_LITTLE:
        return failed("data folder", text, FULL, "disk")
    return warning("data folder", text, "make room") if free < LITTLE else ok("data folder", text)


async def _database(config: ServerConfig) -> list[Finding]:
    database = Database(config.database_url)
    try:
        schema = await current_revision(database.engine)
    except (SQLAlchemyError, OSError) as error:
        fix = "check 'uri', and that the database server is up"
        return [failed("database", f"it cannot be reached: {short(error)}", fix, "unreachable")]
    finally:
        await database.close()
    found = [ok("database", database.engine.dialect.name)]
    if schema is None:
        return [*found, skipped("schema", "the database is empty; the first start makes it")]
    if schema == expected_revision():
        return [*found, ok("schema", schema)]
    if schema not in known_revisions():
        text = f"it has {schema}, which is newer than the {expected_revision()} of this version"
        return [*found, failed("schema", text, "install the version that wrote it, or a newer one", "schema")]
    text = f"it has {schema}, which is older than the {expected_revision()} of this version"
    return [*found, warning("schema", text, "run 'vserver migrate' (after a backup); 'vserver start' does it as well")]


def _secret(config: ServerConfig) -> Finding:
    path = config.secret_file
    if not path.exists():
        return skipped("token secret", f"{path} will be made at the first start")
    if path.stat().st_mode & 0o077:
        return warning("token secret", f"{path} can be read by other users", f"chmod 600 {path}")
    return ok("token secret", str(path))


def _address(context: Context, config: ServerConfig) -> Finding:
    holder = seat(context, config).holder()
    if holder is not None:
        return ok("address", f"{config.address}, this server is running (process {holder.get('pid')})")
    if config.address.startswith("unix:"):
        return ok("address", config.address)
    host, _, port = config.address.rpartition(":")
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            fix = "end the program that has the port, or change 'address'"
            kind: Fault = "port" if error.errno == errno.EADDRINUSE else ""
            return failed("address", f"{config.address}: {error.strerror}", fix, kind)
    return ok("address", f"{config.address} is free")
