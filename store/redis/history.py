"""Conversations, messages, feedback and usage in Redis. Each change restarts a conversation's time to live."""

from __future__ import annotations

from store.records import Change, ConversationRecord, Counters, MessageRecord, NotFound, TurnLimits
from store.redis.client import RedisPart
from store.redis.commands import Argument
from store.redis.keys import encode_text, user_prefix
from store.redis.records import conversation_record, counters, message_record, pack, parse_reply


class RedisHistory(RedisPart):
    """`HistoryStore` in Redis."""

    async def create_conversation(
        self, conversation: ConversationRecord, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """See `HistoryStore`."""
        arguments = (pack(conversation), None if limits is None else pack(limits))
        (record,) = parse_reply(await self._script("create_conversation", conversation.user, *arguments))
        return conversation_record(conversation.user, record)

    async def conversation(self, user: str, conversation: str) -> ConversationRecord:
        """See `HistoryStore`."""
        record = await self._client.command("HGETALL", user_prefix(user) + b"conversation:" + encode_text(conversation))
        if not record:
            raise NotFound("conversation")
        return conversation_record(user, record)

    async def conversations(self, user: str, limit: int, before: str | None) -> tuple[list[ConversationRecord], bool]:
        """See `HistoryStore`."""
        (records,) = parse_reply(await self._script("conversations", user, limit + 1, before or ""))
        found = [conversation_record(user, record) for record in records]
        return found[:limit], len(found) > limit

    async def titles(self, user: str, limit: int, before: str | None) -> list[tuple[str, str]]:
        """See `HistoryStore`."""
        (titles,) = parse_reply(await self._script("titles", user, limit, before or ""))
        return [(conversation.decode(), title.decode()) for conversation, title in titles]

    async def conversations_by_id(self, user: str, conversations: list[str]) -> list[ConversationRecord]:
        """See `HistoryStore`."""
        key = user_prefix(user) + b"conversation:"
        records = await self._client.commands([("HGETALL", key + encode_text(one)) for one in conversations])
        return [conversation_record(user, record) for record in records if record]

    async def update_conversation(
        self, user: str, conversation: str, change: Change, now_ms: int, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """See `HistoryStore`."""
        arguments = (now_ms, pack(change), None if limits is None else pack(limits))
        return await self._change("update_conversation", user, conversation, *arguments)

    async def clear_conversation(self, user: str, conversation: str, now_ms: int) -> ConversationRecord:
        """See `HistoryStore`."""
        return await self._change("clear_conversation", user, conversation, now_ms)

    async def _change(self, script: str, user: str, *arguments: Argument | None) -> ConversationRecord:
        (record,) = parse_reply(await self._script(script, user, *arguments, repeatable=False))
        return conversation_record(user, record)

    async def delete_conversation(self, user: str, conversation: str) -> list[str]:
        """See `HistoryStore`."""
        (running,) = parse_reply(await self._script("delete_conversation", user, conversation, repeatable=False))
        return [turn.decode() for turn in running]

    async def message(self, user: str, message: str) -> MessageRecord:
        """See `HistoryStore`."""
        (record,) = parse_reply(await self._script("message", user, message))
        return message_record(record)

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | None, bytes_max: int | None = None
    ) -> tuple[list[MessageRecord], bool]:
        """See `HistoryStore`."""
        page, more = parse_reply(await self._script("messages", user, conversation, limit, before or "", bytes_max))
        return [message_record(record) for record in reversed(page)], bool(more)

    async def branch(
        self, user: str, conversation: str, last: str | None, bytes_max: int | None = None
    ) -> tuple[list[MessageRecord], int]:
        """See `HistoryStore`."""
        if last is None:
            return [], 0
        branch, older = parse_reply(await self._script("branch", user, conversation, last, bytes_max))
        return [message_record(record) for record in reversed(branch)], older

    async def put_feedback(self, user: str, message: str, rating: str, comment: str | None, now_ms: int) -> None:
        """See `HistoryStore`."""
        parse_reply(await self._script("put_feedback", user, message, rating, now_ms, comment))

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `HistoryStore`. The sums are exact for the last 31 days, and for as long as the history is kept."""
        since = "" if since_ms is None else since_ms
        (sums,) = parse_reply(await self._script("usage", user, conversation or "", since))
        return counters(sums)
