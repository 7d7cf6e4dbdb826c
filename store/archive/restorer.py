"""Conversations that only the archive has: they are read there, and brought back into Redis when they are changed."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from msgspec import Struct, structs

from store.archive.api import Archive, ArchiveError
from store.archive.drain import Drain
from store.archive.records import ArchivedConversation, ArchivedMessage
from store.errors import NotFound, StoreError
from store.records import ConversationRecord, NewTurn
from store.redis.records import parse_hash
from store.redis.store import RedisStore

RESTORED_MESSAGES = 500
RESTORED_BYTES = 2 * 2**20
RESTORES_MAX = 4
KNOWN_MAX = 20_000
ATTEMPT_S = 1.0
REVISIONS_SKIPPED, NUMBERS_SKIPPED = 1000, 10_000
LOST_AGAIN = "Redis loses what comes back from the archive. Try again in a moment."

T = TypeVar("T")


class _Known(Struct, frozen=True):
    """A conversation in which this instance has accepted or claimed a turn, in case Redis loses it while the archive is away."""

    conversation: str
    incarnation: str
    number: int
    cleared: int
    head: str | None
    messages: int
    revision: int

    def restored(self, record: ConversationRecord) -> ArchivedConversation:
        """Return the conversation to restore. Its numbers are above those that other instances may have used."""
        return ArchivedConversation(
            record=structs.replace(
                record, head=self.head, messages=self.messages, revision=self.revision + REVISIONS_SKIPPED
            ),
            incarnation=self.incarnation,
            change=int(time.time() * 1_000_000),
            next_number=self.number + NUMBERS_SKIPPED,
            cleared=self.cleared,
            size=record.size,
        )


def known_of(fields: list[bytes]) -> _Known:
    """Return what an instance remembers of a conversation, from its fields in Redis."""
    named = parse_hash(fields)
    head = named.get(b"head")
    return _Known(
        conversation=named[b"id"].decode(),
        incarnation=named[b"place"].partition(b":")[0].decode(),
        number=int(named[b"n"]),
        cleared=int(named[b"cleared"]),
        head=None if head is None else head.decode(),
        messages=int(named[b"messages"]),
        revision=int(named[b"revision"]),
    )


class Restorer:
    """Reads what only the archive has, and brings it back into Redis."""

    def __init__(self, hot: RedisStore, archive: Archive, drain: Drain) -> None:
        self._hot = hot
        self._archive = archive
        self._drain = drain
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def check_reachable(self) -> None:
        """Raise `ArchiveError` if the archive is known to be away."""
        if self._drain.state.is_degraded:
            raise ArchiveError("The archive can't be reached now. Try again in a moment.")

    async def _is_back(self) -> bool:
        """Return whether the archive answers again, although the drain hasn't noticed it yet."""
        if not self._drain.state.is_degraded:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(ATTEMPT_S):
                await self._drain.attempt()
        return not self._drain.state.is_degraded

    async def archived_conversation(self, user: str, conversation: str) -> ArchivedConversation:
        """Return a conversation that Redis doesn't have. Raises `NotFound`, and `ArchiveError` if the archive is away."""
        found = await self.read_cold(user, conversation, lambda: self._archive.conversation(user, conversation))
        if found is None:
            raise NotFound("conversation")
        return found

    async def read_cold(
        self, user: str, conversation: str, read: Callable[[], Awaitable[T]], field: str = "conversation"
    ) -> T:
        """Return what `read` finds of a conversation that Redis doesn't have. Raises `NotFound` if it was deleted.

        The archive has all of such a conversation, but it may not know yet that the conversation was deleted. `field` is that
        of the `NotFound`. Raises `ArchiveError` if the archive is away.
        """
        try:
            self.check_reachable()
            found = await read()
        except ArchiveError:
            if await self._hot.was_deleted(user, conversation):
                raise NotFound(field) from None
            raise
        if await self._hot.was_deleted(user, conversation):
            raise NotFound(field)
        return found

    async def archived_message(self, user: str, message: str, field: str) -> ArchivedMessage:
        """Return the message `message`, which Redis doesn't have, from the archive.

        Raises `NotFound` with `field` if the archive doesn't have it or it was deleted, and `ArchiveError` if the archive
        is away.
        """
        self.check_reachable()
        found = await self._archive.message(user, message)
        if found is None or await self._hot.was_removed(user, found):
            raise NotFound(field)
        return found

    async def restore(self, user: str, conversation: str, messages: int = RESTORED_MESSAGES) -> None:
        """Bring a conversation back into Redis with at most `messages` of its newest messages.

        Raises `NotFound` and `StoreError`.
        """
        found = await self.archived_conversation(user, conversation)
        newest, older = await self._archive.newest(user, conversation, messages, RESTORED_BYTES)
        await self._hot.restore_conversation(user, found, newest, has_older=older)

    async def restore_if_archived(self, user: str, conversation: str) -> bool:
        """Bring a conversation back, if there is one. Return whether there was. Raises `StoreError` if the archive can't say."""
        try:
            await self.restore(user, conversation)
        except NotFound:
            return False
        return True

    async def restore_for(self, new: NewTurn, conversation: str) -> bool:
        """Bring back the conversation of a new turn, or of a turn that Redis has lost. Return whether there was one.

        If the archive can't be reached, a lost turn's conversation is stored with what this instance knows of it. It stays
        the same conversation for the archive, which keeps the messages that Redis has lost.
        Raises `StoreError`, and `NotFound` if that needs `new.new_conversation`: the caller tries again with it.
        """
        try:
            return await self.restore_if_archived(new.user, conversation)
        except ArchiveError:
            if new.limits is None and await self._is_back():
                with suppress(ArchiveError):
                    return await self.restore_if_archived(new.user, conversation)
            known = self._known.get((new.user, conversation))
            if new.limits is not None or known is None:
                raise
            if new.new_conversation is None:
                raise NotFound("conversation") from None
            await self._hot.restore_conversation(new.user, known.restored(new.new_conversation), [], has_older=True)
            return True

    def remember(self, user: str, fields: list[bytes]) -> None:
        """Remember a conversation in which a turn was accepted or claimed. `fields`: the conversation's, from Redis."""
        known = known_of(fields)
        self._known[user, known.conversation] = known
        self._known.move_to_end((user, known.conversation))
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def forget(self, user: str, conversation: str) -> None:
        """Forget a conversation that was deleted."""
        self._known.pop((user, conversation), None)

    def forget_user(self, user: str) -> None:
        """Forget all conversations of the user."""
        for key in [key for key in self._known if key[0] == user]:
            del self._known[key]

    async def restore_message(self, user: str, message: str, conversation: str | None, field: str) -> None:
        """Bring a message back, and its conversation if that isn't here. Raises `NotFound` and `StoreError`.

        `conversation`: the one that it has to be in. None means any.
        """
        found = await self.archived_message(user, message, field)
        if conversation not in {None, found.conversation}:
            raise NotFound(field)
        try:
            await bringing_back(
                lambda: self._hot.restore_message(user, found), lambda _: self.restore(user, found.conversation)
            )
        except NotFound:
            raise NotFound(field) from None

    async def restoring(
        self, user: str, conversation: str | None, call: Callable[[], Awaitable[T]], messages: int = RESTORED_MESSAGES
    ) -> T:
        """Return the result of `call`. If Redis doesn't have the conversation, bring it back and call again.

        `messages`: how many of its messages to bring back.
        """

        async def bring_back(missing: NotFound) -> None:
            if missing.field != "conversation" or conversation is None:
                raise missing
            await self.restore(user, conversation, messages)

        return await bringing_back(call, bring_back)


async def bringing_back(call: Callable[[], Awaitable[T]], bring_back: Callable[[NotFound], Awaitable[object]]) -> T:
    """Return the result of `call`. While Redis doesn't have what it needs, let `bring_back` restore that.

    Redis may lose it again in between, but what the archive has is never answered with `NotFound`. Raises the error of
    `bring_back`, and `StoreError` if Redis loses it again and again.
    """
    for _ in range(RESTORES_MAX):
        try:
            return await call()
        except NotFound as missing:
            await bring_back(missing)
    raise StoreError(LOST_AGAIN)
