"""Arguments are held to the function's signature and hints before it runs."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from itertools import chain, combinations, product
from typing import Any, Literal

import pytest

from vantage6.algorithm.arguments import _bound, _plainly, check, fits
from vantage6.algorithm.errors import InputError


def function(client: object, column: str, weights: list[float] | None = None, *, rounds: int = 3) -> None: ...


def several(*names: str, **numbers: float) -> None: ...


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, int, True),
        (True, int, False),
        (1.5, int, False),
        (1, float, True),
        ("a", str, True),
        (None, int | None, True),
        ("a", int | None, False),
        ([1, 2], list[int], True),
        ([1, "a"], list[int], False),
        ([1], tuple[int, ...], True),
        ({"a": 1}, dict[str, int], True),
        ({"a": "b"}, dict[str, int], False),
        ("up", Literal["up", "down"], True),
        ("left", Literal["up", "down"], False),
        (object(), Any, True),
        ([1, 2], set[int], True),
        (["a"], set[int], False),
        (["a"], frozenset[int], False),
        (["a"], AbstractSet[int], False),
        (5, frozenset[int], False),
        ([1], set, True),
        ("ab", set, False),
        ({"a": 1}, dict, True),
        ({"a": 1}, Counter[str], True),
        (None, None, True),
        (0, None, False),
    ],
)
def test_hints(value: object, hint: object, expected: bool) -> None:
    assert fits(value, hint) is expected


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "missing a required argument: 'column'"),
        ((1,), {}, "argument 'column' must be str, not int"),
        (("age",), {"weights": ["a"]}, "argument 'weights'"),
        (("age",), {"rounds": 2.5}, "argument 'rounds' must be int"),
        (("age",), {"client": "mine"}, "unexpected keyword argument 'client'"),
        (("age", None, 3), {}, "too many positional arguments"),
    ],
)
def test_what_does_not_fit_is_named(args: tuple[object, ...], kwargs: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        check(function, 1, args, kwargs)


def test_what_fits_passes() -> None:
    check(function, 1, ("age", [1, 2.5]), {"rounds": 4})
    check(several, 0, ("a", "b"), {"x": 1})


@pytest.mark.parametrize("hint", ["int |", "1 / 0", "str | 'int'", "None.x", "list[int", "Absent", "5"])
def test_a_hint_that_cannot_be_read_fits_everything(hint: str) -> None:
    def strange(count: int, anything: object) -> None: ...

    strange.__annotations__["anything"] = hint
    check(strange, 0, (1, "a"), {})
    with pytest.raises(InputError, match="'count'"):
        check(strange, 0, ("a", "a"), {})


def test_each_of_many_is_checked() -> None:
    with pytest.raises(InputError, match="'names'"):
        check(several, 0, ("a", 1), {})


def _functions() -> list[Callable[..., object]]:
    """One of each shape that a function without `*args` can have, as to kinds and defaults of three parameters."""
    shapes = [
        f"a{x}{slash}, b{y}{star}, c{z}"
        for slash, star in product(("", ", /"), ("", ", *"))
        for x, y, z in product(("", "=1"), repeat=3)
    ]
    found: list[Callable[..., object]] = []
    for shape in shapes:
        with contextlib.suppress(SyntaxError):
            found.append(eval(f"lambda {shape}: None"))
    return found


def test_the_quick_way_agrees_with_inspect() -> None:
    """Whatever is answered without `inspect` is what it would have said."""
    quick = 0
    for function, handed, many in product(_functions(), range(4), range(4)):
        for names in chain.from_iterable(combinations("abcx", length) for length in range(4)):
            args, kwargs = tuple(range(many)), dict.fromkeys(names, 7)
            answer = _plainly(function, handed, args, kwargs)
            try:
                expected = _bound(function, handed, args, kwargs)
            except InputError:
                assert answer is None, (function, handed, args, kwargs)
                continue
            assert answer in (None, expected), (inspect.signature(function), handed, args, kwargs)
            quick += answer is not None
    assert quick > 250


def test_plain_functions_go_the_quick_way() -> None:
    assert _plainly(function, 1, ("age",), {"rounds": 4}) == {"column": ("age",), "rounds": (4,)}
    plain: Callable[..., object] = lambda anything: None  # noqa: E731
    for each in (several, functools.wraps(function)(plain), functools.partial(function, "client")):
        assert _plainly(each, 0, ("age",), {}) is None
