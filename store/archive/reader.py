"""Reads of the archive. Each is one statement that uses an index and is bounded in rows and bytes."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Row,
    Select,
    and_,
    bindparam,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.database import ArchiveDatabase
from store.archive.records import ArchivedConversation, ArchivedMessage
from store.archive.rows import (
    COUNTERS,
    archived_conversation_from,
    conversation_from,
    counters_from,
    day_of,
    feedback_from,
    message_from,
)
from store.archive.schema import conversations, feedback, messages, turns, usage_days
from store.archive.types import MS_MAX, MS_MIN, LosslessText
from store.records import (
    DAY_MS,
    ConversationRecord,
    Counters,
    DayUsage,
    FeedbackFilter,
    FeedbackRecord,
    NotFound,
)

BRANCH_MESSAGES_MAX = 1_000_000
"""A longer branch is cut there, and so is one that goes in a circle because its data is damaged."""
SLICE_MESSAGES = 500
_BYTES_MAX = 2**62

_message = [
    messages.c.id,
    messages.c.conversation_id,
    messages.c.number,
    messages.c.parent_id,
    messages.c.role,
    messages.c.turn_id,
    messages.c.created_at,
    messages.c.body,
    conversations.c.incarnation,
    feedback.c.rating,
    feedback.c.comment,
    feedback.c.model.label("rated_model"),
    feedback.c.rated_at,
]
_with_feedback = messages.join(
    conversations,
    (conversations.c.user_id == messages.c.user_id) & (conversations.c.id == messages.c.conversation_id),
).outerjoin(feedback, (feedback.c.user_id == messages.c.user_id) & (feedback.c.message_id == messages.c.id))
_user: BindParameter[str] = bindparam("user", type_=LosslessText())
_conversation: BindParameter[str] = bindparam("conversation", type_=LosslessText())
_last: BindParameter[str] = bindparam("last", type_=LosslessText())
_bytes_max: BindParameter[int] = bindparam("bytes_max", type_=BigInteger())


class Reader:
    """Reads from the archive. See `Archive` for the methods."""

    def __init__(self, database: ArchiveDatabase) -> None:
        self._database = database

    async def conversation(self, user: str, conversation: str) -> ArchivedConversation | None:
        """See `Archive.conversation`."""
        rows = await self._rows(_ONE_CONVERSATION, user=user, conversation=conversation)
        return archived_conversation_from(rows[0]._mapping) if rows else None

    async def conversation_of(self, user: str, message: str) -> str | None:
        """See `Archive.conversation_of`."""
        statement = select(messages.c.conversation_id).where(messages.c.user_id == user, messages.c.id == message)
        rows = await self._rows(statement)
        return rows[0][0] if rows else None

    async def message(self, user: str, message: str) -> ArchivedMessage | None:
        """See `Archive.message`."""
        rows = await self._rows(_ONE_MESSAGE, user=user, message=message)
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
                _BRANCH, user=user, last=above, bytes_max=left_bytes, steps_max=wanted - 1, forced=0 if found else 1
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
        (row,) = await self._rows(_LENGTH, user=user, last=last)
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
        conditions: list[ColumnElement[bool]] = []
        if selected.model is not None:
            conditions.append(feedback.c.model == selected.model)
        if selected.rating is not None:
            conditions.append(feedback.c.rating == selected.rating)
        if selected.since_ms is not None:
            conditions.append(feedback.c.rated_at >= selected.since_ms)
        if selected.until_ms is not None:
            conditions.append(feedback.c.rated_at < selected.until_ms)
        if before is not None:
            time = bindparam("before_ms", before[0], type_=feedback.c.rated_at.type)
            message = bindparam("before_id", before[1], type_=feedback.c.message_id.type)
            conditions.append(tuple_(feedback.c.rated_at, feedback.c.message_id) < tuple_(time, message))
        statement = (
            select(feedback, messages.c.conversation_id, messages.c.turn_id)
            .join_from(
                feedback,
                messages,
                (messages.c.user_id == feedback.c.user_id) & (messages.c.id == feedback.c.message_id),
            )
            .where(true(), *conditions)
            .order_by(feedback.c.rated_at.desc(), feedback.c.message_id.desc())
            .limit(limit + 1)
        )
        rows = await self._rows(statement)
        return [feedback_from(row._mapping) for row in rows[:limit]], len(rows) > limit

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `Archive.usage`. Whole days come from `usage_days`, and the rest from the turns."""
        if conversation is not None:
            found = await self.conversation(user, conversation)
            if found is None:
                raise NotFound("conversation")
            if since_ms is None:
                return found.record.usage
            statement = _sums(turns).where(
                turns.c.user_id == user,
                turns.c.conversation_id == conversation,
                turns.c.incarnation == found.incarnation,
                turns.c.ended_at >= since_ms,
            )
        elif since_ms is None:
            statement = _sums(usage_days).where(usage_days.c.user_id == user)
        else:
            next_day_ms = -(-min(max(since_ms, MS_MIN), MS_MAX - DAY_MS) // DAY_MS) * DAY_MS
            part = union_all(
                select(*(turns.c[name] for name in COUNTERS)).where(
                    turns.c.user_id == user, turns.c.ended_at >= since_ms, turns.c.ended_at < next_day_ms
                ),
                select(*(usage_days.c[name] for name in COUNTERS)).where(
                    usage_days.c.user_id == user, usage_days.c.day >= day_of(next_day_ms)
                ),
            ).subquery()
            statement = _sums(part)
        return counters_from((await self._rows(statement))[0]._mapping)

    async def usage_days(self, user: str) -> list[DayUsage]:
        """See `Archive.usage_days`."""
        statement = (
            _sums(usage_days)
            .add_columns(usage_days.c.day, func.sum(usage_days.c.turn_count).label("turn_count"))
            .where(usage_days.c.user_id == user)
            .group_by(usage_days.c.day)
            .order_by(usage_days.c.day)
        )
        first = date(1970, 1, 1)
        return [
            DayUsage(
                day_ms=(row.day - first).days * DAY_MS, turns=int(row.turn_count), usage=counters_from(row._mapping)
            )
            for row in await self._rows(statement)
        ]

    async def expired(self, now_ms: int, retention_days: int, limit: int) -> list[tuple[str, str]]:
        """See `Archive.expired`."""
        found: list[tuple[int, str, str]] = []
        columns = conversations.c.updated_at, conversations.c.user_id, conversations.c.id
        ages: list[tuple[ColumnElement[Any], ColumnElement[bool]]] = [
            (conversations.c.expires_at, conversations.c.expires_at < now_ms)
        ]
        if retention_days > 0:
            last_ms = now_ms - retention_days * DAY_MS
            ages.append(
                (
                    conversations.c.updated_at,
                    conversations.c.retention_days.is_(None) & (conversations.c.updated_at < last_ms),
                )
            )
        for order, is_over in ages:
            rows = await self._rows(select(*columns).where(is_over).order_by(order).limit(limit))
            found += [(row.updated_at, row.user_id, row.id) for row in rows]
        return [(user, conversation) for _, user, conversation in sorted(found)[:limit]]

    async def _page(
        self, user: str, conversation: str, limit: int, before: str | int | None, bytes_max: int | None
    ) -> tuple[list[ArchivedMessage], bool]:
        rows = await self._rows(
            _PAGES[type(before)],
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


def in_order(statement: Select[Any]) -> Select[Any]:
    """Order conversations by their last change, the newest first."""
    return statement.order_by(conversations.c.change.desc(), conversations.c.id.desc())


def after_conversation(user: str, before: str) -> ColumnElement[bool]:
    """Return the condition that a conversation comes after `before` in the user's list."""
    other = conversations.alias("other")
    place = select(other.c.change, other.c.id).where(other.c.user_id == user, other.c.id == before)
    return tuple_(conversations.c.change, conversations.c.id) < place.scalar_subquery()


def _sums(source: Any) -> Select[Any]:
    return select(*(func.sum(source.c[name]).label(name) for name in COUNTERS))


def _page_statement(before: type) -> Select[Any]:
    """Return the statement for a page of messages, newest first. Sizes are summed before any body is read."""
    condition = and_(messages.c.user_id == _user, messages.c.conversation_id == _conversation)
    if before is int:
        condition &= messages.c.number < bindparam("before")
    if before is str:
        other = messages.alias("other")
        condition &= (
            messages.c.number
            < select(other.c.number)
            .where(
                other.c.user_id == _user,
                other.c.conversation_id == _conversation,
                other.c.id == bindparam("before", type_=messages.c.id.type),
            )
            .scalar_subquery()
        )
    candidates = (
        select(messages.c.id, messages.c.number, messages.c.size)
        .where(condition)
        .order_by(messages.c.number.desc())
        .limit(bindparam("found_max"))
        .subquery("candidates")
    )
    newest_first = candidates.c.number.desc()
    summed = select(
        candidates.c.id,
        func.row_number().over(order_by=newest_first).label("place"),
        func.sum(candidates.c.size).over(order_by=newest_first).label("bytes"),
        func.count().over().label("found"),
    ).subquery("summed")
    return (
        select(*_message, summed.c.found)
        .select_from(summed.join(_with_feedback, (messages.c.user_id == _user) & (messages.c.id == summed.c.id)))
        .where(
            or_(summed.c.place == 1, summed.c.bytes <= bindparam("bytes_max")), summed.c.place <= bindparam("count_max")
        )
        .order_by(summed.c.place)
    )


def _branch_statement() -> Select[Any]:
    """Return the statement for a slice of a branch, newest first. Sizes are summed before any body is read."""
    first = select(
        messages.c.id, messages.c.parent_id, messages.c.size.label("bytes"), literal(0, BigInteger).label("step")
    )
    up = first.where(messages.c.user_id == _user, messages.c.id == _last).cte("up", recursive=True)
    parents = messages.alias("parents")
    up = up.union_all(
        select(parents.c.id, parents.c.parent_id, up.c.bytes + parents.c.size, up.c.step + 1).where(
            parents.c.user_id == _user,
            parents.c.id == up.c.parent_id,
            up.c.step < bindparam("steps_max", type_=BigInteger),
            up.c.bytes <= _bytes_max,
        )
    )
    is_forced = (up.c.step == 0) & (bindparam("forced", type_=BigInteger) == 1)
    return (
        select(*_message, messages.c.depth, up.c.bytes)
        .select_from(up.join(_with_feedback, (messages.c.user_id == _user) & (messages.c.id == up.c.id)))
        .where(or_(is_forced, up.c.bytes <= _bytes_max))
        .order_by(up.c.step)
    )


def _length_statement() -> Select[int, Any]:
    """Return the statement that counts the messages up to the root, or to the first one whose depth is known."""
    first = select(messages.c.id, messages.c.parent_id, messages.c.depth, literal(1, BigInteger).label("step"))
    up = first.where(messages.c.user_id == _user, messages.c.id == _last).cte("up", recursive=True)
    parents = messages.alias("parents")
    up = up.union_all(
        select(parents.c.id, parents.c.parent_id, parents.c.depth, up.c.step + 1).where(
            parents.c.user_id == _user,
            parents.c.id == up.c.parent_id,
            up.c.depth.is_(None),
            up.c.step < BRANCH_MESSAGES_MAX,
        )
    )
    return select(func.count().label("length"), func.max(up.c.depth).label("depth")).select_from(up)


_ONE_CONVERSATION = select(conversations).where(conversations.c.user_id == _user, conversations.c.id == _conversation)
_ONE_MESSAGE = (
    select(*_message)
    .select_from(_with_feedback)
    .where(messages.c.user_id == _user, messages.c.id == bindparam("message", type_=messages.c.id.type))
)
_PAGES = {kind: _page_statement(kind) for kind in (type(None), str, int)}
_BRANCH = _branch_statement()
_LENGTH = _length_statement()
