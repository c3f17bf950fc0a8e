"""`vserver migrate` and `shell`: what concerns the database."""

from __future__ import annotations

import asyncio
import code
import sys
from typing import Any

import rich_click as click

from vantage6.common import terminal
from vantage6.common.commands import Code, Stop, facts_option, tell
from vantage6.common.contexts import Context
from vantage6.server.admin.options import database_in_words, of_server, title
from vantage6.server.config import load_context
from vantage6.server.store.migrate import current_revision, expected_revision, upgrade
from vantage6.server.store.sql import Database


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

    with database_in_words():
        before, after = asyncio.run(work())
    tell(before=before, after=after, wanted=expected_revision())
    name = before or "none, it is empty"
    if before == expected_revision():
        terminal.say(f"the database has schema {before}, as this version wants it")
    elif only_check:
        raise Stop(f"the database has schema {name}, this version wants {expected_revision()}: run it without --check",
                   Code.SCHEMA)  # fmt: skip
    else:
        terminal.say(f"the database had schema {name}, now it has {after}")


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
