"""Before the first call is heard: schema, default roles, root."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
import structlog

from vantage6.common import background
from vantage6.server.domain.bootstrap import bootstrap
from vantage6.server.domain.secrets import new_secret
from vantage6.server.store.migrate import expected_revision, upgrade

if TYPE_CHECKING:
    from pathlib import Path

    from vantage6.server.config import ServerConfig
    from vantage6.server.domain.secrets import Passwords
    from vantage6.server.store.sql import Database


log = structlog.get_logger(__name__)


async def prepare(config: ServerConfig, database: Database, passwords: Passwords) -> None:
    """Changes nothing on a database that has been started before, except what a newer version adds."""
    had = await upgrade(database.engine)
    if had not in (None, expected_revision()):
        log.warning("schema_upgraded", had=had, has=expected_revision(), message="the database was of an older version")
    given = _password_from(config.root_password_file)
    made = await bootstrap(database, passwords, root_email=config.root_email, root_password=given)
    if made is not None and background.awaited():
        background.note(root_password=made)
    elif made is not None:
        # On the terminal, not in the log: logs are kept, shipped and read by others.
        click.echo(f"First start: user 'root' was made, with the password\n\n    {made}\n\nIt is not shown again.")


def _password_from(path: Path | None) -> str | None:
    """What the file holds; a file that does not exist yet is made, with a generated password."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        password = new_secret()
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(password + "\n")
        return password
