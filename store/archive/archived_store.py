"""A store that keeps conversations for years: Redis has those in use, and an archive has all of them.

An operation on data that Redis has runs there. A conversation that Redis no longer has is read from the archive, and comes
back into Redis when it is changed. The list, the search, the ratings and the usage are read from the archive, after the user's
outbox was drained.
"""

from __future__ import annotations

import re
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import Any, cast

import structlog

from store.api import Store
from store.archive.access import ArchiveAccess
from store.archive.api import Archive, ArchiveError, ArchiveUnfit
from store.archive.restorer import LOST_AGAIN, RESTORES_MAX, bringing_back
from store.archive.state import DrainState
from store.errors import NotFound, StoreError
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
    MessageRecord,
    NewTurn,
    TurnLimits,
    TurnRecord,
)
from store.redis.records import Cold
from store.redis.store import RedisStore

log = structlog.stdlib.get_logger("turnwire.archive")

_OWN_ID = re.compile(r"c_[0-9A-Za-z_-]{22}")


class ArchivedStore(ArchiveAccess):
    """A `Store` over a `RedisStore` that was created with `archived`, and an archive.

    With `sync`, an ending and a deletion return only when the archive has them.
    """

    shared = True

    def __init__(self, hot: RedisStore, archive: Archive, *, sync: bool = False) -> None:
        super().__init__(hot, archive)
        self._sync = sync

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
        self._hot.call_on_accepted(self._restorer.remember)
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
        """See `OwnershipStore`. Also replace what this instance knows of the turn's conversation.

        It may be about an earlier conversation with the same id, which was deleted.
        """
        record = await self._hot.claim(user, turn, owner, epoch, lease_ms, force=force)
        if record is not None and record.conversation is not None:
            self._restorer.forget(user, record.conversation)
            with suppress(NotFound):
                self._restorer.remember(user, await self._hot.conversation_fields(user, record.conversation))
        return record

    async def _accept(self, new: NewTurn) -> Accepted:
        # The gateway has made an id of this form for a new conversation, unless the request names it in `conversation`.
        is_ours = new.conversation is None and _OWN_ID.fullmatch(new.conversation_id or "") and new.limits is not None
        look = bool(not is_ours and not new.stateless and new.conversation_id is not None)

        async def accept() -> Accepted:
            nonlocal look
            for _ in range(RESTORES_MAX):
                try:
                    return await self._hot.accept_or_look(new, look=look)
                except Cold as cold:
                    # If Redis loses the conversation again after this, it must not be created anew: so look again.
                    look = await self._restorer.restore_for(new, cold.conversation)
            raise StoreError(LOST_AGAIN)

        async def bring_back(missing: NotFound) -> None:
            if missing.field != "parent" or new.parent is None:
                raise missing
            await self._restorer.restore_message(new.user, new.parent, new.conversation_id, "parent")

        return await bringing_back(accept, bring_back)

    async def end(self, ended: EndedTurn) -> ConversationRecord | None:
        """See `TurnStore`."""
        try:
            record = await self._hot.end_or_look(ended, look=True)
        except Cold as cold:
            await self._restorer.restore_if_archived(ended.user, cold.conversation)
            record = await self._hot.end_or_look(ended)
        await self._changed(ended.user, wait=self._sync)
        if self._sync and (await self._hot.turn(ended.user, ended.turn)).status == "running":
            # Redis has lost the ending before it was archived, and the turn was restored meanwhile.
            raise ArchiveError("Redis lost the ending before the archive had it. Store it again.")
        return record

    async def active(self, user: str, conversation: str | None) -> list[str]:
        """See `TurnStore`."""
        return await self._restorer.restoring(user, conversation, lambda: self._hot.active(user, conversation))

    # History

    async def message(self, user: str, message: str) -> MessageRecord:
        """See `HistoryStore`."""
        try:
            return await self._hot.message(user, message)
        except NotFound:
            return (await self._restorer.archived_message(user, message, "message")).record

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
        try:
            hot = await self._hot.hot_branch(user, conversation, last, bytes_max, count_max)
        except NotFound:
            found, older = await self._restorer.read_cold(
                user,
                conversation,
                lambda: self._archive.branch(user, conversation, last, bytes_max, count_max),
                "parent",
            )
            return [one.record for one in found], older
        if hot.parent is None:
            return hot.messages, hot.older
        left = None if bytes_max is None else bytes_max - sum(len(one.body) for one in hot.messages)
        count_left = None if count_max is None else count_max - len(hot.messages)
        if hot.older:
            left = 0
        try:
            self._restorer.check_reachable()
            found, older = await self._archive.branch(user, conversation, hot.parent, left, count_left)
        except NotFound:
            return hot.messages, hot.older
        except ArchiveError as error:
            # A turn that goes on without its oldest context is better than one that fails.
            log.warning("older messages of a conversation can't be read", conversation=conversation, error=str(error))
            return hot.messages, hot.older + 1
        is_too_large = left is not None and sum(len(one.record.body) for one in found) > left
        if hot.older or is_too_large or (count_left is not None and count_left <= 0):
            # The archive always returns `hot.parent`. But newer messages are there already, so leave it out.
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
                # Redis has the conversation, but not the message `before`. The archive may not have the conversation yet.
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
        self._restorer.check_reachable()
        older, more = await self._archive.messages(user, conversation, max(wanted, 1), hot.cold, left)
        records = [one.record for one in older]
        if hot.messages and left is not None and sum(len(one.body) for one in records) > left:
            return hot.messages, True  # the archive returns one message in any case
        return [*records, *hot.messages], more

    async def _archived_page(
        self, user: str, conversation: str, limit: int, before: str | None, bytes_max: int | None
    ) -> tuple[list[MessageRecord], bool]:
        page, more = await self._restorer.read_cold(
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
                    is_cold = await self._restorer.restore_if_archived(user, conversation.id)

        created = await self._with_limits(user, create)
        await self._changed(user)
        return created

    async def conversation(self, user: str, conversation: str) -> ConversationRecord:
        """See `HistoryStore`."""
        try:
            return await self._hot.conversation(user, conversation)
        except NotFound:
            return (await self._restorer.archived_conversation(user, conversation)).record

    async def conversations(
        self, user: str, limit: int, before: str | None, *, whole: bool = False, pinned: bool = False
    ) -> tuple[list[ConversationRecord], bool]:
        """See `HistoryStore`. While the archive can't be reached, list those that Redis has, unless `whole`."""
        return await self._from_archive(
            user,
            lambda: self._archive.conversations(user, limit, before, pinned=pinned),
            None if whole else lambda: self._hot.conversations(user, limit, before, pinned=pinned),
        )

    async def update_conversation(
        self, user: str, conversation: str, change: Change, now_ms: int, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """See `HistoryStore`."""

        async def update() -> ConversationRecord:
            return await self._hot.update_conversation(user, conversation, change, now_ms, limits)

        async def bring_back(missing: NotFound) -> None:
            if missing.field == "head" and change.head is not None:
                await self._restorer.restore_message(user, change.head, conversation, "head")
            elif missing.field == "conversation":
                await self._restorer.restore(user, conversation)
            else:
                raise missing

        changed = await self._with_limits(user, lambda: bringing_back(update, bring_back))
        await self._changed(user)
        return changed

    async def clear_conversation(self, user: str, conversation: str, now_ms: int) -> ConversationRecord:
        """See `HistoryStore`."""
        cleared = await self._restorer.restoring(
            user, conversation, lambda: self._hot.clear_conversation(user, conversation, now_ms)
        )
        await self._changed(user)
        return cleared

    async def delete_conversation(self, user: str, conversation: str) -> list[str]:
        """See `HistoryStore`."""
        running = await self._restorer.restoring(
            user, conversation, lambda: self._hot.delete_conversation(user, conversation), messages=1
        )
        self._restorer.forget(user, conversation)
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
        await bringing_back(
            lambda: self._hot.put_feedback(user, message, rating, comment, now_ms, model),
            lambda _: self._restorer.restore_message(user, message, None, "message"),
        )
        await self._changed(user)

    async def list_feedback(
        self, selected: FeedbackFilter, limit: int, before: tuple[int, str] | None
    ) -> tuple[list[FeedbackRecord], bool]:
        """See `HistoryStore`. The ratings of conversations that Redis doesn't have are listed too."""
        self._restorer.check_reachable()
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
        return await self._from_archive(user, lambda: self._archive.usage_days(user), None)

    async def search(self, user: str, query: str, limit: int, before: str | None) -> tuple[list[Found], bool]:
        """See `HistoryStore`. While the archive can't be reached, search what Redis has."""
        return await self._from_archive(
            user,
            lambda: self._archive.search(user, query, limit, before),
            lambda: self._hot.search(user, query, limit, before),
        )

    async def expired_conversations(self, now_ms: int, retention_days: int, limit: int) -> list[tuple[str, str]]:
        """See `HistoryStore`.

        If changes of the users that the archive finds still wait in outboxes, archive them, and ask the archive again.
        """
        self._restorer.check_reachable()
        found = await self._archive.expired(now_ms, retention_days, limit)
        users = list(dict.fromkeys(user for user, _ in found))
        states = await self._hot.outbox_states(users) if users else []
        pending = [user for user, state in zip(users, states, strict=True) if state.entries]
        if not pending:
            return found
        await self._in_time(self._drain.settle_users(pending))
        return await self._archive.expired(now_ms, retention_days, limit)

    async def erase_user(self, user: str) -> None:
        """See `HistoryStore`. Erase the user in Redis, in the archive, and in the index of the outboxes.

        Redis comes first, so that no instance finds something to archive.
        """
        await self._hot.erase_user(user)
        # Noted before the archive is erased: an instance that archives earlier changes of the user after this erases them again.
        await self._hot.note_erasure(user)
        self._restorer.check_reachable()
        await self._archive.erase(user)
        await self._hot.erase_outbox(user)
        self._backfilled.pop(user, None)
        self._restorer.forget_user(user)


def archived(hot: Store, archive: Archive, *, sync: bool = False) -> Store:
    """Return `hot`, a Redis store or a wrapper of one, with an archive. `sync`: see `ArchivedStore`."""
    return cast("Store", ArchivedStore(cast("RedisStore", hot), archive, sync=sync))
