"""`vserver migrate`, `check` and `shell`: what concerns the database."""

from __future__ import annotations

import asyncio
import code
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import rich_click as click
from sqlalchemy.exc import SQLAlchemyError

from vantage6.common import terminal
from vantage6.common.commands import Code, Stop, facts_option, json_option, tell
from vantage6.common.contexts import Context
from vantage6.common.findings import Finding, failed, ok, skipped, warning
from vantage6.common.settings import ConfigError, validate
from vantage6.server.admin.options import of_server, seat, title
from vantage6.server.config import ServerConfig, load_context
from vantage6.server.store.migrate import (
    SchemaUnknownError,
    current_revision,
    expected_revision,
    known_revisions,
    upgrade,
)
from vantage6.server.store.sql import Database

GIB = 1024**3


@click.command()
@of_server
@click.option("--check", "only_check", is_flag=True, help="Say what would be done, and do nothing.")
@facts_option
def migrate(context: Context, *, only_check: bool) -> None:
    """Bring the database to the schema of this version. `vserver start` does it as well.

    Example: vserver migrate --name central --check
    """
    config = load_context(context)
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def work() -> tuple[str | None, str | None]:
        database = Database(config.database_url)
        try:
            before = await current_revision(database.engine)
            if not only_check:
                await upgrade(database.engine)
            return before, await current_revision(database.engine)
        finally:
            await database.close()

    try:
        before, after = asyncio.run(work())
    except SchemaUnknownError as error:
        raise Stop(str(error), Code.SCHEMA) from error
    except (SQLAlchemyError, OSError) as error:
        raise Stop(f"the database cannot be reached: {_short(error)}", Code.UNREACHABLE) from error
    tell(before=before, after=after, wanted=expected_revision())
    name = before or "none, it is empty"
    if before == expected_revision():
        terminal.say(f"the database has schema {before}, as this version wants it")
    elif only_check:
        raise Stop(f"the database has schema {name}, this version wants {expected_revision()}: run it without --check",
                   Code.SCHEMA)  # fmt: skip
    else:
        terminal.say(f"the database had schema {name}, now it has {after}")


def _short(error: Exception) -> str:
    """Without the statement, its parameters and the URL."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]


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
        raise Stop(f"{title(context)} cannot work: {len(bad)} checks failed", Code.CHECK)


def _environments(context: Context) -> list[Finding]:
    found = []
    for name in context.document.environments():
        try:
            validate(context.document, name, ServerConfig)
            found.append(ok(f"environment {name}", str(context.path)))
        except ConfigError as error:
            found.append(failed(f"environment {name}", error.message, "correct the lines that are named"))
    return found


def _folder(folder: Path) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / ".probe"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        return failed("data folder", f"{folder}: {error.strerror}", "give the server's user the right to write there")
    free = shutil.disk_usage(folder).free
    text = f"{folder} ({free / GIB:.1f} GiB free)"
    return warning("data folder", text, "make room") if free < 5 * GIB else ok("data folder", text)


async def _database(config: ServerConfig) -> list[Finding]:
    database = Database(config.database_url)
    try:
        schema = await current_revision(database.engine)
    except (SQLAlchemyError, OSError) as error:
        fix = "check 'uri', and that the database server is up"
        return [failed("database", f"it cannot be reached: {_short(error)}", fix, "unreachable")]
    finally:
        await database.close()
    found = [ok("database", database.engine.dialect.name)]
    if schema is None:
        return [*found, skipped("schema", "the database is empty; the first start makes it")]
    if schema == expected_revision():
        return [*found, ok("schema", schema)]
    if schema not in known_revisions():
        text = f"it has {schema}, which is newer than the {expected_revision()} of this version"
        return [*found, failed("schema", text, "install the version that wrote it, or a newer one")]
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
            return failed("address", f"{config.address}: {error.strerror}", fix)
    return ok("address", f"{config.address} is free")


@click.command()
@of_server
def shell(context: Context) -> None:
    """Open a Python console on the database, for repairs that no command does.

    `run(coroutine)` waits for one; changes are kept at the end of `async with database.write() as store`.

    Example: vserver shell --name central
    """
    from vantage6.server.store import tables  # noqa: PLC0415

    config = load_context(context)
    database = Database(config.database_url)
    with asyncio.Runner() as runner:
        names: dict[str, Any] = {"config": config, "database": database, "tables": tables, "run": runner.run}
        console = code.InteractiveConsole(names)
        if sys.stdin.isatty():
            console.interact(f"{title(context)}\nThere are: {', '.join(names)}", "")
        else:
            exec(compile(sys.stdin.read(), "<stdin>", "exec"), names)  # noqa: S102 - it is what a shell does
        runner.run(database.close())
