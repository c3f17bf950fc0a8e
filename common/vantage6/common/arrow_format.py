"""The `arrow` format: an Arrow IPC stream, for tables, data frames, series and arrays that must come back exactly.

Any language's Arrow library reads it. What the value was in Python stands in the schema's metadata under `vantage6`, as
JSON: `{"kind": "table" | "frame" | "series" | "array", …}`; a stream without it, say from R, is read as a table.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

from vantage6.common.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    import pandas as pd
    import pyarrow as pa

_KEY: Final = b"vantage6"
_VALUES: Final = "values"
_SMALL: Final = 2**24


def write(value: object) -> bytes:
    """The stream, uncompressed, since not every language's library can decompress it."""
    import pyarrow as pa  # noqa: PLC0415 - takes long, and most values are JSON

    try:
        table, about = _table(value)
        metadata = {**(table.schema.metadata or {}), _KEY: json.dumps(about).encode()}
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema.with_metadata(metadata)) as stream:
            stream.write_table(table.replace_schema_metadata(metadata))
        return sink.getvalue().to_pybytes()
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"Arrow cannot carry this {type(value).__name__}: {error}.") from error


def read(data: bytes) -> object:
    """The value; every offset in the bytes is checked, since they may be a stranger's."""
    import pyarrow as pa  # noqa: PLC0415

    try:
        with pa.ipc.open_stream(data) as stream:
            table = stream.read_all()
        _check(table, len(data))
        metadata = dict(table.schema.metadata or {})
        about = json.loads(metadata.pop(_KEY, b'{"kind": "table"}'))
        return _value(table.replace_schema_metadata(metadata or None), about)
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"These are not the bytes of an Arrow value: {error}.") from error


def _check(table: pa.Table, size: int) -> None:
    if table.num_rows * table.num_columns > max(8 * size, _SMALL):
        raise ValueError("it claims more cells than its bytes can hold")
    table.validate(full=True)


def _table(value: Any) -> tuple[pa.Table, dict[str, Any]]:
    import pyarrow as pa  # noqa: PLC0415

    numpy: Any = sys.modules.get("numpy")
    pandas: Any = sys.modules.get("pandas")
    if isinstance(value, pa.Table):
        return value, {"kind": "table"}
    if pandas and isinstance(value, pandas.DataFrame):
        table, objects = _frame_table(value)
        return table, {"kind": "frame", "objects": objects}
    if pandas and isinstance(value, pandas.Series):
        if not isinstance(value.name, str | int | None):
            raise ValueError(f"its name {value.name!r} is neither text nor a whole number")
        table, objects = _frame_table(value.to_frame(_VALUES))
        return table, {"kind": "series", "name": value.name, "objects": objects}
    if numpy and isinstance(value, numpy.ndarray):
        return _array_table(value)
    raise SerializationError(
        f"Format 'arrow' carries data frames, series, numpy arrays and pyarrow tables, not {type(value).__name__}."
    )


def _frame_table(frame: pd.DataFrame) -> tuple[pa.Table, list[str]]:
    """The table, and the columns of dtype `object`; refuses what would come back changed."""
    import pyarrow as pa  # noqa: PLC0415

    table = pa.Table.from_pandas(frame)
    objects: list[Any] = [name for name, kind in frame.dtypes.items() if kind.kind == "O" and kind.name == "object"]
    back = _frame(table.slice(0, 0), ())
    if frame.attrs or (len(frame) and not len(frame.columns)):
        raise ValueError("attrs, and rows without columns, are not carried")
    if not back.columns.equals(frame.columns) or back.columns.dtype != frame.columns.dtype:
        raise ValueError("its column labels would change; use texts")
    if back.index.dtype != frame.index.dtype:
        raise ValueError("its row labels would change; give them one type")
    for name in objects:
        copy = table.column([*frame.columns].index(name)).to_pandas()
        if not _same(frame[name], _as_object(copy)):
            raise ValueError(f"column {name!r} holds cells that would change; give it one type, or use json")
    return table, [str(name) for name in objects]


def _same(column: pd.Series[Any], back: pd.Series[Any]) -> bool:
    pairs = zip(column.isna(), column, back.isna(), back, strict=True)
    return all(gone if lost else type(cell) is type(copy) and cell == copy for lost, cell, gone, copy in pairs)


def _array_table(array: np.ndarray[Any, Any]) -> tuple[pa.Table, dict[str, Any]]:
    import pyarrow as pa  # noqa: PLC0415

    if array.dtype.kind not in "biufUmM":
        raise ValueError(f"an array of {array.dtype} has no plain numbers, texts or times")
    native = array.astype(array.dtype.newbyteorder("="), copy=False).reshape(-1)
    if array.dtype.kind in "mM":  # Times in every unit numpy has, NaT included: as whole numbers.
        native = native.view("int64")
    cells = native.tolist() if array.dtype.kind == "U" else native  # pyarrow ends numpy's texts at a NUL.
    table = pa.table({_VALUES: pa.array(cells, type=pa.string() if array.dtype.kind == "U" else None)})
    return table, {"kind": "array", "dtype": array.dtype.str, "shape": array.shape}


def _value(table: pa.Table, about: dict[str, Any]) -> object:
    match about["kind"]:
        case "table":
            return table
        case "frame":
            return _frame(table, about.get("objects", ()))
        case "series":
            return _frame(table, about.get("objects", ()))[_VALUES].rename(about["name"])
        case "array":
            return _array(table, about)
    raise ValueError(f"kind {about['kind']!r} is unknown")


def _frame(table: pa.Table, objects: Collection[object]) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    for name in frame.columns:
        if objects and str(name) in objects:
            frame[name] = _as_object(frame[name])
    return frame


def _as_object(column: pd.Series[Any]) -> pd.Series[Any]:
    """Python's own values and None, whatever dtype pandas chose for them."""
    return column.astype(object).where(column.notna(), None)


def _array(table: pa.Table, about: dict[str, Any]) -> np.ndarray[Any, Any]:
    import numpy as np  # noqa: PLC0415

    dtype = np.dtype(str(about["dtype"]))
    if dtype.kind not in "biufUmM":
        raise ValueError(f"an array of {dtype} is not read")
    column = table.column(_VALUES)
    if column.null_count or (dtype.kind == "U" and dtype.itemsize * len(column) > 64 * _SMALL):
        raise ValueError("its cells do not fit the array that it claims to be")
    values = column.to_numpy()
    native = dtype.newbyteorder("=")
    flat = values.astype("int64").view(native) if dtype.kind in "mM" else values.astype(native)
    return flat.astype(dtype, copy=False).reshape([int(size) for size in about["shape"]])
