"""The steps of the schema end where the tables are."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from vantage6.server.domain.bootstrap import bootstrap
from vantage6.server.domain.permissions import DEFAULT_ROLES
from vantage6.server.domain.secrets import Passwords
from vantage6.server.store.migrate import FOLDER, SchemaUnknownError, current_revision, expected_revision, upgrade
from vantage6.server.store.sql import Database
from vantage6.server.store.tables import Row

if TYPE_CHECKING:
    from tests.postgres import Postgres


def differences(connection: Connection) -> object:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return compare_metadata(context, Row.metadata)


async def test_the_steps_make_the_tables_that_the_code_has(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'server.db'}")
    assert await current_revision(database.engine) is None
    for _ in range(2):
        await upgrade(database.engine)
        assert await current_revision(database.engine) == expected_revision()
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
        made = (await connection.execute(text("SELECT sql FROM sqlite_master WHERE name = 'tasks'"))).scalar_one()
    assert "AUTOINCREMENT" in made
    await database.close()


@pytest.mark.postgres
async def test_the_steps_make_the_tables_in_postgresql_too(postgres: Postgres) -> None:
    """Two replicas start at the same time on an empty database, and find one root there."""
    url = postgres.create()
    databases = [Database(url), Database(url)]
    passwords = Passwords()
    await asyncio.gather(*(upgrade(database.engine) for database in databases))
    made = await asyncio.gather(*(bootstrap(database, passwords) for database in databases))
    assert [bool(password) for password in made] in ([True, False], [False, True])
    async with databases[0].engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    async with databases[1].read() as store:
        assert await store.accounts.count_users() == 1
        assert set(await store.accounts.default_roles()) == set(DEFAULT_ROLES)
    passwords.close()
    for database in databases:
        await database.close()
    postgres.drop(url)


def test_the_first_step_is_sql_that_postgresql_has_types_for() -> None:
    written = io.StringIO()
    opts = {"as_sql": True, "output_buffer": written}
    context = MigrationContext.configure(dialect_name="postgresql", opts=opts)
    first = ScriptDirectory(str(FOLDER)).get_revision("0001")
    with Operations.context(context):
        first.module.upgrade()
    sql = written.getvalue()
    assert sql.count("CREATE TABLE") == len(Row.metadata.tables)
    for part in ("TIMESTAMP WITH TIME ZONE", "BYTEA", "BIGINT", "id SERIAL", "WHERE state <= 4"):
        assert part in sql


async def test_a_database_from_the_future_is_left_alone(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'server.db'}")
    await upgrade(database.engine)
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaUnknownError, match="9999"):
        await upgrade(database.engine)
    await database.close()


@pytest.mark.row("M05")
@pytest.mark.attack
async def test_root_is_made_once_with_a_password_that_nobody_knows(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'server.db'}")
    await upgrade(database.engine)
    passwords = Passwords()
    made = await bootstrap(database, passwords)
    assert made is not None
    assert len(made) >= 40
    async with database.read() as store:
        root = await store.accounts.user_by_name("root")
        assert root is not None
        assert (root.email, [role.name for role in root.roles]) == ("root@localhost", ["root"])
        assert await passwords.check(made, root.password_hash)
        assert root.password_hash.startswith("$argon2id$")
    assert await bootstrap(database, passwords) is None
    async with database.read() as store:
        assert await store.accounts.count_users() == 1
        again = await store.accounts.user_by_name("root")
        assert again is not None
        assert again.password_hash == root.password_hash
        assert set(await store.accounts.default_roles()) == set(DEFAULT_ROLES)
    passwords.close()
    await database.close()


async def test_default_roles_follow_the_table(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'server.db'}")
    await upgrade(database.engine)
    passwords = Passwords()
    await bootstrap(database, passwords)
    async with database.write() as store:
        viewer = (await store.accounts.default_roles())["viewer"]
        before = sorted((rule.resource, rule.operation, rule.scope) for rule in viewer.rules)
        viewer.rules[0].scope = "global"
        viewer.rules.remove(viewer.rules[1])
    await bootstrap(database, passwords)
    async with database.read() as store:
        viewer = (await store.accounts.default_roles())["viewer"]
        assert sorted((rule.resource, rule.operation, rule.scope) for rule in viewer.rules) == before
    passwords.close()
    await database.close()
