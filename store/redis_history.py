"""Conversations, messages, feedback and usage in Redis. A conversation lives on for its time after each change."""

from __future__ import annotations

from store.base import Change, ConversationRecord, Counters, MessageRecord, NotFound
from store.redis_keys import raw, user_prefix
from store.redis_link import Argument, Linked
from store.redis_records import accepted, conversation_record, counters, message_record, packed

PAGE = 200


class RedisHistory(Linked):
    """The part of the Redis store that clients browse."""

    async def create_conversation(self, conversation: ConversationRecord) -> None:
        """See `Store`."""
        await self._link.script("create_conversation", user_prefix(conversation.user), packed(conversation))

    async def conversation(self, user: str, conversation: str) -> ConversationRecord:
        """See `Store`."""
        kept = await self._link.command("HGETALL", user_prefix(user) + b"conversation:" + raw(conversation))
        if not kept:
            raise NotFound("conversation")
        return conversation_record(user, kept)

    async def conversations(
        self, user: str, limit: int, before: str | None, query: str | None
    ) -> tuple[list[ConversationRecord], bool]:
        """See `Store`. Redis knows no letters but ASCII's, so titles are compared here."""
        wanted = (query or "").casefold()
        found: list[ConversationRecord] = []
        while True:
            page = await self._page(user, PAGE if wanted else limit + 1, before)
            found += [one for one in page if wanted in one.title.casefold()]
            if len(found) > limit or not wanted or len(page) < PAGE:
                return found[:limit], len(found) > limit
            before = page[-1].id

    async def _page(self, user: str, limit: int, before: str | None) -> list[ConversationRecord]:
        (listed,) = accepted(await self._link.script("conversations", user_prefix(user), limit, raw(before or "")))
        return [conversation_record(user, one) for one in listed]

    async def update_conversation(
        self, user: str, conversation: str, change: Change, now_ms: int
    ) -> ConversationRecord:
        """See `Store`."""
        return await self._change("update_conversation", user, conversation, now_ms, packed(change))

    async def clear_conversation(self, user: str, conversation: str, now_ms: int) -> ConversationRecord:
        """See `Store`."""
        return await self._change("clear_conversation", user, conversation, now_ms)

    async def _change(self, script: str, user: str, conversation: str, *arguments: Argument) -> ConversationRecord:
        reply = await self._link.script(script, user_prefix(user), raw(conversation), *arguments, repeatable=False)
        (kept,) = accepted(reply)
        return conversation_record(user, kept)

    async def delete_conversation(self, user: str, conversation: str) -> list[str]:
        """See `Store`."""
        call = self._link.script("delete_conversation", user_prefix(user), raw(conversation), repeatable=False)
        (running,) = accepted(await call)
        return [turn.decode() for turn in running]

    async def message(self, user: str, message: str) -> MessageRecord:
        """See `Store`."""
        (kept,) = accepted(await self._link.script("message", user_prefix(user), raw(message)))
        return message_record(kept)

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | None
    ) -> tuple[list[MessageRecord], bool]:
        """See `Store`."""
        (page,) = accepted(
            await self._link.script("messages", user_prefix(user), raw(conversation), limit + 1, raw(before or ""))
        )
        return [message_record(one) for one in reversed(page[:limit])], len(page) > limit

    async def branch(self, user: str, conversation: str, last: str | None) -> list[MessageRecord]:
        """See `Store`."""
        if last is None:
            return []
        reply = await self._link.script("branch", user_prefix(user), raw(conversation), raw(last))
        (branch,) = accepted(reply)
        return [message_record(one) for one in reversed(branch)]

    async def put_feedback(self, user: str, message: str, rating: str, comment: str | None, now_ms: int) -> None:
        """See `Store`."""
        said = [] if comment is None else [raw(comment)]
        accepted(await self._link.script("feedback", user_prefix(user), raw(message), raw(rating), now_ms, *said))

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `Store`. Exact for the last 31 days, and as long as the history is kept."""
        since = "" if since_ms is None else since_ms
        (sums,) = accepted(await self._link.script("usage", user_prefix(user), raw(conversation or ""), since))
        return counters(sums)
