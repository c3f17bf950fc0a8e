"""Which program of a node has its newest connection; tasks whose every failure is tried again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("instance", sa.String(64), nullable=True))
    op.add_column("nodes", sa.Column("attempt", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("tasks", sa.Column("retry_failures", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("tasks", "retry_failures")
    op.drop_column("nodes", "attempt")
    op.drop_column("nodes", "instance")
