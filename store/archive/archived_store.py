"""A store that keeps conversations for years: Redis has those in use, and an archive has all of them.

What an operation finds in Redis, it does there. A conversation that Redis no longer has is read from the archive, and comes
back into Redis when it is changed. The list, the search, the ratings and the usage are read from the archive, after the user's
outbox was drained.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

import structlog
from msgspec import Struct, structs

from store.api import Store
from store.archive.api import Archive, ArchiveError, ArchiveUnfit
from store.archive.drain import Drain
from store.archive.records import ArchivedConversation, ArchivedMessage
from store.archive.state import DrainState
from store.records import (
    Accepted,
    Change,
    ConversationRecord,
    Counters,
    DayUsage,
    EndedTurn,
    FeedbackFilter,
    FeedbackRecord,
    Found,
    Limited,
    MessageRecord,
    NewTurn,
    NotFound,
    StoreError,
    TurnLimits,
    TurnRecord,
)
from store.redis.records import Cold, parse_hash
from store.redis.store import RedisStore

log = structlog.stdlib.get_logger("turnwire.archive")

RESTORED_MESSAGES = 500
RESTORED_BYTES = 2 * 2**20
RESTORES_MAX = 4
KNOWN_MAX = 20_000
SETTLE_S = 5.0
ATTEMPT_S = 1.0
REVISIONS_SKIPPED, NUMBERS_SKIPPED = 1000, 10_000
STORED_LIMITS = frozenset({"conversations", "stored_bytes"})
LOST_AGAIN = "Redis loses what comes back from the archive. Try again in a moment."
_OWN_ID = re.compile(r"c_[0-9A-Za-z_-]{22}")

T = TypeVar("T")


class _Known(Struct, frozen=True):
    """A conversation in which this instance has accepted a turn, for the case that Redis loses it while the archive is away."""

    conversation: str
    incarnation: str
    number: int
    cleared: int
    head: str | None
    messages: int
    revision: int

    def restored(self, record: ConversationRecord) -> ArchivedConversation:
        """Return the conversation as it may be restored. Its numbers are above those that other instances may have used."""
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
    """Return what is to be known of a conversation with these fields."""
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


class ArchivedStore:
    """A `Store` over a `RedisStore` that was created with `archived`, and an archive.

    With `sync`, an ending and a deletion return only when the archive has them.
    """

    shared = True

    def __init__(self, hot: RedisStore, archive: Archive, *, sync: bool = False) -> None:
        self._hot = hot
        self._archive = archive
        self._sync = sync
        self._drain = Drain(hot, archive)
        self._backfilled: OrderedDict[str, None] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._hot, name)
        if iscoroutinefunction(found):
            setattr(self, name, found)
        return found

    @property
    def archive_state(self) -> DrainState:
        """The state of the drain, which the metrics and `/ready` show."""
        return self._drain.state

    async def open(self) -> None:
        """See `Store`. An archive that can't be reached is opened later. Raises `ArchiveUnfit` if it can't be used as it is."""
        await self._hot.open()
        self._hot.call_on_accepted(self._remember)
        try:
            unopened = await self._open_archive()
        except BaseException:
            await self._hot.close()
            raise
        self._drain.start(unopened)

    async def _open_archive(self) -> ArchiveError | None:
        """Open the archive. Return why it can't be reached; raise the error if an operator has to change something."""
        try:
            await self._archive.open()
        except ArchiveUnfit:
            raise
        except ArchiveError as error:
            return error
        return None

    async def close(self) -> None:
        """See `Store`."""
        await self._drain.close()
        await self._archive.close()
        await self._hot.close()

    # Turns

    async def accept(self, new: NewTurn) -> Accepted:
        """See `TurnStore`."""
        accepted = await self._with_limits(new.user, lambda: self._accept(new))
        self._drain.note_later(new.user)  # mostly the turn's ending follows soon
        return accepted

    async def claim(
        self, user: str, turn: str, owner: str, epoch: int, lease_ms: int, *, force: bool = False
    ) -> TurnRecord | None:
        """See `OwnershipStore`. What this instance knows of the turn's conversation may be of one with the same id before it."""
        record = await self._hot.claim(user, turn, owner, epoch, lease_ms, force=force)
        if record is not None and record.conversation is not None:
            self._known.pop((user, record.conversation), None)
            with suppress(NotFound):
                self._remember(user, await self._hot.conversation_fields(user, record.conversation))
        return record

    async def _accept(self, new: NewTurn) -> Accepted:
        # An id of ours is new unless the client has named it as an existing one.
        is_ours = new.conversation is None and _OWN_ID.fullmatch(new.conversation_id or "") and new.limits is not None
        look = bool(not is_ours and not new.stateless and new.conversation_id is not None)

        async def accept() -> Accepted:
            nonlocal look
            for _ in range(RESTORES_MAX):
                try:
                    return await self._hot.accept_or_look(new, look=look)
                except Cold as cold:
                    # If Redis loses the conversation again after this, it must not be created anew: so look again.
                    look = await self._restore_for(new, cold.conversation)
            raise StoreError(LOST_AGAIN)

        async def bring_back(missing: NotFound) -> None:
            if missing.field != "parent" or new.parent is None:
                raise missing
            await self._restore_message(new.user, new.parent, new.conversation_id, "parent")

        return await _bringing_back(accept, bring_back)

    async def end(self, ended: EndedTurn) -> ConversationRecord | None:
        """See `TurnStore`."""
        try:
            record = await self._hot.end_or_look(ended, look=True)
        except Cold as cold:
            await self._restore_if_archived(ended.user, cold.conversation)
            record = await self._hot.end_or_look(ended)
        await self._changed(ended.user, wait=self._sync)
        if self._sync and (await self._hot.turn(ended.user, ended.turn)).status == "running":
            # Redis has lost the ending before it was archived, and the turn was restored meanwhile.
            raise ArchiveError("Redis lost the ending before the archive had it. Store it again.")
        return record

    async def active(self, user: str, conversation: str | None) -> list[str]:
        """See `TurnStore`."""
        return await self._restoring(user, conversation, lambda: self._hot.active(user, conversation))

    # History

    async def message(self, user: str, message: str) -> MessageRecord:
        """See `HistoryStore`."""
        try:
            return await self._hot.message(user, message)
        except NotFound:
            return (await self._archived_message(user, message, "message")).record

    async def branch(
        self, user: str, conversation: str, last: str | None, bytes_max: int | None = None
    ) -> tuple[list[MessageRecord], int]:
        """See `HistoryStore`."""
        if last is None:
            return [], 0
        try:
            hot = await self._hot.hot_branch(user, conversation, last, bytes_max)
        except NotFound:
            found, older = await self._cold(
                user, conversation, lambda: self._archive.branch(user, conversation, last, bytes_max), "parent"
            )
            return [one.record for one in found], older
        if hot.parent is None:
            return hot.messages, hot.older
        left = None if bytes_max is None else bytes_max - sum(len(one.body) for one in hot.messages)
        if hot.older:
            left = 0
        try:
            self._check_reachable()
            found, older = await self._archive.branch(user, conversation, hot.parent, left)
        except NotFound:
            return hot.messages, hot.older
        except ArchiveError as error:
            # A turn that goes on without its oldest context is better than one that fails.
            log.warning("older messages of a conversation can't be read", conversation=conversation, error=str(error))
            return hot.messages, hot.older + 1
        if left is not None and (hot.older or sum(len(one.record.body) for one in found) > left):
            # The archive returns the last message of a branch in any case, but this one is in the middle of it.
            older, found = older + len(found), []
        return [*(one.record for one in found), *hot.messages], hot.older + older

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | None, bytes_max: int | None = None
    ) -> tuple[list[MessageRecord], bool]:
        """See `HistoryStore`."""
        try:
            hot = await self._hot.hot_messages(user, conversation, limit, before, bytes_max)
        except NotFound as error:
            try:
                return await self._archived_page(user, conversation, limit, before, bytes_max)
            except NotFound as other:
                # The archive may not have a conversation yet that Redis has, but without that message.
                raise error if error.field == "before" else other from None
        if hot.lost:
            # What is lost here was archived, but what isn't lost may still wait in the outbox.
            await self._catch_up(user)
            return await self._archived_page(user, conversation, limit, before, bytes_max)
        if hot.more or not hot.cold:
            return hot.messages, hot.more
        left = None if bytes_max is None else bytes_max - sum(len(one.body) for one in hot.messages)
        wanted = limit - len(hot.messages)
        if hot.messages and (wanted <= 0 or (left is not None and left <= 0)):
            return hot.messages, True
        self._check_reachable()
        older, more = await self._archive.messages(user, conversation, max(wanted, 1), hot.cold, left)
        records = [one.record for one in older]
        if hot.messages and left is not None and sum(len(one.body) for one in records) > left:
            return hot.messages, True  # the archive returns one message in any case
        return [*records, *hot.messages], more

    async def _archived_page(
        self, user: str, conversation: str, limit: int, before: str | None, bytes_max: int | None
    ) -> tuple[list[MessageRecord], bool]:
        page, more = await self._cold(
            user, conversation, lambda: self._archive.messages(user, conversation, limit, before, bytes_max)
        )
        return [one.record for one in page], more

    async def create_conversation(
        self, conversation: ConversationRecord, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """See `HistoryStore`."""
        user = conversation.user
        look = _OWN_ID.fullmatch(conversation.id) is None

        async def create() -> ConversationRecord:
            is_cold = look
            while True:
                try:
                    return await self._hot.create_or_look(conversation, limits, look=is_cold)
                except Cold:
                    is_cold = await self._restore_if_archived(user, conversation.id)

        created = await self._with_limits(user, create)
        await self._changed(user)
        return created

    async def conversation(self, user: str, conversation: str) -> ConversationRecord:
        """See `HistoryStore`."""
        try:
            return await self._hot.conversation(user, conversation)
        except NotFound:
            return (await self._archived_conversation(user, conversation)).record

    async def conversations(self, user: str, limit: int, before: str | None) -> tuple[list[ConversationRecord], bool]:
        """See `HistoryStore`. While the archive can't be reached, list those that Redis has."""
        return await self._from_archive(
            user,
            lambda: self._archive.conversations(user, limit, before),
            lambda: self._hot.conversations(user, limit, before),
        )

    async def update_conversation(
        self, user: str, conversation: str, change: Change, now_ms: int, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """See `HistoryStore`."""

        async def update() -> ConversationRecord:
            return await self._hot.update_conversation(user, conversation, change, now_ms, limits)

        async def bring_back(missing: NotFound) -> None:
            if missing.field == "head" and change.head is not None:
                await self._restore_message(user, change.head, conversation, "head")
            elif missing.field == "conversation":
                await self._restore(user, conversation)
            else:
                raise missing

        changed = await self._with_limits(user, lambda: _bringing_back(update, bring_back))
        await self._changed(user)
        return changed

    async def clear_conversation(self, user: str, conversation: str, now_ms: int) -> ConversationRecord:
        """See `HistoryStore`."""
        cleared = await self._restoring(
            user, conversation, lambda: self._hot.clear_conversation(user, conversation, now_ms)
        )
        await self._changed(user)
        return cleared

    async def delete_conversation(self, user: str, conversation: str) -> list[str]:
        """See `HistoryStore`."""
        running = await self._restoring(
            user, conversation, lambda: self._hot.delete_conversation(user, conversation), messages=1
        )
        self._known.pop((user, conversation), None)
        await self._changed(user, wait=self._sync)
        if self._sync and not await self._hot.was_deleted(user, conversation):
            # Redis has lost the deletion, maybe before it was archived.
            if await self._archive.conversation(user, conversation) is not None:
                raise ArchiveError("Redis lost the deletion before the archive had it. Delete the conversation again.")
        return running

    async def put_feedback(
        self, user: str, message: str, rating: str, comment: str | None, now_ms: int, model: str | None = None
    ) -> None:
        """See `HistoryStore`."""
        await _bringing_back(
            lambda: self._hot.put_feedback(user, message, rating, comment, now_ms, model),
            lambda _: self._restore_message(user, message, None, "message"),
        )
        await self._changed(user)

    async def list_feedback(
        self, selected: FeedbackFilter, limit: int, before: tuple[int, str] | None
    ) -> tuple[list[FeedbackRecord], bool]:
        """See `HistoryStore`. The ratings of conversations that Redis doesn't have are listed too."""
        self._check_reachable()
        await self._in_time(self._drain.settle_all())
        return await self._archive.list_feedback(selected, limit, before)

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `HistoryStore`. While the archive can't be reached, return the sums that Redis has."""
        return await self._from_archive(
            user,
            lambda: self._archive.usage(user, conversation, since_ms),
            lambda: self._hot.usage(user, conversation, since_ms),
        )

    async def usage_days(self, user: str) -> list[DayUsage]:
        """See `HistoryStore`."""
        return await self._from_archive(
            user, lambda: self._archive.usage_days(user), lambda: self._hot.usage_days(user)
        )

    async def search(self, user: str, query: str, limit: int, before: str | None) -> tuple[list[Found], bool]:
        """See `HistoryStore`. While the archive can't be reached, search what Redis has."""
        return await self._from_archive(
            user,
            lambda: self._archive.search(user, query, limit, before),
            lambda: self._hot.search(user, query, limit, before),
        )

    async def expired_conversations(self, now_ms: int, retention_days: int, limit: int) -> list[tuple[str, str]]:
        """See `HistoryStore`. What the archive finds may have been changed or deleted just now, so it is asked again then."""
        self._check_reachable()
        found = await self._archive.expired(now_ms, retention_days, limit)
        users = list(dict.fromkeys(user for user, _ in found))
        states = await self._hot.outbox_states(users) if users else []
        pending = [user for user, state in zip(users, states, strict=True) if state.entries]
        if not pending:
            return found
        await self._in_time(self._drain.settle_users(pending))
        return await self._archive.expired(now_ms, retention_days, limit)

    async def erase_user(self, user: str) -> None:
        """See `HistoryStore`. Redis comes first, so that no instance finds something to archive; then Redis again."""
        await self._hot.erase_user(user)
        await self._hot.note_erasure(user)  # before the archive: an instance that commits from now on erases again
        self._check_reachable()
        await self._archive.erase(user)
        await self._hot.erase_outbox(user)
        self._backfilled.pop(user, None)
        for key in [key for key in self._known if key[0] == user]:
            del self._known[key]

    # The archive

    async def _changed(self, user: str, *, wait: bool = False) -> None:
        """Drain the user's outbox soon or, with `wait`, before this returns. Raises `StoreError`."""
        if wait:
            await self._settle(user)
        else:
            self._drain.note(user)

    async def _settle(self, user: str) -> None:
        await self._in_time(self._drain.settle(user))

    async def _in_time(self, settling: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(SETTLE_S):
                await settling
        except TimeoutError as error:
            raise ArchiveError("The archive didn't take the changes in time. Try again in a moment.") from error

    async def _catch_up(self, user: str) -> None:
        """Drain the user's outbox, if there is something in it. Raises `ArchiveError` at once while the archive is away."""
        self._check_reachable()
        (state,) = await self._hot.outbox_states([user])
        if state.entries:
            await self._settle(user)

    async def _is_back(self) -> bool:
        """Return whether the archive answers again, although the drain hasn't noticed it yet."""
        if not self._drain.state.is_degraded:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(ATTEMPT_S):
                await self._drain.attempt()
        return not self._drain.state.is_degraded

    def _check_reachable(self) -> None:
        if self._drain.state.is_degraded:
            raise ArchiveError("The archive can't be reached now. Try again in a moment.")

    async def _from_archive(
        self, user: str, read: Callable[[], Awaitable[T]], read_hot: Callable[[], Awaitable[T]]
    ) -> T:
        """Return what `read` returns after the user's outbox was drained, or, while the archive is away, what `read_hot` returns.

        What Redis doesn't have may be in the archive, so `NotFound` of `read_hot` isn't an answer.
        """
        try:
            await self._backfill(user)
            await self._catch_up(user)
            return await read()
        except ArchiveError as error:
            try:
                return await read_hot()
            except NotFound:
                raise error from None

    async def _backfill(self, user: str) -> None:
        """At the user's first call, note what Redis has of the user from the time before an archive was set."""
        if user not in self._backfilled:
            await self._hot.backfill_outbox(user)
            self._backfilled[user] = None
            if len(self._backfilled) > KNOWN_MAX:
                self._backfilled.popitem(last=False)

    async def _archived_conversation(self, user: str, conversation: str) -> ArchivedConversation:
        """Return a conversation that Redis doesn't have. Raises `NotFound`, and `ArchiveError` if that isn't known."""
        found = await self._cold(user, conversation, lambda: self._archive.conversation(user, conversation))
        if found is None:
            raise NotFound("conversation")
        return found

    async def _cold(
        self, user: str, conversation: str, read: Callable[[], Awaitable[T]], field: str = "conversation"
    ) -> T:
        """Return what `read` finds of a conversation that Redis doesn't have. Raises `NotFound` if it was deleted.

        What Redis doesn't have, the archive has completely, except for deletions.
        """
        try:
            self._check_reachable()
            found = await read()
        except ArchiveError:
            if await self._hot.was_deleted(user, conversation):
                raise NotFound(field) from None
            raise
        if await self._hot.was_deleted(user, conversation):
            raise NotFound(field)
        return found

    async def _archived_message(self, user: str, message: str, field: str) -> ArchivedMessage:
        """Return a message that Redis doesn't have. Raises `NotFound`, and `ArchiveError` if that isn't known."""
        self._check_reachable()
        found = await self._archive.message(user, message)
        if found is None or await self._hot.was_removed(user, found):
            raise NotFound(field)
        return found

    async def _restore(self, user: str, conversation: str, messages: int = RESTORED_MESSAGES) -> None:
        """Bring a conversation back into Redis with its newest messages. Raises `NotFound` and `StoreError`."""
        found = await self._archived_conversation(user, conversation)
        newest, older = await self._archive.newest(user, conversation, messages, RESTORED_BYTES)
        await self._hot.restore_conversation(user, found, newest, has_older=older)

    async def _restore_if_archived(self, user: str, conversation: str) -> bool:
        """Bring a conversation back, if there is one. Return whether there was. Raises `StoreError` if the archive can't say."""
        try:
            await self._restore(user, conversation)
        except NotFound:
            return False
        return True

    async def _restore_for(self, new: NewTurn, conversation: str) -> bool:
        """Bring back the conversation of a new turn, or of a turn that Redis has lost. Return whether there was one.

        If the archive can't be reached, a lost turn's conversation is stored with what this instance knows of it. It stays
        the same conversation for the archive, which keeps the messages that Redis has lost.
        """
        try:
            return await self._restore_if_archived(new.user, conversation)
        except ArchiveError:
            if new.limits is None and await self._is_back():
                with suppress(ArchiveError):
                    return await self._restore_if_archived(new.user, conversation)
            known = self._known.get((new.user, conversation))
            if new.limits is not None or known is None:
                raise
            if new.new_conversation is None:
                raise NotFound("conversation") from None  # the caller tries again with a record of the conversation
            await self._hot.restore_conversation(new.user, known.restored(new.new_conversation), [], has_older=True)
            return True

    def _remember(self, user: str, fields: list[bytes]) -> None:
        known = known_of(fields)
        self._known[user, known.conversation] = known
        self._known.move_to_end((user, known.conversation))
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def _restore_message(self, user: str, message: str, conversation: str | None, field: str) -> None:
        """Bring a message back, and its conversation if that isn't here. Raises `NotFound` and `StoreError`.

        `conversation`: the one that it has to be in. None means any.
        """
        found = await self._archived_message(user, message, field)
        if conversation not in {None, found.conversation}:
            raise NotFound(field)
        try:
            await _bringing_back(
                lambda: self._hot.restore_message(user, found), lambda _: self._restore(user, found.conversation)
            )
        except NotFound:
            raise NotFound(field) from None

    async def _restoring(
        self, user: str, conversation: str | None, call: Callable[[], Awaitable[T]], messages: int = RESTORED_MESSAGES
    ) -> T:
        """Return the result of `call`. If Redis doesn't have the conversation, bring it back first."""

        async def bring_back(missing: NotFound) -> None:
            if missing.field != "conversation" or conversation is None:
                raise missing
            await self._restore(user, conversation, messages)

        return await _bringing_back(call, bring_back)

    async def _with_limits(self, user: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `call`. If the user's storage is full, drain the outbox and try again.

        The archive counts what the user has when the outbox is empty; until then, deletions may not count.
        """
        try:
            return await call()
        except Limited as error:
            if error.limit not in STORED_LIMITS or self._drain.state.is_degraded:
                raise
            try:
                await self._settle(user)
            except StoreError:
                raise error from None
        return await call()


async def _bringing_back(call: Callable[[], Awaitable[T]], bring_back: Callable[[NotFound], Awaitable[object]]) -> T:
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


def archived(hot: Store, archive: Archive, *, sync: bool = False) -> Store:
    """Return `hot`, a Redis store or a wrapper of one, with an archive. `sync`: see `ArchivedStore`."""
    return cast("Store", ArchivedStore(cast("RedisStore", hot), archive, sync=sync))
