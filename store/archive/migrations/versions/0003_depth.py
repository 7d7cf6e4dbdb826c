"""The number of messages before each message on its branch, so that counting them needs no walk to the root."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_FILL = """
WITH RECURSIVE down (user_id, id, depth) AS (
    SELECT user_id, id, 0 FROM messages WHERE parent_id IS NULL
    UNION ALL
    SELECT messages.user_id, messages.id, down.depth + 1 FROM down
    JOIN messages ON messages.user_id = down.user_id AND messages.parent_id = down.id
)
UPDATE messages SET depth = down.depth FROM down WHERE messages.user_id = down.user_id AND messages.id = down.id
"""


def upgrade() -> None:
    """Add the column and fill it for the existing rows."""
    op.add_column("messages", sa.Column("depth", sa.BigInteger))
    # Without this index, each message would look for its children in the whole table.
    op.create_index("messages_by_parent", "messages", ["user_id", "parent_id"])
    op.execute(_FILL)
    op.drop_index("messages_by_parent", "messages")


def downgrade() -> None:
    """Remove the column."""
    op.drop_column("messages", "depth")
