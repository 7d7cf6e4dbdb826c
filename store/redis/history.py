"""Conversations and messages in Redis. Each change restarts a conversation's time to live."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from store.records import PINNED_MAX, Change, ConversationRecord, MessageRecord, TurnLimits
from store.redis.client import ScriptCall
from store.redis.commands import Argument
from store.redis.feedback import RedisFeedback
from store.redis.keys import encode_message_ref, encode_text, user_prefix
from store.redis.records import conversation_record, message_record, pack, parse_reply

TRASH_PER_CALL = 500
"""How many messages of deleted conversations one script call deletes: Redis does nothing else meanwhile."""
BRANCH_STEP = 1000
"""How many messages of a branch one script reads or counts."""


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


class RedisHistory(RedisFeedback):
    """The conversations, messages and feedback of a `HistoryStore` in Redis."""

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
        await self._remove_ratings([encode_message_ref(user, message.decode()) for message in rated])
        while more:
            rated, more = await self._script("empty_trash", user, TRASH_PER_CALL)
            await self._remove_ratings([encode_message_ref(user, message.decode()) for message in rated])
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

    async def expired_conversations(self, now_ms: int, retention_days: int, limit: int) -> list[tuple[str, str]]:
        """See `HistoryStore`. Empty: Redis expires conversations by itself."""
        return []
