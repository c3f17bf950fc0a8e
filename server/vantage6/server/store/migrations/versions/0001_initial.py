"""The first schema."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _collaborations()
    _organizations()
    _members()
    _nodes()
    _users()
    _roles()
    _rules()
    _user_roles()
    _sessions()
    _second_factors()
    _audit()
    _idempotency()
    _sequences()
    _tasks()
    _payloads()
    _results()
    _contents()
    _events()


def downgrade() -> None:
    raise NotImplementedError("before the first schema there is nothing")


def table(name: str, *parts: Any, keep_ids: bool = True) -> None:
    """`keep_ids`: deleted ids are never given out again."""
    op.create_table(name, *parts, **({"sqlite_autoincrement": True} if keep_ids else {}))


def text(name: str, length: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def moment(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def refers(name: str, column: str, target: str, ondelete: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=name, ondelete=ondelete)


def unique(name: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=name)


def primary(name: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=name)


def _collaborations() -> None:
    table(
        "collaborations",
        number("id"),
        text("name", 128),
        sa.Column("encrypted", sa.Boolean(), nullable=False),
        primary("pk_collaborations", "id"),
        unique("uq_collaborations_name", "name"),
    )


def _organizations() -> None:
    table(
        "organizations",
        number("id"),
        text("name", 128),
        text("domain", 253),
        text("address1", 256),
        text("address2", 256),
        text("zipcode", 32),
        text("country", 128),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        primary("pk_organizations", "id"),
        unique("uq_organizations_name", "name"),
    )


def _members() -> None:
    table(
        "members",
        number("collaboration_id"),
        number("organization_id"),
        refers("fk_members_collaboration_id", "collaboration_id", "collaborations.id", "CASCADE"),
        refers("fk_members_organization_id", "organization_id", "organizations.id", "RESTRICT"),
        primary("pk_members", "collaboration_id", "organization_id"),
        keep_ids=False,
    )
    op.create_index("ix_members_organization_id", "members", ["organization_id"])


def _nodes() -> None:
    table(
        "nodes",
        number("id"),
        text("name", 256),
        text("api_key_hash", 64),
        number("organization_id"),
        number("collaboration_id"),
        sa.Column("online", sa.Boolean(), nullable=False),
        number("connection"),
        number("replica"),
        moment("last_seen"),
        text("ip", 64),
        text("version", 64),
        refers("fk_nodes_collaboration_id", "collaboration_id", "collaborations.id", "CASCADE"),
        refers("fk_nodes_organization_id", "organization_id", "organizations.id", "RESTRICT"),
        primary("pk_nodes", "id"),
        unique("uq_nodes_api_key_hash", "api_key_hash"),
        unique("uq_nodes_name", "name"),
        unique("uq_nodes_organization_id_collaboration_id", "organization_id", "collaboration_id"),
    )
    op.create_index("ix_nodes_collaboration_id", "nodes", ["collaboration_id"])


def _users() -> None:
    table(
        "users",
        number("id"),
        text("username", 128),
        text("email", 254),
        text("password_hash", 256),
        text("firstname", 128),
        text("lastname", 128),
        number("organization_id", nullable=True),
        moment("last_seen"),
        text("ip", 64),
        refers("fk_users_organization_id", "organization_id", "organizations.id", "CASCADE"),
        primary("pk_users", "id"),
        unique("uq_users_email", "email"),
        unique("uq_users_username", "username"),
    )
    op.create_index("ix_users_organization_id", "users", ["organization_id"])


def _roles() -> None:
    table(
        "roles",
        number("id"),
        text("name", 64),
        sa.Column("description", sa.Text(), nullable=False),
        number("organization_id", nullable=True),
        refers("fk_roles_organization_id", "organization_id", "organizations.id", "CASCADE"),
        primary("pk_roles", "id"),
        unique("uq_roles_organization_id_name", "organization_id", "name"),
    )


def _rules() -> None:
    table(
        "rules",
        number("role_id"),
        text("resource", 32),
        text("operation", 16),
        text("scope", 16),
        refers("fk_rules_role_id", "role_id", "roles.id", "CASCADE"),
        primary("pk_rules", "role_id", "resource", "operation"),
        keep_ids=False,
    )


def _user_roles() -> None:
    table(
        "user_roles",
        number("user_id"),
        number("role_id"),
        refers("fk_user_roles_role_id", "role_id", "roles.id", "CASCADE"),
        refers("fk_user_roles_user_id", "user_id", "users.id", "CASCADE"),
        primary("pk_user_roles", "user_id", "role_id"),
        keep_ids=False,
    )
    op.create_index("ix_user_roles_role_id", "user_roles", ["role_id"])


def _sessions() -> None:
    table(
        "sessions",
        number("id"),
        number("user_id", nullable=True),
        number("node_id", nullable=True),
        text("refresh_hash", 64),
        moment("created_at", nullable=False),
        moment("last_used_at", nullable=False),
        moment("expires_at", nullable=False),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        text("ip", 64),
        refers("fk_sessions_node_id", "node_id", "nodes.id", "CASCADE"),
        refers("fk_sessions_user_id", "user_id", "users.id", "CASCADE"),
        primary("pk_sessions", "id"),
        unique("uq_sessions_refresh_hash", "refresh_hash"),
    )
    op.create_index("ix_sessions_node_id", "sessions", ["node_id"])
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])


def _second_factors() -> None:
    table(
        "second_factors",
        number("user_id"),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        refers("fk_second_factors_user_id", "user_id", "users.id", "CASCADE"),
        primary("pk_second_factors", "user_id"),
        keep_ids=False,
    )
    table(
        "one_time_secrets",
        text("hash", 64),
        number("user_id"),
        text("purpose", 16),
        moment("expires_at"),
        refers("fk_one_time_secrets_user_id", "user_id", "users.id", "CASCADE"),
        primary("pk_one_time_secrets", "hash"),
        keep_ids=False,
    )
    op.create_index("ix_one_time_secrets_user_id", "one_time_secrets", ["user_id"])


def _audit() -> None:
    table(
        "audit",
        number("id"),
        moment("time", nullable=False),
        *(text(name, length) for name, length in
          (("action", 64), ("caller", 64), ("peer", 64), ("target", 64), ("fields", 256), ("outcome", 64))),
        primary("pk_audit", "id"),
    )  # fmt: skip
    for column in ("time", "caller", "target"):
        op.create_index(f"ix_audit_{column}", "audit", [column])


def _idempotency() -> None:
    table(
        "idempotency",
        text("caller", 64),
        text("key", 64),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        number("resource_id"),
        moment("created_at", nullable=False),
        primary("pk_idempotency", "caller", "key"),
        keep_ids=False,
    )


def _sequences() -> None:
    table("sequences", text("name", 32), number("value"), primary("pk_sequences", "name"), keep_ids=False)


def _tasks() -> None:
    table(
        "tasks",
        number("id"),
        number("collaboration_id"),
        text("key", 64),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        text("name", 256),
        sa.Column("description", sa.Text(), nullable=False),
        text("image", 512),
        number("run_id"),
        sa.Column("databases", sa.JSON(), nullable=False),
        number("initiator_id", nullable=True),
        number("user_id", nullable=True),
        number("parent_id", nullable=True),
        number("priority"),
        number("retries"),
        number("min_results", nullable=True),
        moment("deadline"),
        number("state"),
        moment("created_at", nullable=False),
        moment("finished_at"),
        refers("fk_tasks_collaboration_id", "collaboration_id", "collaborations.id", "CASCADE"),
        refers("fk_tasks_initiator_id", "initiator_id", "organizations.id", "SET NULL"),
        refers("fk_tasks_parent_id", "parent_id", "tasks.id", "CASCADE"),
        refers("fk_tasks_user_id", "user_id", "users.id", "SET NULL"),
        primary("pk_tasks", "id"),
        unique("uq_tasks_collaboration_id_key", "collaboration_id", "key"),
    )
    op.create_index("ix_tasks_deadline", "tasks", ["deadline"])
    op.create_index("ix_tasks_initiator_id", "tasks", ["initiator_id"])
    op.create_index("ix_tasks_parent_id", "tasks", ["parent_id"])
    op.create_index("ix_tasks_run_id", "tasks", ["run_id"])


def _payloads() -> None:
    table(
        "payloads",
        text("id", 64),
        number("collaboration_id"),
        text("creator", 64),
        text("idempotency_key", 64, nullable=True),
        number("result_id", nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        moment("created_at", nullable=False),
        refers("fk_payloads_collaboration_id", "collaboration_id", "collaborations.id", "CASCADE"),
        primary("pk_payloads", "id"),
        unique("uq_payloads_creator_idempotency_key", "creator", "idempotency_key"),
        keep_ids=False,
    )
    op.create_index("ix_payloads_collaboration_id", "payloads", ["collaboration_id"])


def _results() -> None:
    table(
        "results",
        number("id"),
        number("task_id"),
        number("organization_id"),
        number("state"),
        text("reason", 64),
        sa.Column("message", sa.Text(), nullable=False),
        number("epoch"),
        number("losses"),
        moment("assigned_at"),
        moment("started_at"),
        moment("finished_at"),
        refers("fk_results_organization_id", "organization_id", "organizations.id", "RESTRICT"),
        refers("fk_results_task_id", "task_id", "tasks.id", "CASCADE"),
        primary("pk_results", "id"),
        unique("uq_results_task_id_organization_id", "task_id", "organization_id"),
    )
    op.create_index(
        "ix_results_open",
        "results",
        ["organization_id", "state"],
        sqlite_where=sa.text("state <= 4"),
        postgresql_where=sa.text("state <= 4"),
    )
    op.create_index("ix_results_organization_id", "results", ["organization_id"])


def _contents() -> None:
    table(
        "contents",
        number("result_id"),
        text("kind", 8),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        text("payload_id", 64, nullable=True),
        refers("fk_contents_payload_id", "payload_id", "payloads.id", "RESTRICT"),
        refers("fk_contents_result_id", "result_id", "results.id", "CASCADE"),
        primary("pk_contents", "result_id", "kind"),
        keep_ids=False,
    )
    op.create_index("ix_contents_payload_id", "contents", ["payload_id"])


def _events() -> None:
    table(
        "events",
        number("id"),
        moment("time", nullable=False),
        number("collaboration_id"),
        number("task_id"),
        number("parent_id", nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        refers("fk_events_collaboration_id", "collaboration_id", "collaborations.id", "CASCADE"),
        primary("pk_events", "id"),
    )
    op.create_index("ix_events_collaboration_id", "events", ["collaboration_id"])
    op.create_index("ix_events_parent_id", "events", ["parent_id"])
    op.create_index("ix_events_task_id_id", "events", ["task_id", "id"])
