"""Marks the functions of a package that a task may call, and what they are handed.

    @data(1)
    def partial_sum(frame, column): ...

    @algorithm_client
    def central_sum(client, column): ...

The functions stay plain functions: a test calls `partial_sum(frame, "age")`. What they are handed comes before the
task's arguments, the outermost decorator's first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_ATTRIBUTE = "__vantage6__"

Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(frozen=True)
class Declaration:
    """What a function is handed, in order: `"client"`, or a number of data frames."""

    hands: tuple[str | int, ...] = ()


def declaration(function: object) -> Declaration | None:
    """The declaration of a function, none if no task may call it."""
    found = getattr(function, _ATTRIBUTE, None)
    return found if isinstance(found, Declaration) else None


def remote(function: Function) -> Function:
    """Lets tasks call a function that is handed nothing."""
    return _declare(function)


def data(n: int = 1) -> Callable[[Function], Function]:
    """Hands over the task's first `n` databases as pandas data frames."""
    if n < 1:
        raise ValueError("data(n): n must be at least 1")
    return lambda function: _declare(function, n)


def algorithm_client(function: Function) -> Function:
    """Hands over an `AlgorithmClient`, with which the function can ask other organizations."""
    return _declare(function, "client")


def _declare(function: Function, *hands: str | int) -> Function:
    known = declaration(function) or Declaration()
    setattr(function, _ATTRIBUTE, Declaration((*hands, *known.hands)))
    return function
