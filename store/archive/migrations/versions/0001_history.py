"""The history: users, conversations, messages, feedback and usage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from store.archive.types import LosslessBytes, LosslessText, Moment

revision = "0001"
down_revision = None


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, LosslessText, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, Moment, nullable=nullable)


def _usage(*, nullable: bool = False) -> list[sa.Column[int]]:
    names = ("input_tokens", "output_tokens", "reasoning_tokens", "cache_read_tokens", "cache_write_tokens")
    return [*(_number(name, nullable=nullable) for name in names), _number("cost_nano", nullable=True)]


def _of_user(name: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=name, ondelete="CASCADE")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "users",
        _text("user_id"),
        _number("applied"),
        sa.Column("conversation_count", sa.Integer, nullable=False),
        _number("stored_bytes"),
        sa.PrimaryKeyConstraint("user_id", name="users_key"),
    )
    _create_conversations()
    _create_messages()
    op.create_table(
        "turns",
        *(_text(name) for name in ("user_id", "id")),
        *(_text(name, nullable=True) for name in ("conversation_id", "incarnation")),
        *(_text(name) for name in ("model", "status")),
        _time("ended_at"),
        *_usage(),
        sa.PrimaryKeyConstraint("user_id", "id", name="turns_key"),
        _of_user("turns_user"),
    )
    op.create_index("turns_by_end", "turns", ["user_id", "ended_at"])
    op.create_index("turns_by_conversation", "turns", ["user_id", "conversation_id", "ended_at"])
    op.create_table(
        "usage_days",
        _text("user_id"),
        sa.Column("day", sa.Date, nullable=False),
        _text("model"),
        _number("turn_count"),
        *_usage(),
        sa.PrimaryKeyConstraint("user_id", "day", "model", name="usage_days_key"),
        _of_user("usage_days_user"),
    )


def _create_conversations() -> None:
    op.create_table(
        "conversations",
        *(_text(name) for name in ("user_id", "id", "incarnation")),
        _number("change"),
        _text("title"),
        *(_text(name, nullable=True) for name in ("system", "model")),
        sa.Column("metadata", LosslessBytes, nullable=False),
        _text("head_id", nullable=True),
        *(_number(name) for name in ("revision", "cleared_revision", "next_number")),
        *(_time(name) for name in ("created_at", "updated_at")),
        _number("message_count"),
        *_usage(),
        _number("size"),
        sa.Column("retention_days", sa.Integer),
        _time("expires_at", nullable=True),
        sa.PrimaryKeyConstraint("user_id", "id", name="conversations_key"),
        _of_user("conversations_user"),
    )
    op.create_index("conversations_by_change", "conversations", ["user_id", "change", "id"])
    for name, column, condition in (
        ("conversations_by_update", "updated_at", "retention_days IS NULL"),
        ("conversations_by_expiry", "expires_at", "expires_at IS NOT NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, "conversations", [column], postgresql_where=where, sqlite_where=where)


def _create_messages() -> None:
    op.create_table(
        "messages",
        *(_text(name) for name in ("user_id", "id", "conversation_id")),
        _number("number"),
        _text("parent_id", nullable=True),
        _text("role"),
        _text("turn_id", nullable=True),
        _time("created_at"),
        *(_text(name, nullable=True) for name in ("model", "provider")),
        *_usage(nullable=True),
        *(_text(name, nullable=True) for name in ("ended", "finish_reason")),
        _number("size"),
        sa.Column("body", LosslessBytes, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name="messages_key"),
        sa.ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            name="messages_conversation",
            ondelete="CASCADE",
        ),
    )
    op.create_index("messages_by_number", "messages", ["user_id", "conversation_id", "number"])
    op.create_table(
        "feedback",
        *(_text(name) for name in ("user_id", "message_id", "rating")),
        *(_text(name, nullable=True) for name in ("comment", "model")),
        _time("rated_at"),
        sa.PrimaryKeyConstraint("user_id", "message_id", name="feedback_key"),
        sa.ForeignKeyConstraint(
            ["user_id", "message_id"], ["messages.user_id", "messages.id"], name="feedback_message", ondelete="CASCADE"
        ),
    )
    op.create_index("feedback_by_time", "feedback", ["rated_at", "message_id"])


def downgrade() -> None:
    """Delete the tables with everything in them."""
    for name in ("usage_days", "turns", "feedback", "messages", "conversations", "users"):
        op.drop_table(name)
