"""`vserver import` as a command: keys that are shown once are never lost, and a database that is not ours has words."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from vantage6.common.commands import Code
from vantage6.server.admin import importing
from vantage6.server.cli import main
from vantage6.server.store.tables import Row

Importer = Callable[..., Result]
ONE = {"organizations": [{"name": "East"}], "collaborations": [{"name": "c", "participants": ["East"]}]}
TWO = {"organizations": [{"name": "West"}], "collaborations": [{"name": "c", "participants": ["East", "West"]}]}


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Importer:
    monkeypatch.delenv("VANTAGE6_DB_URI", raising=False)

    def run(fixtures: object, *options: str, **settings: str) -> Result:
        configuration, file = tmp_path / "central.yaml", tmp_path / "fixtures.yaml"
        password = str(tmp_path / "root")  # Else it is on standard output.
        configuration.write_text(yaml.safe_dump({"application": {"root_password_file": password, **settings}}))
        file.write_text(yaml.safe_dump(fixtures))
        said = CliRunner().invoke(main, ["import", "--config", str(configuration), str(file), *options])
        assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
        return said

    return run


def nodes(folder: Path) -> int:
    [found] = folder.rglob("*.db")
    with closing(sqlite3.connect(found)) as connection:
        table = Row.metadata.tables["nodes"]
        return int(connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0])


def test_a_second_import_into_the_same_keys_file_makes_nothing(imported: Importer, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    first = imported(ONE, "--api-keys", str(keys))
    assert first.exit_code == 0, first.output
    had = keys.read_text()
    assert had.startswith("East - c Node: ")
    assert had.split(": ")[1].strip() not in first.output
    second = imported(TWO, "--api-keys", str(keys))
    assert (second.exit_code, keys.read_text(), nodes(tmp_path)) == (Code.EXISTS, had, 1)
    assert "nothing was imported" in second.output
    assert imported(TWO, "--api-keys", str(tmp_path / "more")).exit_code == 0
    assert (tmp_path / "more").read_text().startswith("West - c Node: ")
    # Without a new node there is no file.
    assert imported(TWO, "--api-keys", str(tmp_path / "none")).exit_code == 0
    assert not (tmp_path / "none").exists()


def test_json_heeds_the_keys_file(imported: Importer, tmp_path: Path) -> None:
    said = imported(ONE, "--json", "--api-keys", str(tmp_path / "keys"))
    [(name, key)] = yaml.safe_load((tmp_path / "keys").read_text()).items()
    document = json.loads(said.stdout)
    assert (document["api_keys"], document["api_keys_file"]) == ({}, str(tmp_path / "keys"))
    assert name == "East - c Node"
    assert key not in said.output


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_keys_whose_file_cannot_be_written_are_printed(
    imported: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "keys")

    monkeypatch.setattr(importing, "write_new", full)
    said = imported(ONE, *options, "--api-keys", str(tmp_path / "keys"))
    assert said.exit_code == Code.DISK
    assert nodes(tmp_path) == 1
    if options:
        assert json.loads(said.stdout)["api_keys"]["East - c Node"]
    else:
        assert "East - c Node: " in said.stdout


def test_a_database_of_a_newer_version_has_its_code(imported: Importer, tmp_path: Path) -> None:
    assert imported(ONE).exit_code == 0
    [found] = tmp_path.rglob("*.db")
    with closing(sqlite3.connect(found)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    said = imported(TWO)
    assert said.exit_code == Code.SCHEMA
    assert "schema 9999, which is newer" in said.output


def test_a_database_that_is_away_has_its_code(imported: Importer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    said = imported(ONE, uri=f"postgresql+asyncpg://vantage6@127.0.0.1:{port}/vantage6")
    assert said.exit_code == Code.UNREACHABLE
    assert "the database cannot be reached" in said.output


def test_a_file_that_is_not_the_databases_is_named(imported: Importer, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    said = imported(ONE)
    assert said.exit_code == Code.FAILED
    assert f"{tmp_path / 'root'}: {os.strerror(21)}" in said.output.replace("\n", "")
