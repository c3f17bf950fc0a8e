"""Marks the functions of a package that a task may call, and what they are handed.

    @data(1)
    def partial_sum(frame, column): ...

    @algorithm_client
    def central_sum(client, column): ...

The functions stay plain functions: a test calls `partial_sum(frame, "age")`. What they are handed comes before the
task's arguments, the outermost decorator's first. Databases are taken in the order in which the task names them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

_ATTRIBUTE = "__vantage6__"

Function = TypeVar("Function", bound=Callable[..., object])


# Data classes would do, and take as long to load as all the rest of this package.
class Hand(NamedTuple):
    """Something that a function is handed, so many `times`; frames are those of `library`."""

    kind: Literal["client", "run", "frame", "database"]
    times: int = 1
    library: str = "pandas"


class Declaration(NamedTuple):
    """What a function is handed, in order."""

    hands: tuple[Hand, ...] = ()

    @property
    def width(self) -> int:
        """How many parameters these are."""
        return sum(hand.times for hand in self.hands)

    @property
    def databases(self) -> int:
        """How many of the task's databases it reads."""
        return sum(hand.times for hand in self.hands if hand.kind in ("frame", "database"))


def declaration(function: object) -> Declaration | None:
    """The declaration of a function, none if no task may call it."""
    found = getattr(function, _ATTRIBUTE, None)
    return found if isinstance(found, Declaration) else None


def remote(function: Function) -> Function:
    """Lets tasks call a function that is handed nothing."""
    return _declare(function)


def data(n: int = 1, library: Literal["pandas", "polars"] = "pandas") -> Callable[[Function], Function]:
    """Hands over the task's first `n` databases as data frames of pandas, or of polars where the image has it."""
    return _counted(n, "data", lambda count: Hand("frame", count, library))


def connection(n: int = 1) -> Callable[[Function], Function]:
    """Hands over the task's first `n` databases as `Database`, to be queried in place instead of read as a whole."""
    return _counted(n, "connection", lambda count: Hand("database", count))


def metadata(function: Function) -> Function:
    """Hands over the `Run`: who asked, which organization this is, how many take part."""
    return _declare(function, Hand("run"))


def algorithm_client(function: Function) -> Function:
    """Hands over an `AlgorithmClient`, with which the function can ask other organizations."""
    return _declare(function, Hand("client"))


def _counted(n: int, name: str, hand: Callable[[int], Hand]) -> Callable[[Function], Function]:
    if n < 1:
        raise ValueError(f"{name}(n): n must be at least 1")
    return lambda function: _declare(function, hand(n))


def _declare(function: Function, *hands: Hand) -> Function:
    known = declaration(function) or Declaration()
    setattr(function, _ATTRIBUTE, Declaration((*hands, *known.hands)))
    return function
