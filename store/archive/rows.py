"""The rows of the archive's tables: made of the entries of an outbox, and turned into records again."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import RowMapping

from store.archive.facts import facts_of, search_terms, search_words
from store.archive.records import (
    ArchivedConversation,
    ArchivedMessage,
    ArchivedTurn,
    OutboxItem,
    RemovedConversation,
)
from store.archive.types import INTEGER_MAX, MS_MAX, MS_MIN
from store.records import DAY_MS, ConversationRecord, Counters, FeedbackRecord, MessageRecord
from store.search_text import message_text

COUNTERS = Counters.__struct_fields__
RETENTION_DAYS_MAX = 2**31 - 1


def refusal(item: OutboxItem) -> str | None:
    """Return why no database can hold the item, or None if it can."""
    match item:
        case ArchivedConversation(record=record):
            numbers: dict[str, int | None] = {
                "change": item.change,
                "next_number": item.next_number,
                "cleared": item.cleared,
                "size": item.size,
                "revision": record.revision,
                "messages": record.messages,
                **_counters(record.usage),
            }
            times: dict[str, int | None] = {"created_ms": record.created_ms, "updated_ms": record.updated_ms}
            days = retention_of(item)
            if days is not None and not 0 <= days <= RETENTION_DAYS_MAX:
                return "retention_days is out of range"
        case ArchivedMessage(record=message):
            numbers = {"number": item.number}
            times = {"created_ms": message.created_ms, "rated_ms": item.rated_ms}
        case ArchivedTurn():
            numbers, times = _counters(item.usage), {"ended_ms": item.ended_ms}
        case RemovedConversation():
            return None
    for name, value in numbers.items():
        if value is not None and abs(value) > INTEGER_MAX:
            return f"{name} is beyond 64 bits"
    for name, value in times.items():
        if value is not None and not MS_MIN <= value <= MS_MAX:
            return f"{name} is outside the years 1 to 9999"
    return None


def retention_of(item: ArchivedConversation) -> int | None:
    """Return the retention in days that the conversation itself has; None if the setting applies."""
    return item.record.retention_days if item.retention_days is None else item.retention_days


def conversation_row(user: str, item: ArchivedConversation) -> dict[str, Any]:
    """Return a conversation as a row."""
    record, days = item.record, retention_of(item)
    expires_ms = record.updated_ms + days * DAY_MS if days else None
    return {
        "user_id": user,
        "id": record.id,
        "incarnation": item.incarnation,
        "change": item.change,
        "title": record.title,
        "system": record.system,
        "model": record.model,
        "metadata": record.metadata,
        "head_id": record.head,
        "revision": record.revision,
        "cleared_revision": item.cleared,
        "next_number": item.next_number,
        "created_at": record.created_ms,
        "updated_at": record.updated_ms,
        "message_count": record.messages,
        **_counters(record.usage),
        "size": item.size,
        "retention_days": days,
        "pinned": int(record.pinned),
        "expires_at": expires_ms if expires_ms is not None and expires_ms <= MS_MAX else None,
        "search_title": search_title(record.title),
    }


def placeholder_row(user: str, item: ArchivedMessage, change: int) -> dict[str, Any]:
    """Return a row for the conversation of a message that arrives before it. `change`: that of the message."""
    record = ConversationRecord(
        id=item.conversation,
        user=user,
        title="",
        system=None,
        model=None,
        metadata=b"{}",
        head=None,
        revision=0,
        created_ms=item.record.created_ms,
        updated_ms=item.record.created_ms,
    )
    return conversation_row(
        user,
        ArchivedConversation(
            record=record,
            incarnation=item.incarnation or "",
            change=change,
            next_number=item.number + 1,
            cleared=0,
            size=0,
        ),
    )


def message_row(user: str, item: ArchivedMessage) -> dict[str, Any]:
    """Return a message as a row. This takes some ms for a large body.

    `terms` is the value for the column `search_terms`. By `owner` and `above`, the statement finds the parent for `depth`.
    """
    record, facts = item.record, facts_of(item.record.body)
    spaced = search_words(message_text(record.body))
    return {
        "user_id": user,
        "id": record.id,
        "conversation_id": item.conversation,
        "number": item.number,
        "parent_id": record.parent,
        "role": record.role,
        "turn_id": record.turn,
        "created_at": record.created_ms,
        **facts.columns(),
        "size": len(record.body),
        "search_words": spaced or None,
        "terms": search_terms(user, spaced) or None,
        "owner": user,
        "above": record.parent,
        "body": record.body,
    }


def feedback_row(user: str, item: ArchivedMessage) -> dict[str, Any]:
    """Return the feedback of a message that has some, as a row."""
    return {
        "user_id": user,
        "message_id": item.record.id,
        "rating": item.record.rating,
        "comment": item.record.comment,
        "model": item.rated_model,
        "rated_at": item.record.created_ms if item.rated_ms is None else item.rated_ms,
    }


def turn_row(user: str, item: ArchivedTurn) -> dict[str, Any]:
    """Return a turn as a row."""
    return {
        "user_id": user,
        "id": item.turn,
        "conversation_id": item.conversation,
        "incarnation": item.incarnation,
        "model": item.model,
        "status": item.status,
        "ended_at": item.ended_ms,
        **_counters(item.usage),
    }


def day_rows(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the sums of `turns`, each a row, by user, day and model, in that order."""
    sums: dict[tuple[str, date, str], dict[str, Any]] = {}
    for turn in turns:
        key = (turn["user_id"], day_of(turn["ended_at"]), turn["model"])
        row = sums.setdefault(key, dict(zip(("user_id", "day", "model"), key, strict=True)) | {"turn_count": 0})
        row["turn_count"] += 1
        for name in COUNTERS:
            if turn[name] is not None:
                row[name] = min((row.get(name) or 0) + turn[name], INTEGER_MAX)
            else:
                row.setdefault(name, None)
    return [sums[key] for key in sorted(sums)]


def day_of(ms: int) -> date:
    """Return the UTC day of a time in ms."""
    return date.fromordinal(datetime(1970, 1, 1, tzinfo=UTC).toordinal() + ms // DAY_MS)


def search_title(title: str) -> str:
    """Return a title, or a query for titles, as the search compares it."""
    return title.casefold()


def counters_from(row: RowMapping) -> Counters:
    """Return the counters in a row. Sums may be null, or of another type of number."""
    cost_nano = row["cost_nano"]
    return Counters(
        cost_nano=None if cost_nano is None else int(cost_nano),
        **{name: int(row[name] or 0) for name in COUNTERS if name != "cost_nano"},
    )


def conversation_from(row: RowMapping) -> ConversationRecord:
    """Return the conversation of a row."""
    return ConversationRecord(
        id=row["id"],
        user=row["user_id"],
        title=row["title"],
        system=row["system"],
        model=row["model"],
        metadata=row["metadata"],
        head=row["head_id"],
        revision=row["revision"],
        created_ms=row["created_at"],
        updated_ms=row["updated_at"],
        messages=row["message_count"],
        usage=counters_from(row),
        retention_days=row["retention_days"],
        pinned=bool(row["pinned"]),
    )


def archived_conversation_from(row: RowMapping) -> ArchivedConversation:
    """Return the conversation of a row, with what the archive knows besides."""
    return ArchivedConversation(
        record=conversation_from(row),
        incarnation=row["incarnation"],
        change=row["change"],
        next_number=row["next_number"],
        cleared=row["cleared_revision"],
        size=row["size"],
        retention_days=row["retention_days"],
    )


def message_from(row: RowMapping) -> ArchivedMessage:
    """Return the message of a row that has its feedback too."""
    record = MessageRecord(
        id=row["id"],
        parent=row["parent_id"],
        role=row["role"],
        created_ms=row["created_at"],
        body=row["body"],
        turn=row["turn_id"],
        rating=row["rating"],
        comment=row["comment"],
    )
    return ArchivedMessage(
        record=record,
        conversation=row["conversation_id"],
        number=row["number"],
        incarnation=row["incarnation"],
        rated_ms=row["rated_at"],
        rated_model=row["rated_model"],
    )


def feedback_from(row: RowMapping) -> FeedbackRecord:
    """Return the feedback of a row that has the message's conversation and turn too."""
    return FeedbackRecord(
        user=row["user_id"],
        message=row["message_id"],
        conversation=row["conversation_id"],
        turn=row["turn_id"],
        model=row["model"],
        rating=row["rating"],
        comment=row["comment"],
        rated_ms=row["rated_at"],
    )


def _counters(usage: Counters) -> dict[str, int | None]:
    return {name: getattr(usage, name) for name in COUNTERS}
