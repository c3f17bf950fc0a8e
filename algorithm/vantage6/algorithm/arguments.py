"""Checks a task's arguments against a function's signature before it runs.

`inspect` takes longer to load than all the rest of the way to an author's function, so it is asked only about what is
not plain: `*args`, decorated functions, and arguments that do not fit.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from vantage6.algorithm.errors import InputError

_MANY = 0x04 | 0x08
"""Flags of code that takes `*args` or `**kwargs`."""


def check(function: Callable[..., object], handed: int, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    """Raises InputError unless the arguments fit; the first `handed` parameters are not the task's to give."""
    given = _plainly(function, handed, args, kwargs)
    if given is None:
        given = _bound(function, handed, args, kwargs)
    hints = _hints(function)
    for name, values in given.items():
        for each in values if name in hints else ():
            if not fits(each, hints[name]):
                raise InputError(
                    f"{function.__name__}: argument {name!r} must be {_named(hints[name])}, not {type(each).__name__}"
                )


def _plainly(
    function: Callable[..., object], handed: int, args: Sequence[object], kwargs: Mapping[str, object]
) -> dict[str, Sequence[object]] | None:
    """The values by parameter of a plain function; None where that is not so simple."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & _MANY or hasattr(function, "__wrapped__") or hasattr(function, "__signature__"):
        return None
    places = code.co_varnames[handed : code.co_argcount]
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    free = {*places[len(args) :], *named}.difference(code.co_varnames[: code.co_posonlyargcount])
    if handed > code.co_argcount or len(args) > len(places) or not free.issuperset(kwargs):
        return None
    given = {**dict(zip(places, args, strict=False)), **kwargs}
    needed = code.co_varnames[handed : code.co_argcount - len(function.__defaults__ or ())]
    if not given.keys() >= {*needed, *named}.difference(function.__kwdefaults__ or ()):
        return None
    return {name: (value,) for name, value in given.items()}


def _bound(
    function: Callable[..., object], handed: int, args: Sequence[object], kwargs: Mapping[str, object]
) -> dict[str, Sequence[object]]:
    """As `_plainly` for every function. `*args` and `**kwargs` have one hint for each of their values."""
    import inspect  # noqa: PLC0415 - slow to load

    signature = inspect.signature(function)
    own = list(signature.parameters.values())[handed:]
    try:
        bound = signature.replace(parameters=own).bind(*args, **kwargs).arguments
    except TypeError as error:
        raise InputError(f"{function.__name__}{signature.replace(parameters=own)}: {error}") from None
    given: dict[str, Sequence[object]] = {name: (value,) for name, value in bound.items()}
    for each in own:
        if each.kind is each.VAR_POSITIONAL:
            given[each.name] = bound.get(each.name, ())
        elif each.kind is each.VAR_KEYWORD:
            given[each.name] = list(bound.get(each.name, {}).values())
    return given


def _named(hint: object) -> str:
    import inspect  # noqa: PLC0415 - slow to load

    return inspect.formatannotation(hint)


def _hints(function: Callable[..., object]) -> dict[str, object]:
    """The hints one by one: a name that only type checkers see takes away its own hint and no other."""
    found: dict[str, object] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        single = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found |= typing.get_type_hints(single, globalns=getattr(function, "__globals__", {}))
        except Exception:  # noqa: BLE001 - an author's hint may raise anything: it is not understood, so all fits it
            found.pop(name, None)
    return found


def fits(value: object, hint: object) -> bool:
    """Whether a value that came as JSON fits a type hint; hints that are not understood fit everything."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is None:
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is typing.Literal:
        return value in inner
    if isinstance(origin, type):
        return _container_fits(value, origin, inner)
    return _plain_fits(value, hint) if isinstance(hint, type) else True


def _plain_fits(value: object, kind: type) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, (int, float))
    if kind is tuple:  # JSON knows lists only.
        return isinstance(value, (list, tuple))
    if kind in (set, frozenset):
        return isinstance(value, (list, tuple, set, frozenset))
    return isinstance(value, kind) if kind in (bool, int, str, bytes, list, dict, type(None)) else True


def _container_fits(value: object, origin: type, inner: tuple[object, ...]) -> bool:
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and (len(inner) != 2 or all(fits(each, inner[1]) for each in value.values()))
    if issubclass(origin, (list, tuple, Sequence, AbstractSet)):
        kinds = (
            (list, tuple, set, frozenset) if issubclass(origin, AbstractSet) else (list, tuple)
        )  # JSON knows lists only.
        return isinstance(value, kinds) and (
            len(inner) != 1 or all(fits(each, inner[0]) for each in value)  # of tuple[...] the length is left alone
        )
    return True
