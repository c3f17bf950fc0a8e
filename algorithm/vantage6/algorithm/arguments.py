"""Checks a task's arguments against a function's signature before it runs."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vantage6.algorithm.errors import InputError


def check(function: Callable[..., object], handed: int, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    """Raises InputError unless the arguments fit; the first `handed` parameters are not the task's to give."""
    name = function.__name__
    signature = inspect.signature(function)
    own = list(signature.parameters.values())[handed:]
    try:
        bound = signature.replace(parameters=own).bind(*args, **kwargs)
    except TypeError as error:
        raise InputError(f"{name}{signature.replace(parameters=own)}: {error}") from None
    hints = _hints(function)
    for parameter in own:
        if parameter.name not in bound.arguments or parameter.name not in hints:
            continue
        value = bound.arguments[parameter.name]
        for each in _values(parameter, value):
            if not fits(each, hints[parameter.name]):
                wanted = inspect.formatannotation(hints[parameter.name])
                raise InputError(f"{name}: argument {parameter.name!r} must be {wanted}, not {type(each).__name__}")


def _values(parameter: inspect.Parameter, value: Any) -> Iterable[object]:
    """The values that a parameter's hint is about: `*args` and `**kwargs` have one hint for each of theirs."""
    if parameter.kind is parameter.VAR_POSITIONAL:
        return list(value)
    if parameter.kind is parameter.VAR_KEYWORD:
        return list(value.values())
    return [value]


def _hints(function: Callable[..., object]) -> dict[str, object]:
    """The hints one by one: a name that only type checkers see takes away its own hint and no other."""
    found: dict[str, object] = {}
    for name, annotation in inspect.get_annotations(function).items():
        single = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found |= typing.get_type_hints(single, globalns=getattr(function, "__globals__", {}))
        except NameError:
            continue
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
    return isinstance(value, kind) if kind in (bool, int, str, bytes, list, dict, type(None)) else True


def _container_fits(value: object, origin: type, inner: tuple[object, ...]) -> bool:
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(each, inner[1]) for each in value.values())
    if issubclass(origin, (list, tuple, Sequence)):
        return isinstance(value, (list, tuple)) and (
            len(inner) != 1 or all(fits(each, inner[0]) for each in value)  # of tuple[...] the length is left alone
        )
    return True
