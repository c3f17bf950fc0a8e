"""Databases as released versions have stored them: each comes to today's schema with everything that was in it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from click.testing import CliRunner, Result

from tests.server.test_migrate import differences
from vantage6.common.commands import Code
from vantage6.server.cli import main
from vantage6.server.domain.secrets import Passwords
from vantage6.server.domain.states import ResultState, TaskState
from vantage6.server.store.migrate import FOLDER, expected_revision
from vantage6.server.store.sql import Database

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
STORED = sorted(path.stem.removeprefix("schema_") for path in VECTORS.glob("schema_*.sql"))


def stored(folder: Path, revision: str) -> Path:
    """A server's configuration, on a database with that schema."""
    (folder / "data").mkdir()
    with sqlite3.connect(folder / "data" / "server.db") as database:
        database.executescript((VECTORS / f"schema_{revision}.sql").read_text())
    database.close()
    config = folder / "server.yaml"
    config.write_text("application: {address: 'unix:/nowhere'}\n")
    return config


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [arguments[0], "--config", str(config), *arguments[1:]])


def test_stored_schemas_are_steps_on_the_way_to_todays() -> None:
    every = {script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions()}
    assert set(STORED) <= every, "a step that was released is never taken away"
    missing = every - {expected_revision(), *STORED}
    assert not missing, f"store a database of {missing} in tests/vectors, from before the step that you add"


@pytest.mark.parametrize("revision", STORED)
async def test_a_stored_database_is_brought_up_to_date(tmp_path: Path, revision: str) -> None:
    config = stored(tmp_path, revision)
    looked = await asyncio.to_thread(run, config, "check")
    assert f"it has {revision}, which is older than the {expected_revision()} of this version" in looked.output
    asked = await asyncio.to_thread(run, config, "migrate", "--check")
    assert asked.exit_code == Code.SCHEMA
    done = await asyncio.to_thread(run, config, "migrate", "--json")
    assert done.exit_code == Code.OK, done.output
    assert json.loads(done.stdout) == {
        "ok": True, "before": revision, "after": expected_revision(), "wanted": expected_revision(),
    }  # fmt: skip
    database, passwords = Database(f"sqlite+aiosqlite:///{tmp_path / 'data' / 'server.db'}"), Passwords()
    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    async with database.read() as store:
        ada = await store.accounts.user_by_name("ada")
        assert ada is not None
        assert await passwords.check("another password of a test 7", ada.password_hash)
        tasks = [await store.tasks.get(number) for number in (1, 2)]
        assert [task and (task.name, task.state) for task in tasks] == [
            ("old task", TaskState.COMPLETED), ("open task", TaskState.PENDING),
        ]  # fmt: skip
        results = await store.results.by_ids([1, 2])
        assert [results[number].state for number in (1, 2)] == [ResultState.COMPLETED, ResultState.PENDING]
        contents = await store.results.contents([1, 2], "input", "output")
        assert {key: content.data for key, content in contents.items()} == {
            (1, "output"): b"\x01\x02", (2, "input"): b"\x03\x04",
        }  # fmt: skip
    passwords.close()
    await database.close()


def test_a_newer_schema_is_refused_by_every_command(tmp_path: Path) -> None:
    config = stored(tmp_path, STORED[0])
    path = tmp_path / "data" / "server.db"
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    before = list(database.iterdump())
    database.close()
    for command in (("start", "--foreground"), ("migrate",)):
        refused = run(config, *command)
        assert refused.exit_code == Code.SCHEMA, refused.output
        assert "the database has schema 9999, which is newer than" in refused.output
    looked = run(config, "check")
    assert looked.exit_code == Code.SCHEMA
    assert "install the version that wrote it" in looked.output
    with sqlite3.connect(path) as database:
        assert list(database.iterdump()) == before
    database.close()
