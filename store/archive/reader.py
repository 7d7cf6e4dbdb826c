"""Reads of the archive. Their statements are in `read_statements.py`."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.database import ArchiveDatabase
from store.archive.read_statements import (
    BRANCH,
    BRANCH_MESSAGES_MAX,
    LENGTH,
    ONE_CONVERSATION,
    ONE_MESSAGE,
    PAGES,
    USAGE_DAYS,
    after_conversation,
    expired_statements,
    feedback_page,
    in_order,
    sums_of,
    usage_since,
)
from store.archive.records import ArchivedConversation, ArchivedMessage
from store.archive.rows import (
    archived_conversation_from,
    conversation_from,
    counters_from,
    feedback_from,
    message_from,
)
from store.archive.schema import conversations, messages, turns, usage_days
from store.errors import NotFound
from store.records import DAY_MS, ConversationRecord, Counters, DayUsage, FeedbackFilter, FeedbackRecord

SLICE_MESSAGES = 500
_BYTES_MAX = 2**62


class Reader:
    """Reads from the archive. See `Archive` for the methods."""

    def __init__(self, database: ArchiveDatabase) -> None:
        self._database = database

    async def conversation(self, user: str, conversation: str) -> ArchivedConversation | None:
        """See `Archive.conversation`."""
        rows = await self._rows(ONE_CONVERSATION, user=user, conversation=conversation)
        return archived_conversation_from(rows[0]._mapping) if rows else None

    async def conversation_of(self, user: str, message: str) -> str | None:
        """See `Archive.conversation_of`."""
        statement = select(messages.c.conversation_id).where(messages.c.user_id == user, messages.c.id == message)
        rows = await self._rows(statement)
        return rows[0][0] if rows else None

    async def message(self, user: str, message: str) -> ArchivedMessage | None:
        """See `Archive.message`."""
        rows = await self._rows(ONE_MESSAGE, user=user, message=message)
        return message_from(rows[0]._mapping) if rows else None

    async def newest(
        self, user: str, conversation: str, limit: int, bytes_max: int
    ) -> tuple[list[ArchivedMessage], bool]:
        """See `Archive.newest`. There are none if the conversation doesn't exist."""
        return await self._page(user, conversation, limit, None, bytes_max)

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | int | None, bytes_max: int | None
    ) -> tuple[list[ArchivedMessage], bool]:
        """See `Archive.messages`."""
        page, has_older = await self._page(user, conversation, limit, before, bytes_max)
        if not page:
            if await self.conversation(user, conversation) is None:
                raise NotFound("conversation")
            if isinstance(before, str) and await self.conversation_of(user, before) != conversation:
                raise NotFound("before")
        return page, has_older

    async def branch(
        self, user: str, conversation: str, last: str, bytes_max: int | None, count_max: int | None = None
    ) -> tuple[list[ArchivedMessage], int]:
        """See `Archive.branch`. It is read in slices, so that a long one doesn't hold the event loop."""
        left_bytes = _BYTES_MAX if bytes_max is None else bytes_max
        left = BRANCH_MESSAGES_MAX if count_max is None else max(count_max, 1)
        found: list[ArchivedMessage] = []
        above: str | None = last
        depth: int | None = None
        while above is not None and left > 0:
            wanted = min(left, SLICE_MESSAGES)
            rows = await self._rows(
                BRANCH, user=user, last=above, bytes_max=left_bytes, steps_max=wanted - 1, forced=0 if found else 1
            )
            if not found and (not rows or rows[0].conversation_id != conversation):
                raise NotFound("parent")
            if rows:
                found += [message_from(row._mapping) for row in rows]
                above, depth = rows[-1].parent_id, rows[-1].depth
                left_bytes -= rows[-1].bytes
                left -= len(rows)
            if len(rows) < wanted:
                break
        if above is None:
            older = 0
        elif depth is not None:
            older = depth
        else:
            older = await self._length(user, above)
        return found[::-1], older

    async def _length(self, user: str, last: str) -> int:
        """Return the number of messages from the root to `last`. It walks up to the first one whose depth is known."""
        (row,) = await self._rows(LENGTH, user=user, last=last)
        return int(row.length) + int(row.depth or 0)

    async def conversations(
        self, user: str, limit: int, before: str | None, *, pinned: bool = False
    ) -> tuple[list[ConversationRecord], bool]:
        """See `Archive.conversations`."""
        statement = select(conversations).where(conversations.c.user_id == user)
        if pinned:
            statement = statement.where(conversations.c.pinned == 1)
        if before is not None:
            statement = statement.where(after_conversation(user, before))
        rows = await self._rows(in_order(statement).limit(limit + 1))
        if not rows and before is not None:
            await self.check_before(user, before)
        return [conversation_from(row._mapping) for row in rows[:limit]], len(rows) > limit

    async def check_before(self, user: str, before: str) -> None:
        """Raise `NotFound` if the user has no conversation `before`."""
        if await self.conversation(user, before) is None:
            raise NotFound("before")

    async def list_feedback(
        self, selected: FeedbackFilter, limit: int, before: tuple[int, str] | None
    ) -> tuple[list[FeedbackRecord], bool]:
        """See `Archive.list_feedback`."""
        rows = await self._rows(feedback_page(selected, limit + 1, before))
        return [feedback_from(row._mapping) for row in rows[:limit]], len(rows) > limit

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `Archive.usage`. Whole days come from `usage_days`, and the rest from the turns."""
        if conversation is not None:
            found = await self.conversation(user, conversation)
            if found is None:
                raise NotFound("conversation")
            if since_ms is None:
                return found.record.usage
            statement = sums_of(turns).where(
                turns.c.user_id == user,
                turns.c.conversation_id == conversation,
                turns.c.incarnation == found.incarnation,
                turns.c.ended_at >= since_ms,
            )
        elif since_ms is None:
            statement = sums_of(usage_days).where(usage_days.c.user_id == user)
        else:
            statement = usage_since(user, since_ms)
        return counters_from((await self._rows(statement))[0]._mapping)

    async def usage_days(self, user: str) -> list[DayUsage]:
        """See `Archive.usage_days`."""
        first = date(1970, 1, 1)
        return [
            DayUsage(
                day_ms=(row.day - first).days * DAY_MS, turns=int(row.turn_count), usage=counters_from(row._mapping)
            )
            for row in await self._rows(USAGE_DAYS, user=user)
        ]

    async def expired(self, now_ms: int, retention_days: int, limit: int) -> list[tuple[str, str]]:
        """See `Archive.expired`."""
        found: list[tuple[int, str, str]] = []
        for statement in expired_statements(now_ms, retention_days, limit):
            rows = await self._rows(statement)
            found += [(row.updated_at, row.user_id, row.id) for row in rows]
        return [(user, conversation) for _, user, conversation in sorted(found)[:limit]]

    async def _page(
        self, user: str, conversation: str, limit: int, before: str | int | None, bytes_max: int | None
    ) -> tuple[list[ArchivedMessage], bool]:
        rows = await self._rows(
            PAGES[type(before)],
            user=user,
            conversation=conversation,
            bytes_max=_BYTES_MAX if bytes_max is None else bytes_max,
            count_max=limit,
            found_max=limit + 1,
            **({} if before is None else {"before": before}),
        )
        page = [message_from(row._mapping) for row in reversed(rows)]
        return page, bool(rows) and rows[0].found > len(rows)

    async def _rows(self, statement: Any, **parameters: Any) -> list[Row[Any]]:
        async def work(connection: AsyncConnection) -> list[Row[Any]]:
            return list(await connection.execute(statement, parameters))

        return await self._database.read(work)
