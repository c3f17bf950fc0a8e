"""`vserver import`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import rich_click as click

from vantage6.common import terminal
from vantage6.common.commands import json_option
from vantage6.common.contexts import Context
from vantage6.common.settings import load_yaml, validate_at
from vantage6.common.wizard import write_new
from vantage6.server.admin.options import of_server
from vantage6.server.config import ServerConfig, load_context
from vantage6.server.domain.fixtures import Fixtures, Outcome, import_fixtures
from vantage6.server.domain.secrets import Passwords
from vantage6.server.startup import prepare
from vantage6.server.store.sql import Database


@click.command("import")
@of_server
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--api-keys", type=click.Path(dir_okay=False, path_type=Path),
    help="New file for the API keys of the nodes that were made; else they are printed.",
)  # fmt: skip
@json_option
def import_file(context: Context, file: Path, *, api_keys: Path | None, as_json: bool) -> None:
    """Add the organizations, users, collaborations and nodes of a YAML FILE: all of them or, if one is wrong, none.

    What is there by its name is left alone, so the same file can be imported again.

    Example: vserver import --name central fixtures.yaml
    """
    config = load_context(context)
    document = load_yaml(file)
    fixtures = validate_at(document, (), document.content, Fixtures)
    outcome = asyncio.run(_work(config, fixtures))
    if as_json:
        terminal.write_json(vars(outcome))
        return
    for text in outcome.made:
        terminal.line("made", text)
    for text in outcome.present:
        terminal.line("present", text)
    for text in outcome.different:
        terminal.line("differs", text)
    if outcome.api_keys:
        keys = "".join(f"{name}: {key}\n" for name, key in outcome.api_keys.items())
        if api_keys is not None:
            write_new(api_keys, keys)
        else:
            click.echo(f"API keys, which are not shown again:\n{keys}", nl=False)
    counts = f"{len(outcome.made)} made, {len(outcome.present)} present, {len(outcome.different)} differ"
    terminal.say(f"imported {file}: {counts}")


async def _work(config: ServerConfig, fixtures: Fixtures) -> Outcome:
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database, passwords = Database(config.database_url), Passwords()
    try:
        await prepare(config, database, passwords)
        return await import_fixtures(database, passwords, fixtures)
    finally:
        passwords.close()
        await database.close()
