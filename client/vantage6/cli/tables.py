"""What organizations returned as data frames, tables and arrays: whole, in JSON or in files that spreadsheets read."""

from __future__ import annotations

import base64
import datetime as dt
import math
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from vantage6.common.commands import Code, Stop

if TYPE_CHECKING:
    import pyarrow as pa

    from vantage6.client import TaskResult

SUFFIXES = (".csv", ".parquet", ".arrow")
"""Of files that hold tables; every other one gets JSON."""
ORGANIZATION = "organization"


def plain(value: object) -> object:
    """The value in JSON's own types, all of it: tables as a list with one object per row. Stop if there is no way."""
    table = _table(value)
    if table is not None:
        return [{name: _cell(cell) for name, cell in row.items()} for row in table.to_pylist()]
    return _cell(value)


def _cell(value: Any) -> object:  # noqa: PLR0911 - a table
    """What JSON has no word for can be read back: times in RFC 3339, durations in seconds, bytes in base64."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isinf(value):
                raise Stop(f"JSON has no {value}: write it to a file that ends in {', '.join(SUFFIXES)}")
            return None if math.isnan(value) else value
        case Mapping():
            return {str(name): _cell(each) for name, each in value.items()}
        case list() | tuple():
            return [_cell(each) for each in value]
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
    return _numbers(value)


def _numbers(value: Any) -> object:
    numpy: Any = sys.modules.get("numpy")
    if numpy and isinstance(value, numpy.ndarray | numpy.generic):
        if value.dtype.kind in "biufU":
            return _cell(value.tolist())
        if value.dtype.kind in "mM" and value.ndim:
            return [_numbers(each) for each in value]
        if value.dtype.kind in "mM":  # nanoseconds are not rounded to what Python's own times have
            return None if numpy.isnat(value) else str(value)
    raise Stop(f"there is no way to write a {type(value).__module__}.{type(value).__name__} as JSON")


def _table(value: object) -> pa.Table | None:
    """A data frame, series or Arrow table, with row labels as columns unless they are mere numbers of the rows."""
    pandas: Any = sys.modules.get("pandas")
    arrow: Any = sys.modules.get("pyarrow")
    if not arrow:  # nothing of the kind arrives without it
        return None
    table: Any = value
    if pandas and isinstance(table, pandas.Series):
        table = table.to_frame("value" if table.name is None else table.name)
    try:
        if pandas and isinstance(table, pandas.DataFrame):
            counted = isinstance(table.index, pandas.RangeIndex) and table.index.name is None
            table = arrow.Table.from_pandas(table if counted else table.reset_index(), preserve_index=False)
    except (arrow.ArrowException, TypeError, ValueError) as error:
        raise Stop(f"the data frame cannot be written: {error}") from error
    if not isinstance(table, arrow.Table):
        return None
    found: pa.Table = table
    if len(set(found.column_names)) < len(found.column_names):
        raise Stop("the table has two columns of one name; --folder writes it as it came")
    return found


def content(results: Sequence[TaskResult], suffix: str) -> bytes:
    """A file with the rows of all organizations that delivered, the organization's name in the first column."""
    tables = [_named(each) for each in results if each.completed]
    if not tables:
        raise Stop("no organization returned a table")
    import pyarrow as pa  # noqa: PLC0415 - there by now
    from pyarrow import csv, parquet  # noqa: PLC0415

    sink = pa.BufferOutputStream()
    try:
        whole = pa.concat_tables(tables, promote_options="permissive")
        if suffix == ".csv":
            csv.write_csv(whole, sink)
        elif suffix == ".parquet":
            parquet.write_table(whole, sink)
        else:
            with pa.ipc.new_file(sink, whole.schema) as file:
                file.write_table(whole)
    except pa.ArrowException as error:
        raise Stop(f"the tables do not fit into one {suffix} file: {error}; JSON takes them") from error
    return sink.getvalue().to_pybytes()


def _named(result: TaskResult) -> pa.Table:
    table = _table(result.value)
    if table is None:
        kind = type(result.value).__name__
        raise Stop(f"{result.organization_name} returned no table but a {kind}: write it as .json", Code.USAGE)
    if ORGANIZATION in table.column_names:
        raise Stop(f"the table has a column {ORGANIZATION!r} of its own: write it as .json", Code.USAGE)
    import pyarrow as pa  # noqa: PLC0415 - there by now

    return table.replace_schema_metadata(None).add_column(
        0, ORGANIZATION, pa.array([result.organization_name] * len(table), pa.string())
    )
