"""The rows. Changing this file needs a migration (CONTRIBUTING.md)."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcTime(TypeDecorator[dt.datetime]):
    """A moment in UTC; SQLite forgets the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        return None if value is None else value.astimezone(dt.UTC)

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        return value.replace(tzinfo=dt.UTC) if value is not None and value.tzinfo is None else value


class Row(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {dt.datetime: UtcTime, bytes: LargeBinary}


def table_of(row: type[Row]) -> Table:
    """For statements that go past the mapper."""
    return cast("Table", row.__table__)


# Deleted ids are never given out again (CVE-2023-41881).
KEEP_IDS = {"sqlite_autoincrement": True}


class Organization(Row):
    __tablename__ = "organizations"
    __table_args__ = (KEEP_IDS,)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    domain: Mapped[str] = mapped_column(String(253), default="")
    address1: Mapped[str] = mapped_column(String(256), default="")
    address2: Mapped[str] = mapped_column(String(256), default="")
    zipcode: Mapped[str] = mapped_column(String(32), default="")
    country: Mapped[str] = mapped_column(String(128), default="")
    public_key: Mapped[bytes] = mapped_column(default=b"")


class Collaboration(Row):
    __tablename__ = "collaborations"
    __table_args__ = (KEEP_IDS,)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    encrypted: Mapped[bool] = mapped_column(default=True)


class Member(Row):
    __tablename__ = "members"
    collaboration_id: Mapped[int] = mapped_column(ForeignKey("collaborations.id", ondelete="CASCADE"), primary_key=True)
    organization_id: Mapped[int] = mapped_column(
        ForeignKey("organizations.id", ondelete="RESTRICT"), primary_key=True, index=True
    )


class Node(Row):
    __tablename__ = "nodes"
    __table_args__ = (UniqueConstraint("organization_id", "collaboration_id"), KEEP_IDS)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(256), unique=True)
    api_key_hash: Mapped[str] = mapped_column(String(64), unique=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id", ondelete="RESTRICT"))
    collaboration_id: Mapped[int] = mapped_column(ForeignKey("collaborations.id", ondelete="CASCADE"), index=True)
    # Written when it changes, not per heartbeat; the truth about now is in the memory of the dispatcher.
    online: Mapped[bool] = mapped_column(default=False)
    # Counts the node's connections: only the newest may change `online` or be given work, wherever it is held.
    connection: Mapped[int] = mapped_column(default=0)
    # Number of the server process that holds, or last held, the newest connection.
    replica: Mapped[int] = mapped_column(default=0)
    # Of that connection: the program that made it, and which of its attempts it was. None: cut off since.
    instance: Mapped[str | None] = mapped_column(String(64))
    attempt: Mapped[int] = mapped_column(default=0, server_default="0")
    last_seen: Mapped[dt.datetime | None]
    ip: Mapped[str] = mapped_column(String(64), default="")
    version: Mapped[str] = mapped_column(String(64), default="")


class User(Row):
    __tablename__ = "users"
    __table_args__ = (KEEP_IDS,)
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(128), unique=True)
    # Lower case, as it is compared.
    email: Mapped[str] = mapped_column(String(254), unique=True)
    password_hash: Mapped[str] = mapped_column(String(256))
    firstname: Mapped[str] = mapped_column(String(128), default="")
    lastname: Mapped[str] = mapped_column(String(128), default="")
    organization_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), index=True)
    last_seen: Mapped[dt.datetime | None]
    ip: Mapped[str] = mapped_column(String(64), default="")
    roles: Mapped[list[Role]] = relationship(secondary="user_roles", lazy="selectin")


class Role(Row):
    __tablename__ = "roles"
    __table_args__ = (UniqueConstraint("organization_id", "name"), KEEP_IDS)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(Text, default="")
    # None: a default role, defined by the permission table and kept in step with it at every start.
    organization_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"))
    rules: Mapped[list[Rule]] = relationship(cascade="all, delete-orphan", lazy="selectin")


class Rule(Row):
    __tablename__ = "rules"
    role_id: Mapped[int] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True)
    resource: Mapped[str] = mapped_column(String(32), primary_key=True)
    operation: Mapped[str] = mapped_column(String(16), primary_key=True)
    scope: Mapped[str] = mapped_column(String(16))


class UserRole(Row):
    __tablename__ = "user_roles"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    role_id: Mapped[int] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True, index=True)


class Session(Row):
    """One log-in of a user or a node; `refresh_hash` is of the one refresh token that is good now."""

    __tablename__ = "sessions"
    __table_args__ = (KEEP_IDS,)
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    node_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id", ondelete="CASCADE"), index=True)
    refresh_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[dt.datetime]
    last_used_at: Mapped[dt.datetime]
    expires_at: Mapped[dt.datetime]
    revoked: Mapped[bool] = mapped_column(default=False)
    ip: Mapped[str] = mapped_column(String(64), default="")


class SecondFactor(Row):
    """A user's TOTP secret, encrypted with a key that is not in the database."""

    __tablename__ = "second_factors"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    secret: Mapped[bytes]
    # It counts from the first code on that its owner could give.
    confirmed: Mapped[bool] = mapped_column(default=False)
    # Time step of the last code that was accepted: no code is good twice.
    last_step: Mapped[int] = mapped_column(BigInteger, default=0)


class OneTimeSecret(Row):
    """Good once: a recovery code for the second factor, or a mailed token that sets a password."""

    __tablename__ = "one_time_secrets"
    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    # "recovery_code" or "password_reset".
    purpose: Mapped[str] = mapped_column(String(16))
    expires_at: Mapped[dt.datetime | None]


class AuditEntry(Row):
    """Refers to nobody: it outlives what it tells of."""

    __tablename__ = "audit"
    __table_args__ = (KEEP_IDS,)
    id: Mapped[int] = mapped_column(primary_key=True)
    time: Mapped[dt.datetime] = mapped_column(index=True)
    action: Mapped[str] = mapped_column(String(64))
    caller: Mapped[str] = mapped_column(String(64), index=True)
    peer: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(64), index=True)
    fields: Mapped[str] = mapped_column(String(256))
    outcome: Mapped[str] = mapped_column(String(64))


class Task(Row):
    __tablename__ = "tasks"
    __table_args__ = (
        UniqueConstraint("collaboration_id", "key"),
        # For pages in the order of the ids, see store/tasks.py.
        Index("ix_tasks_collaboration_id_id", "collaboration_id", "id"),
        Index("ix_tasks_initiator_id_id", "initiator_id", "id"),
        Index("ix_tasks_user_id_id", "user_id", "id"),
        KEEP_IDS,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    collaboration_id: Mapped[int] = mapped_column(ForeignKey("collaborations.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(64))
    # Of the whole request: a repetition with the same key must be the same request.
    digest: Mapped[bytes]
    name: Mapped[str] = mapped_column(String(256), default="")
    description: Mapped[str] = mapped_column(Text, default="")
    image: Mapped[str] = mapped_column(String(512))
    run_id: Mapped[int] = mapped_column(index=True)
    databases: Mapped[list[str]] = mapped_column(JSON, default=list)
    initiator_id: Mapped[int | None] = mapped_column(ForeignKey("organizations.id", ondelete="SET NULL"))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"), index=True)
    priority: Mapped[int] = mapped_column(default=0)
    retries: Mapped[int] = mapped_column(default=3)
    min_results: Mapped[int | None]
    fail_fast: Mapped[bool] = mapped_column(default=False, server_default=false())
    retry_failures: Mapped[bool] = mapped_column(default=False, server_default=false())
    deadline: Mapped[dt.datetime | None] = mapped_column(index=True)
    # Values of TaskState and of ResultState below: the numbers of the contract.
    state: Mapped[int]
    created_at: Mapped[dt.datetime]
    finished_at: Mapped[dt.datetime | None]


class Result(Row):
    __tablename__ = "results"
    __table_args__ = (
        # The queue: only what is not final (states up to RUNNING = 4), so that it stays small for ever.
        Index("ix_results_open", "organization_id", "state", sqlite_where=text("state <= 4"),
              postgresql_where=text("state <= 4")),
        UniqueConstraint("task_id", "organization_id"),
        KEEP_IDS,
    )  # fmt: skip
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"))
    organization_id: Mapped[int] = mapped_column(ForeignKey("organizations.id", ondelete="RESTRICT"), index=True)
    state: Mapped[int]
    reason: Mapped[str] = mapped_column(String(64), default="")
    message: Mapped[str] = mapped_column(Text, default="")
    epoch: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    assigned_at: Mapped[dt.datetime | None]
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]


class Content(Row):
    """Input, output or log of a result; apart from it, so that the queue's pages hold no payloads."""

    __tablename__ = "contents"
    result_id: Mapped[int] = mapped_column(ForeignKey("results.id", ondelete="CASCADE"), primary_key=True)
    # "input", "output" or "log".
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    data: Mapped[bytes | None]
    payload_id: Mapped[str | None] = mapped_column(ForeignKey("payloads.id", ondelete="RESTRICT"), index=True)


class Payload(Row):
    __tablename__ = "payloads"
    __table_args__ = (UniqueConstraint("creator", "idempotency_key"),)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    collaboration_id: Mapped[int] = mapped_column(ForeignKey("collaborations.id", ondelete="CASCADE"), index=True)
    # Who may write it: "user:7", "node:3" or "container:12".
    creator: Mapped[str] = mapped_column(String(64))
    idempotency_key: Mapped[str | None] = mapped_column(String(64))
    result_id: Mapped[int | None]
    size: Mapped[int] = mapped_column(BigInteger)
    received: Mapped[int] = mapped_column(BigInteger, default=0)
    sha256: Mapped[bytes]
    complete: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[dt.datetime]


class Event(Row):
    __tablename__ = "events"
    __table_args__ = (Index("ix_events_task_id_id", "task_id", "id"), KEEP_IDS)
    id: Mapped[int] = mapped_column(primary_key=True)
    time: Mapped[dt.datetime]
    collaboration_id: Mapped[int] = mapped_column(ForeignKey("collaborations.id", ondelete="CASCADE"), index=True)
    task_id: Mapped[int]
    parent_id: Mapped[int | None] = mapped_column(index=True)
    # An Event of the contract, serialized, without its id.
    body: Mapped[bytes]


class Idempotency(Row):
    """Which resource a creating call made, so that a repetition gets it again."""

    __tablename__ = "idempotency"
    caller: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    digest: Mapped[bytes]
    resource_id: Mapped[int]
    created_at: Mapped[dt.datetime]


class Sequence(Row):
    __tablename__ = "sequences"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int] = mapped_column(default=0)
