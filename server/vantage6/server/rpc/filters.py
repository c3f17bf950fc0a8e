"""Filters that tasks and results share."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Any, Protocol, TypeVar

from vantage6.common.errors import InvalidArgument
from vantage6.server.store.sql import Store

S = TypeVar("S", bound=enum.IntEnum)

NOBODY = (0, 0)


class Request(Protocol):
    def HasField(self, field_name: Any) -> bool: ...


def states_named(request: Request, states: type[S], open_states: Collection[S]) -> list[int] | None:
    """The filter `state`: "open" or a state's name; None where it is not given."""
    if not request.HasField("state"):
        return None
    name = request.state  # type: ignore[attr-defined]
    if name == "open":
        return [int(state) for state in open_states]
    try:
        return [int(states[name.upper()])]
    except KeyError:
        known = ", ".join(["open", *(state.name.lower() for state in states)])
        raise InvalidArgument(f"state: {name!r} is not one of {known}", field="state") from None


def include(request: Any, what: str) -> bool:
    """The parameter `include`, which has one possible value."""
    if request.include not in ("", what):
        raise InvalidArgument(f"include: only {what!r} can be included here", field="include")
    return bool(request.include)


async def performer_of(store: Store, request: Any) -> tuple[int, int] | None:
    """The filter `node_id` as (organization, collaboration); an unknown node performs nothing."""
    if not request.HasField("node_id"):
        return None
    node = await store.parties.node(request.node_id)
    return (node.organization_id, node.collaboration_id) if node else NOBODY
