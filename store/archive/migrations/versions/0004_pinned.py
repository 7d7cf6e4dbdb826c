"""Pinned conversations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ONLY_PINNED = sa.text("pinned = 1")


def upgrade() -> None:
    """Add the column, and the index that finds the pinned conversations of a user."""
    op.add_column("conversations", sa.Column("pinned", sa.SmallInteger, nullable=False, server_default="0"))
    op.create_index(
        "conversations_pinned",
        "conversations",
        ["user_id", "change"],
        postgresql_where=_ONLY_PINNED,
        sqlite_where=_ONLY_PINNED,
    )


def downgrade() -> None:
    """Remove the index and the column."""
    op.drop_index("conversations_pinned", "conversations")
    op.drop_column("conversations", "pinned")
