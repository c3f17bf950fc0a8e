"""Indexes for the pages of long lists: each part of what somebody may see, in the order of the ids."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_tasks_collaboration_id_id", "tasks", ["collaboration_id", "id"])
    op.create_index("ix_tasks_user_id_id", "tasks", ["user_id", "id"])
    op.create_index("ix_tasks_initiator_id_id", "tasks", ["initiator_id", "id"])
    op.drop_index("ix_tasks_initiator_id", "tasks")


def downgrade() -> None:
    op.create_index("ix_tasks_initiator_id", "tasks", ["initiator_id"])
    for column in ("initiator_id", "user_id", "collaboration_id"):
        op.drop_index(f"ix_tasks_{column}_id", "tasks")
