"""Signals between the parts of a server, and between its replicas: never the truth, only «look again»."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vantage6.api.v1 import event_pb2


@dataclass(frozen=True)
class Wake:
    """There may be work for the node of an organization in a collaboration."""

    organization_id: int
    collaboration_id: int


@dataclass(frozen=True)
class Stop:
    """A run that a node may hold is no longer wanted."""

    organization_id: int
    collaboration_id: int
    result_id: int
    epoch: int
    reason: str


@dataclass(frozen=True)
class Happened:
    """An event; `parent_id` is the parent of the task that it is about, 0 for none."""

    event: event_pb2.Event
    task_id: int
    parent_id: int


@dataclass(frozen=True)
class Deadline:
    """A task with a deadline was created."""

    task_id: int


@dataclass(frozen=True)
class Connected:
    """A node has a new connection; those with a lower number are dead or superseded."""

    organization_id: int
    collaboration_id: int
    connection: int


@dataclass(frozen=True)
class CutOff:
    """A node was deleted or got a new API key: no connection of it may stay."""

    organization_id: int
    collaboration_id: int


@dataclass(frozen=True)
class RightsChanged:
    """A user may do other things than before, or nothing any more; 0 for anybody."""

    user_id: int


@dataclass(frozen=True)
class Attempt:
    """Somebody tried a secret; `throttle` and `outcome` are of domain/throttle.py, the other two digests or empty."""

    throttle: str
    outcome: str
    account: str
    address: str


@dataclass(frozen=True)
class Resync:
    """Signals may have been missed: look at everything again."""


Signal = Wake | Stop | Happened | Deadline | Connected | CutOff | RightsChanged | Attempt | Resync
Handler = Callable[[Signal], None]


def new_replica() -> int:
    """A number for a server process, which fits PostgreSQL's integers."""
    return secrets.randbelow(2**31 - 1) + 1


class Bus(Protocol):
    replica: int
    """Number of this server process among those that share the database."""

    def publish(self, signal: Signal) -> None: ...

    def subscribe(self, handler: Handler) -> None: ...


class LocalBus:
    """For one server process: calls the handlers at once."""

    def __init__(self) -> None:
        self.replica = new_replica()
        self._handlers: list[Handler] = []

    def subscribe(self, handler: Handler) -> None:
        self._handlers.append(handler)

    def publish(self, signal: Signal) -> None:
        for handler in self._handlers:
            handler(signal)
