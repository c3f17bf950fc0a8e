"""The `json` format: RFC 8259 in UTF-8, and strictly, so that every language reads the same value.

Written are None, booleans, whole numbers of 64 bits, finite numbers, text, lists and tuples (read as lists), and
dictionaries with text keys. numpy scalars and arrays become numbers and lists. JSON has no NaN and no infinity: they
are refused, not replaced. Only in pandas' data frames and series, which mark a missing value so, it becomes null, as
in 1.x: `{column: {index: value}}`. The `arrow` format carries a data frame exactly.
"""

from __future__ import annotations

import json
import math
import re
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from vantage6.common.errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BYTES: Final = 256 * 1024 * 1024
MAX_DEPTH: Final = 100
_INT64: Final = range(-(2**63), 2**63)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class _Refused(Exception):  # internal: becomes a SerializationError that says where
    """What JSON cannot carry; the way to it is noted from the inside outwards, so that good values cost nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.way: list[object] = []


def write(value: object) -> bytes:
    """Text without spaces; keys in their order."""
    try:
        plain = _plain(value, 0)
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        data = text.encode()
    except _Refused as error:
        where = "".join(f"[{step!r}]" for step in error.way[:-9:-1])
        raise SerializationError(f"JSON cannot carry value{where}: {error}.") from None
    except UnicodeEncodeError as error:
        raise SerializationError(
            "JSON cannot carry a text with half of a surrogate pair, which is no character."
        ) from error
    _check_size(data)
    return data


def read(data: bytes) -> object:
    """The value; a key that occurs twice, a number without a value or a depth over `MAX_DEPTH` is an error."""
    _check_size(data)
    try:
        value: object = json.loads(
            data.decode(), parse_constant=_no_constant, parse_float=_finite, parse_int=_int64, object_pairs_hook=_unique
        )
        if data.count(b"[") + data.count(b"{") > MAX_DEPTH or _SURROGATE.search(data):
            _check_read(value)
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise SerializationError(f"The JSON is not proper Unicode: {error.reason}.") from error
    except RecursionError as error:
        raise SerializationError(f"The JSON is nested deeper than {MAX_DEPTH}.") from error
    except ValueError as error:
        raise SerializationError(f"The JSON is not valid: {error}.") from error
    return value


def _plain(value: object, depth: int) -> object:  # noqa: PLR0911 - a table
    """The same in Python's own types."""
    if depth > MAX_DEPTH:
        raise _Refused(f"it is nested deeper than {MAX_DEPTH}, or holds itself")
    match value:
        case None | bool():
            return value  # Before int, which a bool is too.
        case str():
            return str(value)
        case int():
            return _whole(int(value))
        case float():
            return _number(float(value))
        case dict():
            return _items(value.items(), depth)
        case list() | tuple():
            return [item for _, item in _walk(enumerate(value), depth)]
        case _:
            return _foreign(value, depth)


def _walk(items: Iterable[tuple[object, object]], depth: int) -> Iterator[tuple[object, object]]:
    for key, item in items:
        try:
            yield key, _plain(item, depth + 1)
        except _Refused as error:
            error.way.append(key)
            raise


def _items(items: Iterable[tuple[object, object]], depth: int) -> dict[str, object]:
    plain: dict[str, object] = {}
    for key, item in _walk(items, depth):
        if not isinstance(key, str):
            raise _Refused(f"the key {key!r} is no text; write str(key)")
        plain[str(key)] = item
    return plain


def _foreign(value: Any, depth: int) -> object:
    """numpy and pandas, without importing them: a value of theirs shows that they are imported."""
    numpy: Any = sys.modules.get("numpy")
    pandas: Any = sys.modules.get("pandas")
    if numpy and isinstance(value, numpy.bool_ | numpy.integer | numpy.floating):
        return _plain(value.item(), depth)
    if numpy and isinstance(value, numpy.ndarray) and value.dtype.kind in "biufU":
        return _plain(value.tolist(), depth)
    if pandas and isinstance(value, pandas.DataFrame):
        labels = _labels(value.columns)
        columns = ((label, value.iloc[:, place]) for place, label in enumerate(labels))
        return _items(columns, depth)
    if pandas and isinstance(value, pandas.Series):
        return _items(zip(_labels(value.index), _cells(value), strict=True), depth)
    raise _Refused(f"it is a {type(value).__name__}; write it as text, number, list or dictionary")


def _labels(index: Iterable[object]) -> list[str]:
    labels = [str(label) for label in index]
    if len(set(labels)) != len(labels):
        raise _Refused("it has two rows or columns of one name; call reset_index, or rename one")
    return labels


def _cells(series: Any) -> Iterator[object]:
    for cell, missing in zip(series.to_list(), series.isna(), strict=True):
        moment = getattr(cell, "isoformat", None)
        yield None if missing else moment() if moment else cell


def _whole(value: int) -> int:
    if value not in _INT64:
        raise _Refused("the whole number has more than 64 bits; write it as text")
    return value


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise _Refused(f"JSON has no {value}; write None, or use the arrow format")
    return value


def _check_size(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        limit = f"{MAX_BYTES >> 20} MiB"
        raise SerializationError(f"JSON of {len(data)} bytes is over the limit of {limit}: use the arrow format.")


def _check_read(value: object) -> None:
    """Level by level, so that no depth is too much for the check itself."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [item for container in level for item in _inside(container)]
        if not level:
            return
    raise SerializationError(f"The JSON is nested deeper than {MAX_DEPTH}.")


def _inside(value: object) -> Iterable[object]:
    match value:
        case str():
            value.encode()
        case list():
            return value
        case dict():
            return (*value.keys(), *value.values())
    return ()


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _int64(text: str) -> int:
    if len(text) > 20 or (number := int(text)) not in _INT64:
        raise ValueError(f"the whole number {text[:40]} has more than 64 bits")
    return number
