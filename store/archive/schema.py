"""The tables of an archive. `docs/schema.md` is generated from them: the comments are the documentation.

A change needs a migration in `store/archive/migrations`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    text,
)

from store.archive.types import LosslessBytes, LosslessText, Moment, Terms

REVISIONS = ("0001", "0002", "0003", "0004")
"""The revisions of the schema, oldest first."""
VERSION_TABLE = "turnwire_version"
"""The table with the revision of the schema, in Alembic's form."""

metadata = MetaData()


def _key() -> Column[str]:
    return Column("user_id", LosslessText, nullable=False, comment="The user, as in the credential.")


def _text(name: str, comment: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, LosslessText, nullable=nullable, comment=comment)


def _number(name: str, comment: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable, comment=comment)


def _time(name: str, comment: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, Moment, nullable=nullable, comment=comment)


def _usage(what: str, *, nullable: bool = False) -> list[Column[int]]:
    return [
        _number("input_tokens", f"Input tokens of {what}, with those of the cache.", nullable=nullable),
        _number("output_tokens", f"Output tokens of {what}, with reasoning.", nullable=nullable),
        _number("reasoning_tokens", f"Reasoning tokens of {what}.", nullable=nullable),
        _number(
            "cache_read_tokens",
            "How many of the input tokens were read from the provider's cache.",
            nullable=nullable,
        ),
        _number("cache_write_tokens", "How many of the input tokens were written to the cache.", nullable=nullable),
        _number("cost_nano", f"Cost of {what}, in billionths of a US dollar. Null: no price is known.", nullable=True),
    ]


users = Table(
    "users",
    metadata,
    _key(),
    _number("applied", "The number of the user's last change that is in the archive."),
    Column("conversation_count", Integer, nullable=False, comment="How many conversations the archive has."),
    _number("stored_bytes", "The bytes of those conversations: the sum of their sizes."),
    PrimaryKeyConstraint("user_id", name="users_key"),
    comment="Users who have anything in the archive. Deleting a row deletes everything of the user.",
)

conversations = Table(
    "conversations",
    metadata,
    _key(),
    _text("id", "The conversation's id, unique for its user only."),
    _text("incarnation", "Tells the conversation from earlier ones with the same id."),
    _number("change", "The number of its last change. The user's list is ordered by it."),
    _text("title", "The title; empty if it has none."),
    _text("system", "The system prompt.", nullable=True),
    _text("model", "The model of its next turns.", nullable=True),
    Column("metadata", LosslessBytes, nullable=False, comment="The client's own data, as JSON."),
    _text("head_id", "The message after which the conversation continues.", nullable=True),
    _number("revision", "Counts the changes of the conversation."),
    _number("cleared_revision", "The revision at which its context was cleared last; 0 if it never was."),
    _number("next_number", "The number of its next message or turn."),
    _time("created_at", "When it was created."),
    _time("updated_at", "When it was changed last. Retention counts from then."),
    _number("message_count", "How many messages it has."),
    *_usage("its turns"),
    _number("size", "The bytes of its title, system prompt, metadata and messages."),
    Column(
        "retention_days",
        Integer,
        comment="How many days after its last change it is kept: 0 means forever, null as TURNWIRE_RETENTION_DAYS says.",
    ),
    _time("expires_at", "When it will be deleted, if it has retention days of its own.", nullable=True),
    Column(
        "search_title",
        LosslessText,
        nullable=False,
        server_default="",
        comment="The title as the search compares it.",
    ),
    Column("pinned", SmallInteger, nullable=False, server_default="0", comment="1 if its user has pinned it, else 0."),
    PrimaryKeyConstraint("user_id", "id", name="conversations_key"),
    ForeignKeyConstraint(["user_id"], ["users.user_id"], name="conversations_user", ondelete="CASCADE"),
    comment="Conversations. Deleting a row deletes its messages and their feedback.",
)
Index("conversations_by_change", conversations.c.user_id, conversations.c.change, conversations.c.id)
Index(
    "conversations_pinned",
    conversations.c.user_id,
    conversations.c.change,
    postgresql_where=text("pinned = 1"),
    sqlite_where=text("pinned = 1"),
)
Index(
    "conversations_by_update",
    conversations.c.updated_at,
    postgresql_where=text("retention_days IS NULL"),
    sqlite_where=text("retention_days IS NULL"),
)
Index(
    "conversations_by_expiry",
    conversations.c.expires_at,
    postgresql_where=text("expires_at IS NOT NULL"),
    sqlite_where=text("expires_at IS NOT NULL"),
)

messages = Table(
    "messages",
    metadata,
    _key(),
    _text("id", "The message's id."),
    _text("conversation_id", "Its conversation."),
    _number("number", "Orders the messages of a conversation."),
    _text("parent_id", "The message that it follows; null if it is the first.", nullable=True),
    _text("role", "user, assistant or tool."),
    _text("turn_id", "The turn that wrote it, or whose input it is.", nullable=True),
    _time("created_at", "When it was created."),
    _text("model", "The model that wrote it.", nullable=True),
    _text("provider", "The provider that served the model.", nullable=True),
    *_usage("the turn that wrote it", nullable=True),
    _text("ended", "How the turn that wrote it ended: completed, cancelled or failed.", nullable=True),
    _text("finish_reason", "Why the model stopped.", nullable=True),
    _number("size", "The bytes of its body."),
    _text(
        "search_words", "The words of its text as the search compares them, with a space around each.", nullable=True
    ),
    Column("search_terms", Terms, comment="What the index of the search has. PostgreSQL only."),
    _number("depth", "How many messages are before it on its branch. Null: unknown.", nullable=True),
    Column("body", LosslessBytes, nullable=False, comment="Everything else, as JSON: parts, usage, timing, metadata."),
    PrimaryKeyConstraint("user_id", "id", name="messages_key"),
    ForeignKeyConstraint(
        ["user_id", "conversation_id"],
        ["conversations.user_id", "conversations.id"],
        name="messages_conversation",
        ondelete="CASCADE",
    ),
    comment="Messages: what users asked and what models answered.",
)
Index("messages_by_number", messages.c.user_id, messages.c.conversation_id, messages.c.number)
Index("messages_by_term", messages.c.search_terms, postgresql_using="gin").ddl_if("postgresql")

feedback = Table(
    "feedback",
    metadata,
    _key(),
    _text("message_id", "The message that is rated."),
    _text("rating", "up, down, or a number."),
    _text("comment", "What the user wrote about it.", nullable=True),
    _text("model", "The model that wrote the message.", nullable=True),
    _time("rated_at", "When it was rated last."),
    PrimaryKeyConstraint("user_id", "message_id", name="feedback_key"),
    ForeignKeyConstraint(
        ["user_id", "message_id"], ["messages.user_id", "messages.id"], name="feedback_message", ondelete="CASCADE"
    ),
    comment="Ratings of messages, the last of each message.",
)
Index("feedback_by_time", feedback.c.rated_at, feedback.c.message_id)

turns = Table(
    "turns",
    metadata,
    _key(),
    _text(
        "id",
        "The turn's id. If a client used it again a day later, ~ and the time are appended to that of the later turn.",
    ),
    _text("conversation_id", "Its conversation, which may be deleted. Null: the turn was stateless.", nullable=True),
    _text("incarnation", "The incarnation of that conversation.", nullable=True),
    _text("model", "The model that was asked."),
    _text("status", "completed, cancelled or failed."),
    _time("ended_at", "When it ended."),
    *_usage("the turn"),
    PrimaryKeyConstraint("user_id", "id", name="turns_key"),
    ForeignKeyConstraint(["user_id"], ["users.user_id"], name="turns_user", ondelete="CASCADE"),
    comment="The usage of each ended turn. It stays when the conversation is deleted.",
)
Index("turns_by_end", turns.c.user_id, turns.c.ended_at)
Index("turns_by_conversation", turns.c.user_id, turns.c.conversation_id, turns.c.ended_at)

usage_days = Table(
    "usage_days",
    metadata,
    _key(),
    Column("day", Date, nullable=False, comment="The day of the endings, in UTC."),
    _text("model", "The model that was asked."),
    _number("turn_count", "How many turns ended."),
    *_usage("those turns"),
    PrimaryKeyConstraint("user_id", "day", "model", name="usage_days_key"),
    ForeignKeyConstraint(["user_id"], ["users.user_id"], name="usage_days_user", ondelete="CASCADE"),
    comment="The sums of the turns by user, day and model. It stays when conversations are deleted.",
)
