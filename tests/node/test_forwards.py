"""A database server of the site: the run's socket leads to it and to nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from vantage6.common.errors import InvalidArgument
from vantage6.node.config import Database
from vantage6.node.forwards import Forwards, plan
from vantage6.node.workspace import Workspace

INSIDE = "/run/vantage6"


@pytest.mark.parametrize(
    ("isolation", "uri", "shown"),
    [
        ("network", "postgresql://u:p@db.site:5433/x", "postgresql://u:p@db.site:5433/x"),
        ("network", "postgresql://u:p@10.1.2.3/x", "postgresql://u:p@127.0.0.2/x"),
        ("network", "mysql://u:p@10.1.2.3:99/x?a=1", "mysql://u:p@127.0.0.2:99/x?a=1"),
        ("socket", "postgresql://u:p@db.site/x", "postgresql://u:p@/x?host=%2Frun%2Fvantage6%2Fdb0&port=5432"),
        ("socket", "mysql://u:p@db.site/x", "mysql://u:p@db.site/x"),
    ],
)
def test_what_the_run_is_told(isolation: str, uri: str, shown: str) -> None:
    ways = plan({"a": Database(uri=uri, type="sql")}, Path("/x"), INSIDE, isolation)  # type: ignore[arg-type]
    assert ways["a"].uri == shown


def test_which_databases_have_one() -> None:
    databases = {
        "file": Database(uri="/data/a.csv"),
        "lite": Database(uri="sqlite:///data/a.db", type="sql"),
        "other": Database(uri="postgresql://h/x", type="other"),
        "one": Database(uri="postgresql://h/x", type="sql"),
        "same": Database(uri="mysql://h/x", type="sql"),
        "two": Database(uri="mysql://i/x", type="sql"),
    }
    ways = plan(databases, Path("/x"), INSIDE, "network")
    assert {label: (way.forward.address, way.port) for label, way in ways.items()} == {
        "one": ("127.0.0.2", 5432), "same": ("127.0.0.2", 3306), "two": ("127.0.0.3", 3306),
    }  # fmt: skip
    with pytest.raises(InvalidArgument):
        plan({"a": Database(uri="strange://h/x", type="sql")}, Path("/x"), INSIDE, "network")


async def test_the_way_there_and_back(short_path: Path) -> None:
    async def database(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read() + b" and rows")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(database, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    workspace = Workspace(short_path, "north")
    databases = {"sql": Database(uri=f"postgresql://u:p@127.0.0.1:{port}/x", type="sql")}
    files = workspace.prepare(1, 1, b"", "", databases, run_id=1)
    assert files.environment["SQL_DATABASE_SOCKET"] == f"/run/vantage6/db0/.s.PGSQL.{port}"
    assert files.environment["DATABASE_TYPE"] == "sql"
    forwards = Forwards(files.ways)
    await forwards.start()
    path = files.run_dir / "socket" / "db0" / f".s.PGSQL.{port}"
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"select")
    writer.write_eof()
    assert await reader.read() == b"select and rows"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    # The server is away: the run is told at once, and the next attempt is a new one; the log has it once.
    with capture_logs() as said:
        for _ in range(3):
            reader, writer = await asyncio.open_unix_connection(path)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
            await writer.wait_closed()
    assert [each["event"] for each in said if each["log_level"] == "warning"] == ["database_not_reached"]
    await forwards.stop()
