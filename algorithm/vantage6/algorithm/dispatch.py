"""From a task's input to the function it names, and back to output bytes: in a container as in MockNetwork."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import FunctionType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vantage6.algorithm.arguments import check
from vantage6.algorithm.decorators import Declaration, declaration
from vantage6.algorithm.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

    from vantage6.algorithm.client import AlgorithmClient
    from vantage6.algorithm.databases import Source


class Surroundings(Protocol):
    """Where functions get what they are handed from."""

    # The task's first databases; InputError if it names fewer.
    def sources(self, count: int) -> Sequence[Source]: ...

    def client(self) -> AlgorithmClient: ...


class Call(NamedTuple):
    """A task's input, understood."""

    method: str
    args: list[object]
    kwargs: dict[str, object]
    output_format: str = "json"


def read_call(data: bytes) -> Call:
    """Reads `{"method", "args", "kwargs", "output_format"}`."""
    from vantage6.common.errors import SerializationError  # noqa: PLC0415 - loads gRPC
    from vantage6.common.serialization import deserialize  # noqa: PLC0415

    try:
        value = deserialize(data)
    except SerializationError as error:
        raise InputError(f"the input cannot be read: {error.message}") from None
    if not isinstance(value, Mapping):
        raise InputError('the input must be an object such as {"method": "average", "kwargs": {"column": "age"}}')
    call = Call(
        method=value.get("method", ""),
        args=value.get("args") or [],
        kwargs=value.get("kwargs") or {},
        output_format=value.get("output_format") or "json",
    )
    if not isinstance(call.method, str) or not isinstance(call.args, list) or not isinstance(call.kwargs, dict):
        raise InputError("the input's method must be a text, its args a list and its kwargs an object")
    return call


def methods(package: ModuleType) -> dict[str, Callable[..., object]]:
    """The functions that a task may call: declared ones with a public name, nothing else that the module holds."""
    found = ((name, each) for name, each in vars(package).items() if isinstance(each, FunctionType))
    return {name: function for name, function in found if not name.startswith("_") and declaration(function)}


def dispatch(package: ModuleType, data: bytes, surroundings: Surroundings) -> bytes:
    """Runs the function that the input names and returns the serialized output."""
    from vantage6.common.serialization import serialize  # noqa: PLC0415 - loads gRPC

    call = read_call(data)
    known = methods(package)
    function = known.get(call.method)
    if function is None:
        raise InputError(f"there is no method {call.method[:80]!r}; there are: {', '.join(sorted(known)) or 'none'}")
    declared = declaration(function) or Declaration()
    check(function, declared.width, call.args, call.kwargs)
    handed = _handed(declared, surroundings)
    return serialize(function(*handed, *call.args, **call.kwargs), call.output_format)


def _handed(declared: Declaration, surroundings: Surroundings) -> list[object]:
    sources = iter(surroundings.sources(declared.databases))
    handed: list[object] = []
    for hand in declared.hands:
        if hand.kind == "frame":
            handed += [source.frame(hand.library) for source in islice(sources, hand.times)]
        elif hand.kind == "database":
            handed += [source.database() for source in islice(sources, hand.times)]
        else:
            client = surroundings.client()
            handed.append(client if hand.kind == "client" else client.run)
    return handed
