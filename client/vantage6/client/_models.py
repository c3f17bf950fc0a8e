"""What the client gives back: plain values that print well and never change."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vantage6.client._shown import Shown

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from vantage6.api.v1 import (
        auth_pb2,
        collaboration_pb2,
        node_pb2,
        organization_pb2,
        result_pb2,
        role_pb2,
        task_pb2,
        user_pb2,
    )


class ResultState(enum.IntEnum):
    """Where one organization's part of a task is; numbered as in the contract."""

    UNSPECIFIED = 0
    PENDING = 1
    ASSIGNED = 2
    PULLING = 3
    RUNNING = 4
    COMPLETED = 5
    FAILED = 6
    REFUSED = 7
    CANCELLED = 8
    LOST = 9

    @property
    def final(self) -> bool:
        return self >= ResultState.COMPLETED

    def __str__(self) -> str:
        return self.name.lower()


class TaskState(enum.IntEnum):
    """Where a task is, as its results tell; numbered as in the contract."""

    UNSPECIFIED = 0
    PENDING = 1
    RUNNING = 2
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class WhoAmI(Shown):
    """Who is logged in; root belongs to no organization."""

    user_id: int
    username: str
    organization_id: int | None
    organization_name: str


@dataclass(frozen=True)
class LogIn(Shown):
    """One session of the user: `current` is the one that asks."""

    id: int
    ip: str
    current: bool
    create_time: dt.datetime | None = None
    last_used_time: dt.datetime | None = None

    @classmethod
    def read(cls, message: auth_pb2.Session) -> LogIn:
        created, used = _time(message, "create_time"), _time(message, "last_used_time")
        return cls(message.id, message.ip, message.current, created, used)


@dataclass(frozen=True)
class SecondFactor(Shown):
    """What an authenticator is told: the secret in base32, or `uri` as a QR code."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)

    @classmethod
    def read(cls, message: auth_pb2.SecondFactor) -> SecondFactor:
        return cls(message.secret, message.uri)


@dataclass(frozen=True)
class Organization(Shown):
    id: int
    name: str
    domain: str = ""
    address1: str = ""
    address2: str = ""
    zipcode: str = ""
    country: str = ""
    public_key: bytes = field(default=b"", repr=False)
    collaboration_ids: tuple[int, ...] = ()

    @classmethod
    def read(cls, message: organization_pb2.Organization) -> Organization:
        return cls(
            id=message.id,
            name=message.name,
            domain=message.domain,
            address1=message.address1,
            address2=message.address2,
            zipcode=message.zipcode,
            country=message.country,
            public_key=message.public_key,
            collaboration_ids=tuple(message.collaboration_ids),
        )


@dataclass(frozen=True)
class Collaboration(Shown):
    id: int
    name: str
    encrypted: bool
    organization_ids: tuple[int, ...] = ()

    @classmethod
    def read(cls, message: collaboration_pb2.Collaboration) -> Collaboration:
        return cls(message.id, message.name, message.encrypted, tuple(message.organization_ids))


@dataclass(frozen=True)
class Node(Shown):
    """`api_key` is there only in the answer that made it."""

    id: int
    name: str
    online: bool
    organization_id: int
    collaboration_id: int
    version: str = ""
    last_seen: dt.datetime | None = None
    api_key: str = field(default="", repr=False)

    @classmethod
    def read(cls, message: node_pb2.Node) -> Node:
        return cls(
            id=message.id,
            name=message.name,
            online=message.online,
            organization_id=message.organization_id,
            collaboration_id=message.collaboration_id,
            version=message.version,
            last_seen=_time(message, "last_seen_time"),
            api_key=message.api_key,
        )


@dataclass(frozen=True)
class User(Shown):
    id: int
    username: str
    email: str
    firstname: str = ""
    lastname: str = ""
    roles: tuple[str, ...] = ()
    organization_id: int | None = None

    @classmethod
    def read(cls, message: user_pb2.User) -> User:
        return cls(
            id=message.id,
            username=message.username,
            email=message.email,
            firstname=message.firstname,
            lastname=message.lastname,
            roles=tuple(message.role_names),
            organization_id=message.organization_id if message.HasField("organization_id") else None,
        )


@dataclass(frozen=True)
class Rule(Shown):
    """Allows one operation on one kind of resource within one scope."""

    resource: str
    operation: str
    scope: str

    @classmethod
    def read(cls, message: role_pb2.Rule) -> Rule:
        return cls(message.resource, message.operation, message.scope)


@dataclass(frozen=True)
class Role(Shown):
    id: int
    name: str
    description: str = ""
    rules: tuple[Rule, ...] = field(default=(), repr=False)
    organization_id: int | None = None

    @classmethod
    def read(cls, message: role_pb2.Role) -> Role:
        return cls(
            id=message.id,
            name=message.name,
            description=message.description,
            rules=tuple(Rule.read(rule) for rule in message.rules),
            organization_id=message.organization_id if message.HasField("organization_id") else None,
        )


@dataclass(frozen=True)
class Task(Shown):
    id: int
    name: str
    image: str
    state: TaskState
    complete: bool
    collaboration_id: int
    run_id: int = 0
    description: str = ""
    databases: tuple[str, ...] = ()
    initiator_id: int | None = None
    parent_id: int | None = None
    user_id: int | None = None
    create_time: dt.datetime | None = None
    finish_time: dt.datetime | None = None
    deadline: dt.datetime | None = None
    retries: int = 0
    min_results: int | None = None
    priority: int = 0
    fail_fast: bool = False
    retry_failures: bool = False
    key: str = field(default="", repr=False)
    """Envelopes are bound to it."""

    @classmethod
    def read(cls, message: task_pb2.Task) -> Task:
        return cls(
            id=message.id,
            name=message.name,
            image=message.image,
            state=TaskState(message.state),
            complete=message.complete,
            collaboration_id=message.collaboration_id,
            run_id=message.run_id,
            description=message.description,
            databases=tuple(message.databases),
            initiator_id=message.initiator_id if message.HasField("initiator_id") else None,
            parent_id=message.parent_id if message.HasField("parent_id") else None,
            user_id=message.user_id if message.HasField("user_id") else None,
            create_time=_time(message, "create_time"),
            finish_time=_time(message, "finish_time"),
            deadline=_time(message, "deadline"),
            retries=message.retries,
            min_results=message.min_results if message.HasField("min_results") else None,
            priority=message.priority,
            fail_fast=message.fail_fast,
            retry_failures=message.retry_failures,
            key=message.key,
        )


@dataclass(frozen=True)
class Result(Shown):
    """How one organization's part of a task stands; what it returned is in TaskResult."""

    id: int
    task_id: int
    organization_id: int
    organization_name: str
    state: ResultState
    reason: str = ""
    message: str = ""
    node_online: bool = False
    start_time: dt.datetime | None = None
    finish_time: dt.datetime | None = None

    @classmethod
    def read(cls, message: result_pb2.Result) -> Result:
        return cls(
            id=message.id,
            task_id=message.task_id,
            organization_id=message.organization_id,
            organization_name=message.organization_name or f"organization {message.organization_id}",
            state=ResultState(message.state),
            reason=message.reason,
            message=message.message,
            node_online=message.node_online,
            start_time=_time(message, "start_time"),
            finish_time=_time(message, "finish_time"),
        )

    @property
    def why(self) -> str:
        """What keeps it from being completed, for people; empty when it is."""
        if self.state is ResultState.COMPLETED:
            return ""
        if self.state.final:
            return f"{self.state} {self.reason}: {self.message}".rstrip(": ")
        waits = ", its node is offline" if not self.node_online else ""
        tried = f" after {self.reason}: {self.message}" if self.reason else ""
        return f"{self.state}{waits}{tried}"


@dataclass(frozen=True)
class TaskResult(Shown):
    """What one organization returned, opened; `value` is None unless the state is COMPLETED.

    `file` has it instead of `value` where a folder was given.
    """

    organization_id: int
    organization_name: str
    state: ResultState
    reason: str
    message: str
    value: object = None
    file: Path | None = None

    @property
    def completed(self) -> bool:
        return self.state is ResultState.COMPLETED


@dataclass(frozen=True)
class LogLine:
    """One line that a run has printed."""

    organization_id: int
    organization_name: str
    result_id: int
    text: str

    def __str__(self) -> str:
        return f"{self.organization_name}: {self.text}"


def _time(message: Message, name: str) -> dt.datetime | None:
    found: dt.datetime | None = getattr(message, name).ToDatetime(dt.UTC) if message.HasField(name) else None
    return found
