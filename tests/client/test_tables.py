"""Tables and arrays that organizations returned are written whole, or not at all."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from tests.client.fakes import COLLABORATION, NORTH, SOUTH, Fake
from tests.client.test_cli import _environment, v6
from vantage6.cli import output, tables
from vantage6.client import AsyncClient, ResultState, TaskResult
from vantage6.common.commands import Stop

__all__ = ["_environment"]
ROWS = 1000
FRAME = pd.DataFrame({"age": range(ROWS), "name": [f"é{each}" for each in range(ROWS)]})


@pytest.fixture
async def task_id(client: AsyncClient, fake: Fake) -> int:
    task = await client.task.create(COLLABORATION, [NORTH, SOUTH], "image", {"method": "go"})
    fake.complete(1, FRAME, kind="arrow")
    fake.complete(2, pa.table({"age": [7], "name": ["x"]}), kind="arrow")
    fake.finish(task.id)
    return task.id


@pytest.mark.row("M26")
async def test_every_row_is_written(task_id: int, tmp_path: Path) -> None:
    wanted = [FRAME.to_dict("records"), [{"age": 7, "name": "x"}]]
    done = await v6("task", "result", str(task_id))
    assert done.exit_code == 0
    assert [each["value"] for each in json.loads(done.stdout)] == wanted
    await v6("task", "result", str(task_id), "--output", str(tmp_path / "out.json"))
    assert [each["value"] for each in json.loads((tmp_path / "out.json").read_text())] == wanted


async def test_tables_go_into_files_of_tables(task_id: int, tmp_path: Path) -> None:
    wanted = pd.concat([FRAME, pd.DataFrame({"age": [7], "name": ["x"]})], ignore_index=True)
    wanted.insert(0, "organization", ["Hospital North"] * ROWS + ["Hospital South"])
    readers: dict[str, Any] = {"csv": pd.read_csv, "parquet": parquet.read_table, "ARROW": feather.read_table}
    for suffix, read in readers.items():
        done = await v6("task", "result", str(task_id), "--output", str(tmp_path / f"out.{suffix}"))
        assert done.exit_code == 0, done.output
        found = read(tmp_path / f"out.{suffix}")
        found = found.to_pandas() if isinstance(found, pa.Table) else found
        pd.testing.assert_frame_equal(found, wanted, check_dtype=False)


async def test_what_is_no_table_is_not_made_one(client: AsyncClient, fake: Fake, tmp_path: Path) -> None:
    await client.task.create(COLLABORATION, [NORTH, SOUTH], "image", {"method": "go"})
    fake.complete(1, {"mean": 41})
    fake.finish(1)
    done = await v6("task", "result", "1", "--output", str(tmp_path / "out.csv"))
    assert (done.exit_code, "Hospital North returned no table but a dict" in done.stderr) == (2, True)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (pd.DataFrame({"x": [1.5, float("nan")]}, index=pd.Index(["a", "b"], name="site")),
         [{"site": "a", "x": 1.5}, {"site": "b", "x": None}]),
        (pd.Series([1, 2], name="n"), [{"n": 1}, {"n": 2}]),
        (pa.table({"b": [b"\0"], "t": [dt.datetime(2026, 1, 2, tzinfo=dt.UTC)]}),
         [{"b": "AA==", "t": "2026-01-02T00:00:00+00:00"}]),
        (pa.table({"d": [Decimal("1.10")], "s": [dt.timedelta(days=1)]}), [{"d": "1.10", "s": 86400.0}]),
        (pa.table({"x": [[1.0, float("nan")], None]}), [{"x": [1.0, None]}, {"x": None}]),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.arange(5000), list(range(5000))),
        (np.array(["2026-01-02", "NaT"], "datetime64[D]"), ["2026-01-02", None]),
        (np.float32(0.5), 0.5),
        (b"\0", "AA=="),
    ],
)  # fmt: skip
def test_values_become_json(value: object, wanted: object, tmp_path: Path) -> None:
    output.write({"value": value}, tmp_path / "x")
    assert json.loads((tmp_path / "x").read_text()) == {"value": wanted}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object(), "no way to write a builtins.object"),
        (pa.table({"x": [float("inf")]}), "JSON has no inf"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"]), "two columns of one name"),
        (pd.DataFrame({"x": [1j]}), "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_said(value: object, text: str, tmp_path: Path) -> None:
    with pytest.raises(Stop, match=text):
        output.write([value], tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ([{"organization": [1]}], "of its own"), ([{"x": [1]}, {"x": ["a"]}], "do not fit"),
        ([{"x": [[1]]}], "do not fit"), ([], "no organization"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_told(columns: list[dict[str, list[Any]]], text: str) -> None:
    results = [TaskResult(1, "North", ResultState.COMPLETED, "", "", pa.table(dict(each))) for each in columns]
    with pytest.raises(Stop, match=text):
        tables.content(results, ".csv")
