"""The return of conversations and messages from the archive to Redis."""

from __future__ import annotations

from collections.abc import Sequence

from store.archive.records import ArchivedConversation, ArchivedMessage
from store.redis.client import RedisPart
from store.redis.commands import Argument
from store.redis.keys import encode_text, user_prefix
from store.redis.outbox_entries import conversation_fields, message_fields, place_of
from store.redis.records import pack, parse_reply


class RedisRestores(RedisPart):
    """Stores again what Redis no longer has, unless it was deleted lately."""

    async def restore_conversation(
        self, user: str, archived: ArchivedConversation, messages: Sequence[ArchivedMessage], *, has_older: bool
    ) -> None:
        """Store a conversation of the archive again, with its newest messages. Raises `NotFound` if it was deleted.

        `has_older`: the archive has older messages. Do nothing if Redis has the conversation.
        """
        fields = conversation_fields(archived)
        if has_older:
            fields["cold"] = str(messages[0].number if messages else archived.next_number)
        arguments: list[Argument] = [pack(fields), archived.size, archived.change]
        for message in messages:
            arguments += (message.number, pack(message_fields(message)))
        parse_reply(await self._script("restore_conversation", user, *arguments))

    async def was_deleted(self, user: str, conversation: str) -> bool:
        """Return whether the conversation was deleted lately and its id wasn't used again."""
        return bool(await self._client.command("EXISTS", user_prefix(user) + b"deleted:" + encode_text(conversation)))

    async def was_removed(self, user: str, message: ArchivedMessage) -> bool:
        """Return whether the message's conversation was deleted lately."""
        place = encode_text(place_of(message.incarnation or "", message.conversation))
        return bool(await self._client.command("EXISTS", user_prefix(user) + b"removed:" + place))

    async def restore_message(self, user: str, message: ArchivedMessage) -> None:
        """Store a message of the archive again. Raises `NotFound` if Redis doesn't have its conversation."""
        parse_reply(await self._script("restore_message", user, message.number, pack(message_fields(message))))
