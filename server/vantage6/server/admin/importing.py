"""`vserver import`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import rich_click as click

from vantage6.common import terminal
from vantage6.common.commands import Code, Stop, json_option, show, tell, told
from vantage6.common.contexts import Context
from vantage6.common.settings import load_yaml, validate_at
from vantage6.common.wizard import write_new
from vantage6.server.admin.options import database_in_words, of_server
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
    if api_keys is not None and (api_keys.exists() or api_keys.is_symlink()):
        raise Stop(f"{api_keys} exists and was left alone; nothing was imported: name a new file", Code.EXISTS)
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with database_in_words():
        outcome = asyncio.run(_work(config, fixtures))
    written = _keep(outcome.api_keys, api_keys) if api_keys is not None and outcome.api_keys else {}
    if as_json:
        terminal.write_json({**vars(outcome), **written})
        return
    for text in outcome.made:
        terminal.line("made", text)
    for text in outcome.present:
        terminal.line("present", text)
    for text in outcome.different:
        terminal.line("differs", text)
    if outcome.api_keys and not written:
        click.echo(_shown(outcome.api_keys), nl=False)
    counts = f"{len(outcome.made)} made, {len(outcome.present)} present, {len(outcome.different)} differ"
    terminal.say(f"imported {file}: {counts}")


def _keep(keys: dict[str, str], file: Path) -> dict[str, Any]:
    """Writes them, and gives what JSON says instead of them."""
    try:
        write_new(file, "".join(f"{name}: {key}\n" for name, key in keys.items()))
    except (Stop, OSError) as error:
        # Their nodes are made: keys that nobody gets to see are lost.
        tell(api_keys=keys)
        show(_shown(keys), nl=False)
        text, code = told(error)
        raise Stop(f"all was imported, but the API keys are not in {file}: {text}; they were printed", code) from error
    return {"api_keys": {}, "api_keys_file": str(file)}


def _shown(keys: dict[str, str]) -> str:
    return "API keys, which are not shown again:\n" + "".join(f"{name}: {key}\n" for name, key in keys.items())


async def _work(config: ServerConfig, fixtures: Fixtures) -> Outcome:
    database, passwords = Database(config.database_url), Passwords()
    try:
        await prepare(config, database, passwords)
        return await import_fixtures(database, passwords, fixtures)
    finally:
        passwords.close()
        await database.close()
