"""Conversations, messages, feedback and usage in Redis. Each change restarts a conversation's time to live."""

from __future__ import annotations

from store.records import Change, ConversationRecord, Counters, MessageRecord, NotFound, TurnLimits
from store.redis.client import ClientHolder
from store.redis.commands import Argument
from store.redis.keys import raw, user_prefix
from store.redis.records import accepted, conversation_record, counters, message_record, packed

TITLES_PER_STEP = 300


class RedisHistory(ClientHolder):
    """The part of the Redis store with the history that clients browse."""

    async def create_conversation(self, conversation: ConversationRecord, limits: TurnLimits | None = None) -> None:
        """See `Store`."""
        given = [packed(conversation), *([] if limits is None else [packed(limits)])]
        accepted(await self._client.script("create_conversation", user_prefix(conversation.user), *given))

    async def conversation(self, user: str, conversation: str) -> ConversationRecord:
        """See `Store`."""
        kept = await self._client.command("HGETALL", user_prefix(user) + b"conversation:" + raw(conversation))
        if not kept:
            raise NotFound("conversation")
        return conversation_record(user, kept)

    async def conversations(
        self, user: str, limit: int, before: str | None, query: str | None
    ) -> tuple[list[ConversationRecord], bool]:
        """See `Store`."""
        if query:
            found = await self._search(user, limit + 1, before, query.casefold())
        else:
            (listed,) = accepted(
                await self._client.script("conversations", user_prefix(user), limit + 1, raw(before or ""))
            )
            found = [conversation_record(user, one) for one in listed]
        return found[:limit], len(found) > limit

    async def _search(self, user: str, limit: int, before: str | None, wanted: str) -> list[ConversationRecord]:
        """Return at most `limit` conversations after `before` whose title contains `wanted`, which is casefolded.

        Titles are compared here because Redis ignores case only in ASCII. Each script call reads some hundred titles.
        """
        found: list[str] = []
        while True:
            (titles,) = accepted(
                await self._client.script("titles", user_prefix(user), TITLES_PER_STEP, raw(before or ""))
            )
            page = [(one.decode(), title.decode()) for one, title in titles]
            found += [one for one, title in page if wanted in title.casefold()]
            if len(found) >= limit or not page:
                break
            before = page[-1][0]
        key = user_prefix(user) + b"conversation:"
        records = await self._client.commands([("HGETALL", key + raw(one)) for one in found[:limit]]) if found else []
        return [conversation_record(user, record) for record in records if record]

    async def update_conversation(
        self, user: str, conversation: str, change: Change, now_ms: int, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """See `Store`."""
        given = [packed(change), *([] if limits is None else [packed(limits)])]
        return await self._change("update_conversation", user, conversation, now_ms, *given)

    async def clear_conversation(self, user: str, conversation: str, now_ms: int) -> ConversationRecord:
        """See `Store`."""
        return await self._change("clear_conversation", user, conversation, now_ms)

    async def _change(self, script: str, user: str, conversation: str, *arguments: Argument) -> ConversationRecord:
        reply = await self._client.script(script, user_prefix(user), raw(conversation), *arguments, repeatable=False)
        (kept,) = accepted(reply)
        return conversation_record(user, kept)

    async def delete_conversation(self, user: str, conversation: str) -> list[str]:
        """See `Store`."""
        call = self._client.script("delete_conversation", user_prefix(user), raw(conversation), repeatable=False)
        (running,) = accepted(await call)
        return [turn.decode() for turn in running]

    async def message(self, user: str, message: str) -> MessageRecord:
        """See `Store`."""
        (kept,) = accepted(await self._client.script("message", user_prefix(user), raw(message)))
        return message_record(kept)

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | None
    ) -> tuple[list[MessageRecord], bool]:
        """See `Store`."""
        (page,) = accepted(
            await self._client.script("messages", user_prefix(user), raw(conversation), limit + 1, raw(before or ""))
        )
        return [message_record(one) for one in reversed(page[:limit])], len(page) > limit

    async def branch(
        self, user: str, conversation: str, last: str | None, bytes_max: int | None = None
    ) -> tuple[list[MessageRecord], int]:
        """See `Store`."""
        if last is None:
            return [], 0
        bound = [] if bytes_max is None else [bytes_max]
        reply = await self._client.script("branch", user_prefix(user), raw(conversation), raw(last), *bound)
        branch, older = accepted(reply)
        return [message_record(one) for one in reversed(branch)], older

    async def put_feedback(self, user: str, message: str, rating: str, comment: str | None, now_ms: int) -> None:
        """See `Store`."""
        said = [] if comment is None else [raw(comment)]
        accepted(await self._client.script("feedback", user_prefix(user), raw(message), raw(rating), now_ms, *said))

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `Store`. The sums are exact for the last 31 days, and for as long as the history is kept."""
        since = "" if since_ms is None else since_ms
        (sums,) = accepted(await self._client.script("usage", user_prefix(user), raw(conversation or ""), since))
        return counters(sums)
