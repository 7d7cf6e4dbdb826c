"""Conversations, messages, feedback and usage in Redis. Each change restarts a conversation's time to live."""

from __future__ import annotations

from store.records import Change, ConversationRecord, Counters, MessageRecord, NotFound, TurnLimits
from store.redis.client import RedisPart
from store.redis.commands import Argument
from store.redis.keys import encode_text, user_prefix
from store.redis.records import conversation_record, counters, message_record, pack, parse_reply

TITLES_PER_CALL = 300


class RedisHistory(RedisPart):
    """`HistoryStore` in Redis."""

    async def create_conversation(self, conversation: ConversationRecord, limits: TurnLimits | None = None) -> None:
        """See `HistoryStore`."""
        arguments = [pack(record) for record in (conversation, limits) if record is not None]
        parse_reply(await self._client.script("create_conversation", user_prefix(conversation.user), *arguments))

    async def conversation(self, user: str, conversation: str) -> ConversationRecord:
        """See `HistoryStore`."""
        record = await self._client.command("HGETALL", user_prefix(user) + b"conversation:" + encode_text(conversation))
        if not record:
            raise NotFound("conversation")
        return conversation_record(user, record)

    async def conversations(
        self, user: str, limit: int, before: str | None, query: str | None
    ) -> tuple[list[ConversationRecord], bool]:
        """See `HistoryStore`."""
        if query:
            found = await self._search(user, limit + 1, before, query.casefold())
        else:
            (records,) = parse_reply(
                await self._client.script("conversations", user_prefix(user), limit + 1, encode_text(before or ""))
            )
            found = [conversation_record(user, record) for record in records]
        return found[:limit], len(found) > limit

    async def _search(self, user: str, limit: int, before: str | None, query: str) -> list[ConversationRecord]:
        """Return at most `limit` conversations after `before` whose title contains `query`, which is casefolded.

        Titles are compared here because Redis ignores case only in ASCII. Each script call reads some hundred titles.
        """
        found: list[str] = []
        while True:
            (titles,) = parse_reply(
                await self._client.script("titles", user_prefix(user), TITLES_PER_CALL, encode_text(before or ""))
            )
            page = [(conversation.decode(), title.decode()) for conversation, title in titles]
            found += [conversation for conversation, title in page if query in title.casefold()]
            if len(found) >= limit or not page:
                break
            before = page[-1][0]
        key = user_prefix(user) + b"conversation:"
        records = (
            await self._client.commands(
                [("HGETALL", key + encode_text(conversation)) for conversation in found[:limit]]
            )
            if found
            else []
        )
        return [conversation_record(user, record) for record in records if record]

    async def update_conversation(
        self, user: str, conversation: str, change: Change, now_ms: int, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """See `HistoryStore`."""
        arguments = [pack(record) for record in (change, limits) if record is not None]
        return await self._change("update_conversation", user, conversation, now_ms, *arguments)

    async def clear_conversation(self, user: str, conversation: str, now_ms: int) -> ConversationRecord:
        """See `HistoryStore`."""
        return await self._change("clear_conversation", user, conversation, now_ms)

    async def _change(self, script: str, user: str, conversation: str, *arguments: Argument) -> ConversationRecord:
        reply = await self._client.script(
            script, user_prefix(user), encode_text(conversation), *arguments, repeatable=False
        )
        (record,) = parse_reply(reply)
        return conversation_record(user, record)

    async def delete_conversation(self, user: str, conversation: str) -> list[str]:
        """See `HistoryStore`."""
        call = self._client.script(
            "delete_conversation", user_prefix(user), encode_text(conversation), repeatable=False
        )
        (running,) = parse_reply(await call)
        return [turn.decode() for turn in running]

    async def message(self, user: str, message: str) -> MessageRecord:
        """See `HistoryStore`."""
        (record,) = parse_reply(await self._client.script("message", user_prefix(user), encode_text(message)))
        return message_record(record)

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | None
    ) -> tuple[list[MessageRecord], bool]:
        """See `HistoryStore`."""
        (page,) = parse_reply(
            await self._client.script(
                "messages", user_prefix(user), encode_text(conversation), limit + 1, encode_text(before or "")
            )
        )
        return [message_record(record) for record in reversed(page[:limit])], len(page) > limit

    async def branch(
        self, user: str, conversation: str, last: str | None, bytes_max: int | None = None
    ) -> tuple[list[MessageRecord], int]:
        """See `HistoryStore`."""
        if last is None:
            return [], 0
        limit = [] if bytes_max is None else [bytes_max]
        reply = await self._client.script(
            "branch", user_prefix(user), encode_text(conversation), encode_text(last), *limit
        )
        branch, older = parse_reply(reply)
        return [message_record(record) for record in reversed(branch)], older

    async def put_feedback(self, user: str, message: str, rating: str, comment: str | None, now_ms: int) -> None:
        """See `HistoryStore`."""
        optional: list[Argument] = [] if comment is None else [encode_text(comment)]
        arguments = (encode_text(message), encode_text(rating), now_ms, *optional)
        parse_reply(await self._client.script("put_feedback", user_prefix(user), *arguments))

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `HistoryStore`. The sums are exact for the last 31 days, and for as long as the history is kept."""
        since = "" if since_ms is None else since_ms
        (sums,) = parse_reply(
            await self._client.script("usage", user_prefix(user), encode_text(conversation or ""), since)
        )
        return counters(sums)
