"""What functions are handed: frames of either library, connections, the run, in the order of the decorators."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import polars as pl
import pytest

from vantage6.algorithm import Database, InputError, Run, algorithm_client, connection, data, metadata
from vantage6.algorithm.container import Container
from vantage6.algorithm.databases import load
from vantage6.algorithm.mock import MockNetwork


@data(1, library="polars")
def columns(frame: object) -> list[str]:
    assert type(frame).__module__.startswith("polars")
    return list(frame.columns)  # type: ignore[attr-defined]


@connection(1)
def adults(database: Database, age: int) -> int:
    with database.connect() as connected:
        return int(connected.execute("select count(*) from people where age >= ?", (age,)).fetchone()[0])


@connection(1)
def spoil(database: Database) -> None:
    database.connect().execute("delete from people")


@metadata
def who(run: Run) -> list[object]:
    return [run.organization_id, run.participants, list(run.databases)]


@metadata
@connection(1)
@data(1)
@algorithm_client
def everything(run: Run, database: Database, frame: pd.DataFrame, client: object, word: str) -> list[object]:
    return [run.organization_id, database.label, len(frame), client is not None, word]


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.db"
    connected = sqlite3.connect(path)
    connected.execute("create table people (age integer)")
    connected.executemany("insert into people values (?)", [(each,) for each in (15, 30, 60)])
    connected.commit()
    connected.close()
    return path


@pytest.fixture
def network(people: Path) -> Callable[..., MockNetwork]:
    package = ModuleType("made")
    for function in (columns, adults, spoil, who, everything):
        setattr(package, function.__name__, function)
    frame = pd.DataFrame({"id": [1, 2], "age": [30, 40]})
    return lambda **more: MockNetwork(package, [{"people": people, "table": frame}] * 2, **more)


def test_a_frame_of_polars(network: Callable[..., MockNetwork]) -> None:
    assert network().run("columns", databases=["table"]) == ["id", "age"]


def test_a_query_instead_of_the_whole_table(network: Callable[..., MockNetwork]) -> None:
    assert network().run("adults", 18) == 2


@pytest.mark.attack
def test_a_connection_is_for_reading_only(network: Callable[..., MockNetwork], people: Path) -> None:
    [result] = network().results("spoil", organizations=[1])
    assert "OperationalError" in result.message
    assert network().run("adults", 0) == 3


def test_the_run_is_handed_over(network: Callable[..., MockNetwork]) -> None:
    found = [each.value for each in network().results("who", databases=["table"])]
    assert found == [[1, 2, ["table"]], [2, 2, ["table"]]]


def test_all_at_once_in_the_order_of_the_decorators(network: Callable[..., MockNetwork]) -> None:
    assert network().run("everything", "hello", organization=2) == [2, "people", 2, True, "hello"]


def test_what_a_site_does_not_have(network: Callable[..., MockNetwork]) -> None:
    [none, few] = (
        network().results(method, *arguments, organizations=[1], databases=labels)[0]
        for method, arguments, labels in (("columns", (), ["elsewhere"]), ("everything", ("x",), ["table"]))
    )
    assert (none.state, none.reason) == ("refused", "DATABASE_UNKNOWN")
    assert none.message == "this node has no database with the label 'elsewhere'"
    assert "reads 2 databases and the task names 1" in few.message


def test_sites_with_frames_of_polars() -> None:
    @data(1)
    def kind(frame: object) -> str:
        return type(frame).__module__.partition(".")[0]

    package = ModuleType("made")
    package.kind, package.columns = kind, columns  # type: ignore[attr-defined]
    network = MockNetwork(package, [pl.DataFrame({"id": [1], "age": [30]})])
    assert network.run("kind") == "pandas"
    assert network.run("columns") == ["id", "age"]


@pytest.mark.parametrize(("suffix", "text"), [(".csv", "age\n1\n2\n"), (".parquet", None)])
def test_files_in_a_container(tmp_path: Path, suffix: str, text: str | None) -> None:
    path = tmp_path / f"data{suffix}"
    if text is None:
        pd.DataFrame({"age": [1, 2]}).to_parquet(path)
    else:
        path.write_text(text)
    [database] = Container({"DATABASE_URI": f"file://{path}"}).sources(1)
    for library in ("pandas", "polars"):
        assert list(database.frame(library)["age"]) == [1, 2]


def test_a_server_is_for_a_driver_of_the_image() -> None:
    environment = {"DATABASE_URI": "postgresql://x/y", "DATABASE_TYPE": "sql", "DATABASE_SOCKET": "/run/db/s"}
    [database] = Container(environment).sources(1)
    assert (database.uri, database.socket) == ("postgresql://x/y", "/run/db/s")
    with pytest.raises(InputError, match="driver"):
        database.connect()
    with pytest.raises(InputError, match="no file"):
        database.frame()


def test_a_library_that_the_image_lacks() -> None:
    with pytest.raises(InputError, match="not in this image"):
        load("none_such")


@pytest.mark.parametrize("decorator", [data, connection])
def test_none_is_no_number_of_databases(decorator: Callable[[int], object]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        decorator(0)
