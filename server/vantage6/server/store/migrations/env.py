"""Alembic's entry. The connection comes from store/migrate.py; the command line is for writing new steps only."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, create_engine, pool

from vantage6.server.store.tables import Row


def run(connection: Connection) -> None:
    # SQLite cannot alter most things in place: batch mode copies the table.
    batch = connection.dialect.name == "sqlite"
    context.configure(connection=connection, target_metadata=Row.metadata, render_as_batch=batch, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with create_engine(context.config.get_main_option("sqlalchemy.url", ""), poolclass=pool.NullPool).connect() as own:
        run(own)
