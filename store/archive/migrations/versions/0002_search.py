"""The search: the words of titles and messages, and PostgreSQL's index of them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from store.archive.facts import search_terms, search_words
from store.archive.rows import search_title
from store.archive.types import LosslessBytes, LosslessText, Terms
from store.search_text import message_text

revision = "0002"
down_revision = "0001"

BYTES_AT_ONCE = 16 * 2**20
ROWS_AT_ONCE = 500

_conversations = sa.table(
    "conversations", *(sa.column(name, LosslessText()) for name in ("user_id", "id", "title", "search_title"))
)
_messages = sa.table(
    "messages",
    *(sa.column(name, LosslessText()) for name in ("user_id", "id")),
    sa.column("size", sa.BigInteger()),
    sa.column("body", LosslessBytes()),
    sa.column("search_words", LosslessText()),
    sa.column("search_terms", Terms()),
)


def upgrade() -> None:
    """Add the columns and the index, and fill them for the existing rows."""
    connection = op.get_bind()
    op.add_column("conversations", sa.Column("search_title", LosslessText, nullable=False, server_default=""))
    op.add_column("messages", sa.Column("search_words", LosslessText))
    op.add_column("messages", sa.Column("search_terms", Terms))
    _fill_titles(connection)
    _fill_messages(connection)
    if connection.dialect.name == "postgresql":
        op.create_index("messages_by_term", "messages", ["search_terms"], postgresql_using="gin")


def _fill_titles(connection: sa.Connection) -> None:
    table = _conversations
    put = table.update().where(*_is_row(table)).values(search_title=sa.bindparam("new_title", type_=LosslessText()))
    after: tuple[str, str] | None = None
    while rows := connection.execute(_next(table, after, table.c.title)).all():
        after = rows[-1].user_id, rows[-1].id
        connection.execute(
            put, [{"key_user": row.user_id, "key_id": row.id, "new_title": search_title(row.title)} for row in rows]
        )


def _fill_messages(connection: sa.Connection) -> None:
    table = _messages
    values: dict[str, Any] = {"search_words": sa.bindparam("words", type_=LosslessText())}
    if connection.dialect.name == "postgresql":
        terms = sa.func.string_to_array(sa.bindparam("terms", type_=sa.Text), " ")
        values["search_terms"] = sa.func.array_to_tsvector(terms)
    put = table.update().where(*_is_row(table)).values(values)
    after: tuple[str, str] | None = None
    while sizes := connection.execute(_next(table, after, table.c.size)).all():
        count, total = 0, 0
        while count < len(sizes) and (count == 0 or total + sizes[count].size <= BYTES_AT_ONCE):
            total += sizes[count].size
            count += 1
        changed = []
        for row in connection.execute(_next(table, after, table.c.body, limit=count)):
            words = search_words(message_text(row.body))
            if words:
                row_terms = {"terms": search_terms(row.user_id, words)} if "search_terms" in values else {}
                changed.append({"key_user": row.user_id, "key_id": row.id, "words": words, **row_terms})
        if changed:
            connection.execute(put, changed)
        after = sizes[count - 1].user_id, sizes[count - 1].id


def _is_row(table: sa.TableClause) -> list[sa.ColumnElement[bool]]:
    return [
        table.c.user_id == sa.bindparam("key_user", type_=LosslessText()),
        table.c.id == sa.bindparam("key_id", type_=LosslessText()),
    ]


def _next(
    table: sa.TableClause, after: tuple[str, str] | None, column: sa.ColumnClause[Any], limit: int = ROWS_AT_ONCE
) -> sa.Select[Any]:
    rows = sa.select(table.c.user_id, table.c.id, column).order_by(table.c.user_id, table.c.id).limit(limit)
    if after is None:
        return rows
    last = sa.tuple_(*(sa.literal(value, LosslessText()) for value in after))
    return rows.where(sa.tuple_(table.c.user_id, table.c.id) > last)


def downgrade() -> None:
    """Remove the columns and the index."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index("messages_by_term", "messages")
    op.drop_column("messages", "search_terms")
    op.drop_column("messages", "search_words")
    op.drop_column("conversations", "search_title")
