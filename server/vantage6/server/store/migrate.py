"""Brings a database to the schema that this version of the server works with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

FOLDER = Path(__file__).parent / "migrations"


class SchemaUnknownError(Exception):
    """The database was written by a newer version, and its data would be damaged by this one."""


def expected_revision() -> str:
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def known_revisions() -> set[str]:
    """Of this version and of all before it."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


async def current_revision(engine: AsyncEngine) -> str | None:
    async with engine.connect() as connection:
        return await connection.run_sync(_current)


async def upgrade(engine: AsyncEngine) -> str | None:
    """Runs the missing steps in one transaction, and says which schema there was; raises SchemaUnknownError for a
    database from the future."""
    current = await current_revision(engine)
    if current is not None and current not in known_revisions():
        raise SchemaUnknownError(
            f"the database has schema {current}, which is newer than the {expected_revision()} of this version: "
            "install the version that wrote it, or a newer one; nothing was changed"
        )
    if current == expected_revision():
        return current
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade)
    return current


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Replicas that start together: the second waits, and then finds nothing left to do.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7661006)")
    command.upgrade(_config(connection), "head")
