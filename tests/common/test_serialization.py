"""Values come back as they were, or are refused with the place and the reason; no bytes of strangers run anything."""

from __future__ import annotations

import contextlib
import math
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal, assert_series_equal

from vantage6.common import json_format
from vantage6.common.errors import SerializationError
from vantage6.common.serialization import deserialize, formats, register, serialize

pytestmark = pytest.mark.row("M07")

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=30,
)


class TestJson:
    @settings(deadline=None)
    @given(value=plain)
    def test_round_trip(self, value: object) -> None:
        data = serialize(value)
        assert data.startswith(b"json.")
        back = deserialize(data)
        assert back == value
        assert serialize(back) == data

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (np.float64(1.5), "1.5"),
            (np.float32(0.5), "0.5"),
            (np.int64(3), "3"),
            (np.uint8(3), "3"),
            (np.True_, "true"),
            (np.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
            ((1, [2, (3,)]), "[1,[2,[3]]]"),
            ({"é": "\U0001d11e"}, '{"é":"\U0001d11e"}'),
            (pd.Series([1.0, None], index=["x", "y"]), '{"x":1.0,"y":null}'),
            (pd.DataFrame({"a": [1, 2]}), '{"a":{"0":1,"1":2}}'),
            (
                {"frame": pd.DataFrame({"t": pd.to_datetime(["2020-01-02"])})},
                '{"frame":{"t":{"0":"2020-01-02T00:00:00"}}}',
            ),
        ],
    )
    def test_what_numpy_and_pandas_become(self, value: object, text: str) -> None:
        assert serialize(value) == b"json." + text.encode()

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            (math.nan, "value: JSON has no nan"),
            ({"mean": [1.0, math.inf]}, r"value\['mean'\]\[1\]: JSON has no inf"),
            (np.array([np.nan]), r"value\[0\]: JSON has no nan"),
            (2**63, "more than 64 bits"),
            ({1: 2}, r"the key 1 is no text; write str\(key\)"),
            ({"a": {1, 2}}, r"value\['a'\]: it is a set"),
            (b"bytes", "it is a bytes"),
            ("\ud800", "surrogate"),
            (pd.DataFrame([[1, 2]], columns=["a", "a"]), "of one name"),
            (pd.Series([math.inf]), "no inf"),
            (object(), "it is a object"),
        ],
    )
    def test_what_json_cannot_carry(self, value: object, says: str) -> None:
        with pytest.raises(SerializationError, match=says):
            serialize(value)

    def test_depth(self) -> None:
        holds_itself: list[Any] = []
        holds_itself.append(holds_itself)
        deep: list[Any] = []
        for _ in range(json_format.MAX_DEPTH):
            deep = [deep]
        assert deserialize(serialize(deep)) == deep
        for value in (holds_itself, [deep]):
            with pytest.raises(SerializationError, match="nested deeper than 100"):
                serialize(value)
        for levels in (json_format.MAX_DEPTH + 2, 100_000):
            with pytest.raises(SerializationError, match="nested deeper than 100"):
                deserialize(b"json." + b"[" * levels + b"]" * levels)

    def test_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(json_format, "MAX_BYTES", 10)
        with pytest.raises(SerializationError, match="over the limit"):
            serialize("0123456789")
        with pytest.raises(SerializationError, match="over the limit"):
            deserialize(b'json."0123456789"')

    @pytest.mark.attack
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (b"", "not valid"),
            (b"{'a': 1}", "not valid"),
            (b"[1] [2]", "not valid"),
            (b"NaN", "NaN is no number"),
            (b"[-Infinity]", "-Infinity is no number"),
            (b"1e999", "too large"),
            (b"9" * 10_000, "more than 64 bits"),
            (b'{"a": 1, "a": 2}', "twice"),
            (b'"\xff"', "not proper Unicode"),
            (b'"\\ud800"', "not proper Unicode"),
            (b"\xff\xfe1\x000\x00", "not proper Unicode"),
        ],
    )
    def test_what_is_not_read(self, text: bytes, says: str) -> None:
        with pytest.raises(SerializationError, match=says):
            deserialize(b"json." + text)


FRAMES = {
    "plain": pd.DataFrame({"a": [1, 2], "b": [1.5, None], "c": ["x", None], "f": [True, False]}),
    "nullable": pd.DataFrame({"i": pd.array([1, None], dtype="Int64"), "s": pd.array(["a", None], dtype="string")}),
    "times": pd.DataFrame({"d": pd.to_datetime(["2020-01-01", "NaT"]), "t": pd.to_timedelta([3, 4], unit="s")}),
    "zone": pd.DataFrame({"d": pd.to_datetime(["2020-01-01"]).tz_localize("Europe/Amsterdam")}),
    "category": pd.DataFrame({"a": pd.Categorical(["x", "y"], categories=["y", "x", "z"], ordered=True)}),
    "period": pd.DataFrame({"p": pd.period_range("2020", periods=2, freq="M"), "i": pd.interval_range(0, 2)}),
    "objects": pd.DataFrame({"a": pd.Series(["x", None], dtype=object), "n": pd.Series([1, 2], dtype=object)}),
    "index": pd.DataFrame({"a": [1, 2]}, index=pd.Index([5, 6], name="k")),
    "multi": pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["p", "q"])),
    "columns": pd.DataFrame([[1, 2]], columns=[3, 4]),
    "small": pd.DataFrame({"u": np.array([255], dtype="u1"), "h": np.array([1.5], dtype="f2")}),
    "empty": pd.DataFrame(),
    "no rows": pd.DataFrame({"a": pd.Series([], dtype="float64")}),
}


class TestArrow:
    @pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
    def test_frames(self, frame: pd.DataFrame) -> None:
        data = serialize(frame, "arrow")
        assert data.startswith(b"arrow.")
        back = deserialize(data)
        assert isinstance(back, pd.DataFrame)
        assert_frame_equal(back, frame)

    @pytest.mark.parametrize("name", [None, "age", 5])
    def test_series(self, name: str | int | None) -> None:
        series = pd.Series([1.5, None], index=["x", "y"], name=name)
        back = deserialize(serialize(series, "arrow"))
        assert isinstance(back, pd.Series)
        assert_series_equal(back, series)

    @settings(deadline=None, max_examples=50)
    @given(
        values=st.lists(st.floats(width=32), max_size=20),
        columns=st.dictionaries(texts, st.sampled_from(["float64", "float32"]), min_size=1, max_size=3),
    )
    def test_any_numbers(self, values: list[float], columns: dict[str, Any]) -> None:
        frame = pd.DataFrame({name: pd.Series(values, dtype=kind) for name, kind in columns.items()})
        back = deserialize(serialize(frame, "arrow"))
        assert isinstance(back, pd.DataFrame)
        assert_frame_equal(back, frame)
        array = np.array(values)
        again = deserialize(serialize(array, "arrow"))
        assert isinstance(again, np.ndarray)
        assert np.array_equal(again, array, equal_nan=True)

    @pytest.mark.parametrize(
        "array",
        [
            np.arange(24, dtype="<i4").reshape(2, 3, 4),
            np.array([1, 2], dtype=">u8"),
            np.array(5.0),
            np.zeros((0, 3)),
            np.array([True, False]),
            np.array(["a", "b\0c", "", "é\U0001d11e"]),
            np.zeros(0, dtype="U3"),
            np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
            np.array([1, -1], dtype="m8[ps]"),
            np.array([1.5], dtype="f2"),
        ],
        ids=str,
    )
    def test_arrays(self, array: np.ndarray[Any, Any]) -> None:
        back = deserialize(serialize(array, "arrow"))
        assert isinstance(back, np.ndarray)
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.tobytes() == array.tobytes()

    def test_tables_keep_their_metadata(self) -> None:
        table = pa.table({"a": [1, None], "b": [[1], [2, 3]]}).replace_schema_metadata({b"x": b"y"})
        back = deserialize(serialize(table, "arrow"))
        assert isinstance(back, pa.Table)
        assert back.equals(table, check_metadata=True)

    def test_a_stream_of_another_language_is_a_table(self) -> None:
        table, sink = pa.table({"a": [1, 2]}), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        back = deserialize(b"Arrow." + sink.getvalue().to_pybytes())
        assert isinstance(back, pa.Table)
        assert back.equals(table)

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ({"a": 1}, "not dict"),
            (np.array([object()]), "array of object"),
            (np.array([1j]), "array of complex128"),
            (pd.DataFrame({"a": pd.Series([1, "x"], dtype=object)}), "column a"),
            (pd.DataFrame({"a": [{"x": 1}, {"y": 2}]}), "column 'a' holds cells that would change"),
            (pd.DataFrame({"a": [[1], [2, 3]]}), "column 'a' holds cells that would change"),
            (pd.DataFrame(index=range(3)), "rows without columns"),
            (pd.DataFrame([[1, 2]], columns=["a", "a"]), "Duplicate column"),
            (pd.Series([1], name=("a", 1)), "its name"),
        ],
    )
    def test_what_would_not_come_back_is_refused(self, value: object, says: str) -> None:
        with pytest.raises(SerializationError, match=says):
            serialize(value, "arrow")

    @pytest.mark.attack
    def test_damaged_bytes_are_an_error_never_a_crash(self) -> None:
        good = serialize(FRAMES["plain"], "arrow")
        for at in range(6, len(good), 7):
            damaged = bytearray(good)
            damaged[at] ^= 0xFF
            with contextlib.suppress(SerializationError):  # Else it hit padding or a value.
                deserialize(bytes(damaged))
        for size in range(6, len(good) - 20, 50):
            with pytest.raises(SerializationError):
                deserialize(good[:size])

    @pytest.mark.attack
    def test_claims_that_would_eat_the_memory(self) -> None:
        def stream(table: pa.Table) -> bytes:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            return b"arrow." + sink.getvalue().to_pybytes()

        with pytest.raises(SerializationError, match="more cells than its bytes"):
            deserialize(stream(pa.table({"a": pa.nulls(2**28)})))
        about = b'{"kind": "array", "dtype": "<U100000000", "shape": [100]}'
        wide = pa.table({"values": ["x"] * 100}).replace_schema_metadata({b"vantage6": about})
        with pytest.raises(SerializationError, match="do not fit"):
            deserialize(stream(wide))
        about = b'{"kind": "array", "dtype": "O", "shape": [100]}'
        with pytest.raises(SerializationError, match="array of object"):
            deserialize(stream(wide.replace_schema_metadata({b"vantage6": about})))


class Trap:
    """Would end the test run if it were unpickled."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return sys.exit, (3,)


class TestPrefix:
    def test_any_case(self) -> None:
        assert deserialize(b"JSON.[1]") == deserialize(b"Json.[1]") == [1]
        assert serialize([1], "JSON") == b"json.[1]"

    @given(data=st.binary())
    def test_bytes(self, data: bytes) -> None:
        assert deserialize(serialize(data, "bytes")) == data
        assert serialize(bytearray(data), "bytes") == b"bytes." + data

    def test_bytes_carry_bytes_only(self) -> None:
        with pytest.raises(SerializationError, match="not str"):
            serialize("text", "bytes")

    @pytest.mark.parametrize("data", [b"", b"{}", b"json", b"[1.5]"[:2], b"longer_name.x", b"\xe9.x"])
    def test_none(self, data: bytes) -> None:
        with pytest.raises(SerializationError, match=r"do not begin with a format, such as 'json\.'"):
            deserialize(data)

    @pytest.mark.parametrize("data", [b".x", b"xml.<a/>", b'{"a":1.5}', b"in the.dot"])
    def test_unknown(self, data: bytes) -> None:
        with pytest.raises(SerializationError, match="is unknown; there are json, arrow, bytes"):
            deserialize(data)

    @pytest.mark.attack
    @pytest.mark.parametrize("prefix", [b"", b"pickle.", b"PICKLE.", b"json.", b"arrow."])
    def test_a_pickle_is_never_read(self, prefix: bytes) -> None:
        with pytest.raises(SerializationError):
            deserialize(prefix + pickle.dumps(Trap()))
        with pytest.raises(SerializationError, match="pickle"):
            serialize([1], "pickle")

    @given(data=st.binary(max_size=200))
    def test_any_bytes_are_a_value_or_an_error(self, data: bytes) -> None:
        with contextlib.suppress(SerializationError):
            deserialize(data)

    def test_a_new_format(self) -> None:
        assert set(formats()) >= {"json", "arrow", "bytes"}
        for name in ("json", "pickle", "much_too_long", "Up", ""):
            with pytest.raises(ValueError, match=r"taken|no name"):
                register(name, lambda _: b"", lambda data: data)


def test_json_loads_neither_pandas_nor_pyarrow() -> None:
    program = (
        "import sys; from vantage6.common.serialization import *; deserialize(serialize({'a': [1]}));"
        "sys.exit(any(name in sys.modules for name in ('pandas', 'pyarrow', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
