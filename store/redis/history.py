"""Conversations, messages, feedback and usage in Redis. Each change restarts a conversation's time to live."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import msgspec

from store.records import (
    DAY_MS,
    PINNED_MAX,
    Change,
    ConversationRecord,
    Counters,
    DayUsage,
    FeedbackFilter,
    FeedbackRecord,
    MessageRecord,
    TurnLimits,
)
from store.redis.client import RedisPart, ScriptCall
from store.redis.commands import Argument
from store.redis.keys import FEEDBACK_KEY, decode_message_ref, encode_message_ref, encode_text, user_prefix
from store.redis.records import (
    conversation_record,
    counters,
    feedback_record,
    message_record,
    pack,
    parse_reply,
)

FEEDBACK_PER_SLICE = 200
"""How many entries of the index of feedback are read at once."""
FEEDBACK_SWEPT = 3
"""How many random entries of the index each new rating checks, to remove those whose message is gone.

So most entries have a message, even if nobody lists the feedback.
"""

TRASH_PER_CALL = 500
"""How many messages of deleted conversations one script call deletes: Redis does nothing else meanwhile."""
TURNS_PER_SLICE = 1000
BRANCH_STEP = 1000
"""How many messages of a branch one script reads or counts."""
_decode_usage = msgspec.msgpack.Decoder(list[Any]).decode


class HotPage(NamedTuple):
    """A page of messages that Redis has. `more`: Redis has older ones.

    Before the number `cold`, only the archive has messages; 0 means that it has none there. `lost`: Redis has lost some
    messages of the page.
    """

    messages: list[MessageRecord]
    more: bool
    cold: int
    lost: bool


class HotBranch(NamedTuple):
    """The part of a branch that Redis has. `parent`: the message before it, if Redis doesn't have that one."""

    messages: list[MessageRecord]
    older: int
    parent: str | None


class RedisHistory(RedisPart):
    """`HistoryStore` in Redis."""

    async def create_conversation(
        self, conversation: ConversationRecord, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """See `HistoryStore`."""
        return await self.create_or_look(conversation, limits)

    async def create_or_look(
        self, conversation: ConversationRecord, limits: TurnLimits | None = None, *, look: bool = False
    ) -> ConversationRecord:
        """Do `create_conversation`. With `look`, raise `Cold` if the conversation isn't in Redis but may be in the archive."""
        arguments = (pack(conversation), b"" if limits is None else pack(limits), int(look))
        call = ("create_conversation", user_prefix(conversation.user), arguments)
        # Only a user's own request waits for the replicas. If Redis loses a conversation that was restored for a turn, the
        # turn's owner restores it again.
        replies = await self._change_history(conversation.user, [call], durable=limits is not None)
        (record,) = parse_reply(replies[0])
        return conversation_record(conversation.user, record)

    async def conversation(self, user: str, conversation: str) -> ConversationRecord:
        """See `HistoryStore`."""
        record = await self._client.command("HGETALL", user_prefix(user) + b"conversation:" + encode_text(conversation))
        if not record:
            record = await self.conversation_fields(user, conversation)
        return conversation_record(user, record)

    async def conversation_fields(self, user: str, conversation: str) -> list[bytes]:
        """Return the fields of a conversation as Redis has them. Only a master raises `NotFound`: a replica may lag behind."""
        (fields,) = parse_reply(await self._script("get_conversation", user, conversation))
        return list(fields)

    async def conversations(
        self, user: str, limit: int, before: str | None, *, whole: bool = False, pinned: bool = False
    ) -> tuple[list[ConversationRecord], bool]:
        """See `HistoryStore`."""
        (records,) = parse_reply(await self._script("conversations", user, limit + 1, before or "", int(pinned)))
        found = [conversation_record(user, record) for record in records]
        return found[:limit], len(found) > limit

    async def update_conversation(
        self, user: str, conversation: str, change: Change, now_ms: int, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """See `HistoryStore`."""
        arguments = (now_ms, pack(change), PINNED_MAX, None if limits is None else pack(limits))
        return await self._change("update_conversation", user, conversation, *arguments)

    async def clear_conversation(self, user: str, conversation: str, now_ms: int) -> ConversationRecord:
        """See `HistoryStore`."""
        return await self._change("clear_conversation", user, conversation, now_ms)

    async def _change(self, script: str, user: str, *arguments: Argument | None) -> ConversationRecord:
        (record,) = parse_reply(await self._run(script, user, *arguments))
        return conversation_record(user, record)

    async def _run(self, script: str, user: str, *arguments: Argument | None) -> Any:
        encoded = tuple(encode_text(one) if isinstance(one, str) else one for one in arguments if one is not None)
        call: ScriptCall = (script, user_prefix(user), encoded)
        (reply,) = await self._change_history(user, [call], repeatable=False, durable=True)
        return reply

    async def delete_conversation(self, user: str, conversation: str) -> list[str]:
        """See `HistoryStore`."""
        prefix = user_prefix(user)
        calls: list[ScriptCall] = [
            ("delete_conversation", prefix, (encode_text(conversation),)),
            ("empty_trash", prefix, (TRASH_PER_CALL,)),
        ]
        reply, (rated, more) = await self._change_history(user, calls, repeatable=False, durable=True)
        await self._remove_from_index([encode_message_ref(user, message.decode()) for message in rated])
        while more:
            rated, more = await self._script("empty_trash", user, TRASH_PER_CALL)
            await self._remove_from_index([encode_message_ref(user, message.decode()) for message in rated])
        (running,) = parse_reply(reply)
        return [turn.decode() for turn in running]

    async def message(self, user: str, message: str) -> MessageRecord:
        """See `HistoryStore`."""
        (record,) = parse_reply(await self._script("message", user, message))
        return message_record(record)

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | None, bytes_max: int | None = None
    ) -> tuple[list[MessageRecord], bool]:
        """See `HistoryStore`."""
        page = await self.hot_messages(user, conversation, limit, before, bytes_max)
        return page.messages, page.more

    async def hot_messages(
        self, user: str, conversation: str, limit: int, before: str | None, bytes_max: int | None
    ) -> HotPage:
        """Do `messages`, and return what the archive has to add to the page."""
        reply = await self._script("messages", user, conversation, limit, before or "", bytes_max)
        page, more, *rest = parse_reply(reply)
        cold, lost = rest or (0, 0)
        return HotPage([message_record(record) for record in reversed(page)], bool(more), cold, bool(lost))

    async def branch(
        self,
        user: str,
        conversation: str,
        last: str | None,
        bytes_max: int | None = None,
        count_max: int | None = None,
    ) -> tuple[list[MessageRecord], int]:
        """See `HistoryStore`."""
        if last is None:
            return [], 0
        branch = await self.hot_branch(user, conversation, last, bytes_max, count_max)
        return branch.messages, branch.older

    async def hot_branch(
        self, user: str, conversation: str, last: str, bytes_max: int | None, count_max: int | None
    ) -> HotBranch:
        """Do `branch`, and return the message with which the archive continues."""
        found: list[MessageRecord] = []
        older = 0
        bytes_left = math.inf if bytes_max is None else bytes_max
        count_left = math.inf if count_max is None else count_max
        while True:
            limits = (str(bytes_left), str(count_left)) if older == 0 else ("-1", "-1")
            reply = await self._script("branch", user, conversation, last, *limits, "0" if found else "1", BRANCH_STEP)
            records, left_out, following, missing = parse_reply(reply)
            messages = [message_record(record) for record in records]
            found += messages
            older += left_out
            bytes_left -= sum(len(message.body) for message in messages)
            count_left -= len(messages)
            if not following:
                return HotBranch(found[::-1], older, missing.decode() or None)
            last = following.decode()

    async def put_feedback(
        self, user: str, message: str, rating: str, comment: str | None, now_ms: int, model: str | None = None
    ) -> None:
        """See `HistoryStore`. Also remove from the index some entries whose message is gone."""
        new = pack({"rating": rating, "comment": comment, "model": model, "rated_ms": now_ms})
        reply, members = await self._change_history(
            user,
            [
                ("put_feedback", user_prefix(user), (encode_text(message), new)),
                ("index_feedback", FEEDBACK_KEY, (now_ms, encode_message_ref(user, message), FEEDBACK_SWEPT)),
            ],
            durable=True,
        )
        await self._remove_from_index((await self._read_feedback(members))[1])
        parse_reply(reply)

    async def list_feedback(
        self, selected: FeedbackFilter, limit: int, before: tuple[int, str] | None
    ) -> tuple[list[FeedbackRecord], bool]:
        """See `HistoryStore`. Read the index in slices, and remove the entries found there whose message is gone."""
        since = "-inf" if selected.since_ms is None else selected.since_ms
        latest: str | int = "+inf" if selected.until_ms is None else f"({selected.until_ms}"
        last: tuple[int, bytes] | None = None
        if before is not None and (selected.until_ms is None or before[0] < selected.until_ms):
            latest, last = before[0], (before[0], encode_message_ref("", before[1]))
        found: list[FeedbackRecord] = []
        gone: list[bytes] = []
        skipped = 0
        is_end = False
        while len(found) <= limit and not is_end:
            page = ("LIMIT", skipped, FEEDBACK_PER_SLICE)
            flat = await self._client.command("ZREVRANGEBYSCORE", FEEDBACK_KEY, latest, since, "WITHSCORES", *page)
            entries = [(int(float(at_ms)), member) for member, at_ms in zip(flat[::2], flat[1::2], strict=True)]
            records, without = await self._read_feedback(
                [entry[1] for entry in entries if last is None or entry < last]
            )
            found += filter(selected.selects, records)
            gone += without
            is_end = len(entries) < FEEDBACK_PER_SLICE
            if not is_end:
                # The next slice begins with the ms of the last entry. If this slice began with the same ms, the next one skips
                # all entries of this one; otherwise `last` leaves out those that are read again.
                skipped = skipped + len(entries) if entries[-1][0] == latest else 0
                latest = entries[-1][0]
                last = entries[-1] if last is None else min(last, entries[-1])
        await self._remove_from_index(gone)
        return found[:limit], len(found) > limit

    async def _read_feedback(self, members: list[bytes]) -> tuple[list[FeedbackRecord], list[bytes]]:
        """Return the feedback that `members` of the index name, and those members that have none any more."""
        refs = [decode_message_ref(member) for member in members]
        replies = await self._client.scripts(
            [("feedback", user_prefix(user), (encode_text(message),)) for user, message in refs]
        )
        records = [feedback_record(*ref, reply) for ref, reply in zip(refs, replies, strict=True) if reply]
        return records, [member for member, reply in zip(members, replies, strict=True) if not reply]

    async def _remove_from_index(self, members: list[bytes]) -> None:
        if members:
            await self._client.command("ZREM", FEEDBACK_KEY, *members)

    async def usage_days(self, user: str) -> list[DayUsage]:
        """See `HistoryStore`. Read the turns in slices."""
        days: dict[int, tuple[int, list[int | None]]] = {}
        start, is_end = 0, False
        while not is_end:
            flat = await self._client.command(
                "ZRANGE", user_prefix(user) + b"usage", start, start + TURNS_PER_SLICE - 1, "WITHSCORES"
            )
            start += TURNS_PER_SLICE
            is_end = len(flat) < 2 * TURNS_PER_SLICE
            for member, ended_ms in zip(flat[::2], flat[1::2], strict=True):
                day_ms = int(float(ended_ms)) // DAY_MS * DAY_MS
                turns, sums = days.get(day_ms, (0, [None] * len(Counters.__struct_fields__)))
                values = _decode_usage(member)[3 : 3 + len(sums)]
                days[day_ms] = turns + 1, [_add(total, value) for total, value in zip(sums, values, strict=True)]
        return [
            DayUsage(day_ms=day_ms, turns=turns, usage=_sums(sums)) for day_ms, (turns, sums) in sorted(days.items())
        ]

    async def expired_conversations(self, now_ms: int, retention_days: int, limit: int) -> list[tuple[str, str]]:
        """See `HistoryStore`. Empty: Redis expires conversations by itself."""
        return []

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `HistoryStore`.

        The sums are exact for the last 31 days, or for as long as the history is kept if that is longer.
        """
        since = "" if since_ms is None else since_ms
        (sums,) = parse_reply(await self._script("usage", user, conversation or "", since))
        return counters(sums)


def _add(total: int | None, value: int | float | Literal[False]) -> int | None:
    """Return the sum of `total` and `value`. None and False add nothing."""
    return total if value is False else (total or 0) + int(value)


def _sums(totals: list[int | None]) -> Counters:
    """Return totals in the order of `Counters`; None is the field's default."""
    named = zip(Counters.__struct_fields__, totals, strict=True)
    return Counters(**{name: total for name, total in named if total is not None})
