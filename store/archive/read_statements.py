"""The SQL statements that read the archive. Each uses an index, and is bounded in rows and bytes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
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

from store.archive.rows import COUNTERS, day_of
from store.archive.schema import conversations, feedback, messages, turns, usage_days
from store.archive.types import MS_MAX, MS_MIN, LosslessText
from store.records import DAY_MS, FeedbackFilter

BRANCH_MESSAGES_MAX = 1_000_000
"""A longer branch is cut there. So is a branch whose damaged data leads back to a message that is in it already."""

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


def in_order(statement: Select[Any]) -> Select[Any]:
    """Order conversations by their last change, the newest first."""
    return statement.order_by(conversations.c.change.desc(), conversations.c.id.desc())


def after_conversation(user: str, before: str) -> ColumnElement[bool]:
    """Return the condition that a conversation comes after `before` in the user's list."""
    other = conversations.alias("other")
    place = select(other.c.change, other.c.id).where(other.c.user_id == user, other.c.id == before)
    return tuple_(conversations.c.change, conversations.c.id) < place.scalar_subquery()


def sums_of(source: Any) -> Select[Any]:
    """Return the selection of the sums of the counter columns of `source`."""
    return select(*(func.sum(source.c[name]).label(name) for name in COUNTERS))


def feedback_page(selected: FeedbackFilter, limit: int, before: tuple[int, str] | None) -> Select[Any]:
    """Return the statement for a page of the feedback, newest first. `before`: (time, id of the message)."""
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
    return (
        select(feedback, messages.c.conversation_id, messages.c.turn_id)
        .join_from(
            feedback,
            messages,
            (messages.c.user_id == feedback.c.user_id) & (messages.c.id == feedback.c.message_id),
        )
        .where(true(), *conditions)
        .order_by(feedback.c.rated_at.desc(), feedback.c.message_id.desc())
        .limit(limit)
    )


def usage_since(user: str, since_ms: int) -> Select[Any]:
    """Return the statement for the sums from `since_ms` on. Whole days come from `usage_days`, and the rest from the turns."""
    next_day_ms = -(-min(max(since_ms, MS_MIN), MS_MAX - DAY_MS) // DAY_MS) * DAY_MS
    part = union_all(
        select(*(turns.c[name] for name in COUNTERS)).where(
            turns.c.user_id == user, turns.c.ended_at >= since_ms, turns.c.ended_at < next_day_ms
        ),
        select(*(usage_days.c[name] for name in COUNTERS)).where(
            usage_days.c.user_id == user, usage_days.c.day >= day_of(next_day_ms)
        ),
    ).subquery()
    return sums_of(part)


def expired_statements(now_ms: int, retention_days: int, limit: int) -> list[Select[Any]]:
    """Return the statements that find expired conversations.

    One is for those with a retention of their own, and one for those that the setting `retention_days` applies to.
    """
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
    return [select(*columns).where(is_over).order_by(order).limit(limit) for order, is_over in ages]


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


ONE_CONVERSATION = select(conversations).where(conversations.c.user_id == _user, conversations.c.id == _conversation)
ONE_MESSAGE = (
    select(*_message)
    .select_from(_with_feedback)
    .where(messages.c.user_id == _user, messages.c.id == bindparam("message", type_=messages.c.id.type))
)
PAGES = {kind: _page_statement(kind) for kind in (type(None), str, int)}
BRANCH = _branch_statement()
LENGTH = _length_statement()
USAGE_DAYS = (
    sums_of(usage_days)
    .add_columns(usage_days.c.day, func.sum(usage_days.c.turn_count).label("turn_count"))
    .where(usage_days.c.user_id == _user)
    .group_by(usage_days.c.day)
    .order_by(usage_days.c.day)
)
