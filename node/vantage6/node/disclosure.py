"""May this leave? Rules that see what a run gives out, opened and before it is sealed.

A rule is a class with a name, made from its options in the configuration, that raises `Refused`. The built-in ones
look at values as they were serialized (JSON or Arrow); a site's own are announced under the entry point group
`vantage6.disclosure` and named in the configuration like them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, Protocol, cast

from vantage6.api.v1.delivery_pb2 import Assignment
from vantage6.common.errors import SerializationError
from vantage6.common.serialization import deserialize
from vantage6.common.settings import ConfigError
from vantage6.node.policy import Refused
from vantage6.node.schema import check_schema, mismatch

GROUP = "vantage6.disclosure"
COUNTS = ("count", "counts", "n", "n_records", "records", "size", "frequency", "frequencies")
DEEPEST = 64
TARGETS = frozenset({"output", "subtask"})
"""What a rule may be for."""


@dataclass(frozen=True)
class Released:
    """What is about to leave: an output for the initiator, or the input of a subtask for other organizations."""

    run: Assignment
    data: bytes
    what: str = "output"
    method: str = ""
    """As the input names it; empty where that cannot be told, and then rules for some methods hold, too."""

    @cached_property
    def value(self) -> Any:
        """The value itself; Refused when it cannot be read, for then no rule can vouch for it."""
        try:
            return deserialize(self.data)
        except SerializationError as error:
            message = f"the {self.what} is in no format that the site's rules of disclosure can read"
            raise Refused("OUTPUT_UNREADABLE", message) from error


class Rule(Protocol):
    """What a site's own rule is."""

    name: str

    def check(self, released: Released) -> None:
        """Raises `Refused(rule, message)`; the message leaves the site, so it holds no values."""


class MinimumRecords:
    """No cell may stand for fewer than `minimum` records: every number under a name that means a count, at any depth.

    0 is refused as well unless `zero: true`: that nobody has something is said of everybody. A text under such a name
    is refused too: whoever reads it may take it for a number.
    """

    name = "minimum_records"

    def __init__(self, minimum: int = 5, fields: Sequence[str] = COUNTS, zero: bool = False) -> None:
        self._minimum = _number("minimum", minimum, least=1)
        self._fields = {field.lower() for field in _texts("fields", fields)}
        if not self._fields or not isinstance(zero, bool):
            raise ValueError("'fields' names at least one field, and 'zero' is true or false")
        self._zero = zero

    def check(self, released: Released) -> None:
        for field, number in _counts(released.value, self._fields):
            if isinstance(number, (str, bytes)):
                text = f"a text stands under {field!r}, where this site lets out numbers only"
                raise Refused("MINIMUM_RECORDS", text)
            if number < self._minimum and not (self._zero and number == 0):
                raise Refused(
                    "MINIMUM_RECORDS",
                    f"a value of {field!r} stands for fewer than {self._minimum} records, which this site does not "
                    "let out; ask for larger groups",
                )


class MaximumRows:
    """No list, table or mapping may have more than `rows` entries: a result, not a copy of the records."""

    name = "maximum_rows"

    def __init__(self, rows: int = 1000) -> None:
        self._rows = _number("rows", rows, least=0)

    def check(self, released: Released) -> None:
        for each in _parts(released.value):
            if not isinstance(each, (str, bytes)) and hasattr(each, "__len__") and len(each) > self._rows:
                raise Refused("MAXIMUM_ROWS", f"the {released.what} has more than the {self._rows} rows that may leave")


class Schema:
    """The value must look as described (a part of JSON Schema, see schema.py): what is not described stays here."""

    name = "schema"

    def __init__(self, schema: Mapping[str, Any]) -> None:
        check_schema(schema)
        self._schema = schema

    def check(self, released: Released) -> None:
        why = mismatch(released.value, self._schema)
        if why:
            raise Refused("SCHEMA", f"the {released.what} is not what this site lets out: {why}")


_BUILT_IN: dict[str, Callable[..., Rule]] = {
    MinimumRecords.name: MinimumRecords,
    MaximumRows.name: MaximumRows,
    Schema.name: Schema,
}


@dataclass(frozen=True)
class _Applied:
    rule: Rule
    methods: tuple[re.Pattern[str], ...]
    to: frozenset[str]

    def concerns(self, released: Released) -> bool:
        # A method that nobody knows may be any of them.
        unsure = not self.methods or not released.method
        return (unsure or any(each.fullmatch(released.method) for each in self.methods)) and released.what in self.to


class Disclosure:
    """All rules of a site."""

    def __init__(self, settings: Sequence[Mapping[str, Any]] = ()) -> None:
        self._rules = [_applied(each) for each in settings]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def check(self, released: Released) -> None:
        """Raises the first refusal; a rule that itself fails lets nothing out."""
        for each in self._rules:
            if each.concerns(released):
                try:
                    each.rule.check(released)
                except Refused:
                    raise
                except Exception as error:
                    raise Refused(
                        "DISCLOSURE_FAILED", f"the site's rule {each.rule.name!r} could not judge the {released.what}"
                    ) from error


def _applied(settings: Mapping[str, Any]) -> _Applied:
    options = dict(settings)
    name = str(options.pop("rule", ""))
    try:
        # A word in the wrong form would be a rule that is never applied: nothing is guessed here.
        methods = tuple(re.compile(each) for each in _texts("methods", options.pop("methods", ())))
        to = _targets(options.pop("to", TARGETS))
        return _Applied(_maker(name)(**options), methods, to)
    except ConfigError:
        raise
    except Exception as error:  # A site's own rule may raise anything.
        raise ConfigError(f"policy.disclosure: rule {name!r}: {error}") from error


def _targets(given: Any) -> frozenset[str]:
    to = frozenset(_texts("to", given))
    if not to or to - TARGETS:
        raise ValueError("'to' is a list of output, subtask, or both")
    return to


def _texts(name: str, given: Any) -> list[str]:
    if not isinstance(given, (list, tuple, frozenset)) or not all(isinstance(each, str) for each in given):
        raise ValueError(f"{name!r} is a list of texts")
    return list(given)


def _number(name: str, given: Any, least: int) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < least:
        raise ValueError(f"{name!r} is a whole number of at least {least}")
    return given


def _maker(name: str) -> Callable[..., Rule]:
    if name in _BUILT_IN:  # First: nobody replaces a built-in one by installing a package.
        return _BUILT_IN[name]
    for point in entry_points(group=GROUP, name=name):
        return cast("Callable[..., Rule]", point.load())
    known = sorted({*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))})
    raise ConfigError(f"policy.disclosure: there is no rule {name!r}; there are {', '.join(known)}")


def _counts(value: Any, fields: set[str]) -> Iterator[tuple[str, Any]]:
    """Numbers and texts that stand under one of the names, also in lists and tables under it."""
    for name, held in _named(value):
        if name.lower() in fields:
            parts = list(_parts(held))
            # What has a name of its own below, such as a group's, may be a word, but no number in disguise.
            bare = not any(isinstance(each, Mapping) for each in parts)
            for each in parts:
                number = isinstance(each, (int, float, Decimal)) and not isinstance(each, bool)
                if number or (isinstance(each, (str, bytes)) and (bare or _reads_as_number(each))):
                    yield name, each


def _reads_as_number(text: str | bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _named(value: Any) -> Iterator[tuple[str, Any]]:
    for part in _parts(value):
        if isinstance(part, Mapping):
            yield from ((str(name), held) for name, held in part.items())
        elif hasattr(part, "column_names"):  # A table of Arrow; of pandas below.
            yield from ((str(name), part.column(name).to_pylist()) for name in part.column_names)
        elif hasattr(part, "index") and hasattr(part, "to_dict"):
            yield from _named_in_pandas(part)


def _named_in_pandas(part: Any) -> Iterator[tuple[str, Any]]:
    """Columns of a data frame, what a series is called, and the levels of their indexes."""
    if hasattr(part, "columns"):
        # By place: two columns may have one name, and a name may be one of several levels.
        for place, label in enumerate(part.columns):
            for name in label if isinstance(label, tuple) else (label,):
                yield str(name), part.iloc[:, place].tolist()
        axes = [part.index, part.columns]
    else:
        yield str(part.name), part.tolist()
        axes = [part.index]
    for axis in axes:
        yield from ((str(name), axis.get_level_values(at).tolist()) for at, name in enumerate(axis.names))


def _parts(value: Any, depth: int = 0) -> Iterator[Any]:
    """The value and all that is in it."""
    if depth > DEEPEST:
        raise Refused("OUTPUT_UNREADABLE", f"the output is nested deeper than {DEEPEST} levels")
    yield value
    if isinstance(value, Mapping):
        inner: Sequence[Any] = list(value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = list(value)
    elif hasattr(value, "tolist") and getattr(value, "ndim", 0) > 0:
        inner = value.tolist()
    else:
        return
    for each in inner:
        yield from _parts(each, depth + 1)
