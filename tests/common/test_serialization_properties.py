"""Whatever a table or an array holds comes back as it was, type for type; whatever is broken is an error."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from vantage6.common.errors import SerializationError
from vantage6.common.serialization import deserialize, serialize

pytestmark = pytest.mark.row("M07")

integers = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
moments = st.datetimes(dt.datetime.fromisoformat("1700-01-01"), dt.datetime.fromisoformat("2200-01-01")) | st.none()
ZONES = ("UTC", "Europe/Amsterdam", "America/St_Johns", "Asia/Kathmandu", "+05:30")
Make = Callable[[list[Any]], "pd.Series[Any]"]


def of_kind(kind: str) -> Make:
    return lambda values: pd.Series(values, dtype=kind)


def zoned(zone: str) -> Make:
    return lambda values: pd.Series(
        pd.DatetimeIndex(values, dtype="datetime64[us]").tz_localize("UTC").tz_convert(zone)
    )


KINDS: list[tuple[st.SearchStrategy[Any], Make]] = [
    (integers, of_kind("int64")),
    (st.integers(0, 2**64 - 1), of_kind("uint64")),
    (integers | st.none(), of_kind("Int64")),
    (st.floats(), of_kind("float64")),
    (st.floats(allow_nan=False) | st.none(), of_kind("Float64")),
    (st.booleans(), of_kind("bool")),
    (st.booleans() | st.none(), of_kind("boolean")),
    (texts | st.none(), of_kind("string")),
    (moments, of_kind("datetime64[us]")),
    *((moments, zoned(zone)) for zone in ZONES),
    (st.integers(-(2**53), 2**53), of_kind("timedelta64[us]")),
]
"""What a site's table has, with values missing where its kind knows that."""


@st.composite
def columns(draw: st.DrawFn, size: int) -> pd.Series[Any]:
    values, make = draw(st.sampled_from(KINDS))
    drawn: list[Any] = draw(st.lists(values, min_size=size, max_size=size))
    made: pd.Series[Any] = make(drawn)
    return made


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    size = draw(st.integers(1, 6))
    names = draw(st.lists(texts, min_size=1, max_size=4, unique=True))
    return pd.DataFrame({name: draw(columns(size)) for name in names})


@settings(deadline=None, max_examples=60)
@given(frame=frames())
def test_a_table_comes_back_as_it_was(frame: pd.DataFrame) -> None:
    back = deserialize(serialize(frame, "arrow"))
    assert isinstance(back, pd.DataFrame)
    assert list(back.dtypes) == list(frame.dtypes)
    assert_frame_equal(back, frame, check_exact=True)


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(),
    dtype=st.sampled_from(["i1", "<i8", ">i8", "u8", "f4", "<f8", ">f8", "?", "M8[ns]", "M8[D]", "m8[s]"]),
    shape=st.lists(st.integers(0, 3), max_size=3),
)
def test_an_array_comes_back_to_the_byte(data: st.DataObject, dtype: str, shape: list[int]) -> None:
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=int))
    raw = data.draw(st.binary(min_size=count * kind.itemsize, max_size=count * kind.itemsize))
    if kind.kind == "b":
        raw = bytes(byte & 1 for byte in raw)
    array = np.frombuffer(raw, dtype=kind).reshape(shape)
    back = deserialize(serialize(array, "arrow"))
    assert isinstance(back, np.ndarray)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


@pytest.mark.attack
@settings(deadline=None, max_examples=40)
@given(frame=frames(), damage=st.data())
def test_damage_is_an_error_or_another_value_and_never_a_crash(frame: pd.DataFrame, damage: st.DataObject) -> None:
    good = bytearray(serialize(frame, "arrow"))
    for at in damage.draw(st.lists(st.integers(6, len(good) - 1), min_size=1, max_size=8)):
        good[at] = damage.draw(st.integers(0, 255))
    with contextlib.suppress(SerializationError):
        deserialize(bytes(good[: damage.draw(st.integers(6, len(good)))]))


@settings(deadline=None, max_examples=25)
@given(depth=st.integers(101, 400), shape=st.integers(0, 2**64 - 1))
def test_too_deep_is_an_error_both_ways_whatever_it_is_made_of(depth: int, shape: int) -> None:
    value: object = 1
    for level in range(depth):
        value = [value] if shape >> level % 64 & 1 else {"a": value}
    with pytest.raises(SerializationError, match="nested deeper than 100"):
        serialize(value)
    with pytest.raises(SerializationError, match="nested deeper than 100"):
        deserialize(b"json." + json.dumps(value).encode())
