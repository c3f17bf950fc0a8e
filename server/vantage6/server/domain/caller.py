"""Who is calling: nobody yet, a user, a node, or the container of one result."""

from __future__ import annotations

import datetime as dt
import enum
from contextvars import ContextVar
from dataclasses import dataclass, field


class Scope(enum.IntEnum):
    """How far a rule reaches; each scope holds the smaller ones."""

    OWN = 1
    ORGANIZATION = 2
    COLLABORATION = 3
    GLOBAL = 4


class Resource(enum.StrEnum):
    ORGANIZATION = "organization"
    COLLABORATION = "collaboration"
    NODE = "node"
    USER = "user"
    ROLE = "role"
    TASK = "task"
    RESULT = "result"
    EVENT = "event"
    AUDIT = "audit"


class Operation(enum.StrEnum):
    VIEW = "view"
    CREATE = "create"
    EDIT = "edit"
    DELETE = "delete"


Rules = dict[tuple[Resource, Operation], Scope]
"""The largest scope for each resource and operation; absent means forbidden."""


@dataclass(frozen=True)
class Anonymous:
    key: str = "anonymous"


@dataclass(frozen=True)
class UserCaller:
    """A person; `organization_id` is None for root, `collaboration_ids` are those of the organization."""

    id: int
    username: str
    organization_id: int | None
    collaboration_ids: frozenset[int]
    session_id: int
    rules: Rules = field(default_factory=dict)
    # When the token ends with which it called.
    until: dt.datetime | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        return f"user:{self.id}"


@dataclass(frozen=True)
class NodeCaller:
    id: int
    name: str
    organization_id: int
    collaboration_id: int
    session_id: int

    @property
    def key(self) -> str:
        return f"node:{self.id}"


@dataclass(frozen=True)
class ContainerCaller:
    """An algorithm, through its node's proxy; good for one assignment of one unfinished result."""

    result_id: int
    epoch: int
    task_id: int
    node_id: int
    organization_id: int
    collaboration_id: int
    image: str
    until: dt.datetime | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        return f"container:{self.result_id}"


Caller = Anonymous | UserCaller | NodeCaller | ContainerCaller


@dataclass(frozen=True)
class Call:
    """One request: who, from where, and whether it came through the REST gateway."""

    caller: Caller
    peer: str = ""
    rest: bool = False


NOBODY = Call(Anonymous())
_current: ContextVar[Call] = ContextVar("call")


def current_call() -> Call:
    """The request that is being served; the identity interceptor sets it."""
    return _current.get(NOBODY)


def set_current_call(call: Call) -> None:
    _current.set(call)
