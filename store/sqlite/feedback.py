"""Ratings of messages in the SQLite store."""

from __future__ import annotations

import sqlite3

from store.records import FeedbackFilter, FeedbackRecord
from store.sqlite.database import SqlitePart
from store.sqlite.history import get_message


class SqliteFeedback(SqlitePart):
    """The feedback of a `HistoryStore` in the SQLite store."""

    async def put_feedback(
        self, user: str, message: str, rating: str, comment: str | None, now_ms: int, model: str | None = None
    ) -> None:
        """See `HistoryStore`."""
        await self._db.run(_put_feedback, user, (message, user, rating, comment, now_ms, model))

    async def list_feedback(
        self, selected: FeedbackFilter, limit: int, before: tuple[int, str] | None
    ) -> tuple[list[FeedbackRecord], bool]:
        """See `HistoryStore`."""
        found = await self._db.run(_list_feedback, selected, limit + 1, before)
        return found[:limit], len(found) > limit


def _put_feedback(db: sqlite3.Connection, user: str, row: tuple[str, str, str, str | None, int, str | None]) -> None:
    message = row[0]
    get_message(db, user, message)
    db.execute(
        "INSERT OR REPLACE INTO feedback (message, user, rating, comment, at_ms, model) VALUES (?, ?, ?, ?, ?, ?)", row
    )


def _list_feedback(
    db: sqlite3.Connection, selected: FeedbackFilter, limit: int, before: tuple[int, str] | None
) -> list[FeedbackRecord]:
    conditions: dict[str, list[str | int | None]] = {
        "feedback.model = ?": [selected.model],
        "rating = ?": [selected.rating],
        "at_ms >= ?": [selected.since_ms],
        "at_ms < ?": [selected.until_ms],
        "(at_ms, message) < (?, ?)": [None] if before is None else [*before],
    }
    used = {condition: values for condition, values in conditions.items() if values[0] is not None}
    rows = db.execute(
        "SELECT feedback.user, message, conversations.id AS conversation, turn, feedback.model, rating, comment,"
        " at_ms AS rated_ms FROM feedback JOIN messages ON messages.user = feedback.user AND messages.id = message"
        f" JOIN conversations ON conversations.key = messages.conversation WHERE {' AND '.join(['TRUE', *used])}"
        " ORDER BY at_ms DESC, message DESC LIMIT ?",
        (*(value for values in used.values() for value in values), limit),
    )
    return [FeedbackRecord(**dict(row)) for row in rows]
