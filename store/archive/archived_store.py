"""A store that keeps conversations for years: Redis has those in use, and an archive has all of them.

Turns run in Redis. If a turn needs a conversation that Redis no longer has, the conversation is restored from the archive first.
"""

from __future__ import annotations

from contextlib import suppress
from inspect import iscoroutinefunction
from typing import Any, cast

from store.api import Store
from store.archive.api import Archive, ArchiveError, ArchiveUnfit
from store.archive.archived_history import GENERATED_ID, ArchivedHistory
from store.archive.restorer import LOST_AGAIN, RESTORES_MAX, bringing_back
from store.archive.state import DrainState
from store.errors import NotFound, StoreError
from store.records import Accepted, ConversationRecord, EndedTurn, NewTurn, TurnRecord
from store.redis.records import Cold
from store.redis.store import RedisStore


class ArchivedStore(ArchivedHistory):
    """A `Store` over a `RedisStore` that was created with `archived`, and an archive.

    With `sync`, an ending and a deletion return only when the archive has them.
    """

    shared = True

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
        self._hot.call_on_accepted(self._restorer.known.remember)
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

    async def accept(self, new: NewTurn) -> Accepted:
        """See `TurnStore`."""
        accepted = await self._with_limits(new.user, lambda: self._accept(new))
        self._drain.note_later(new.user)  # mostly the turn's ending follows soon
        return accepted

    async def _accept(self, new: NewTurn) -> Accepted:
        # A generated id is that of a new conversation, unless the request names it in `conversation`.
        is_new = (
            new.conversation is None and GENERATED_ID.fullmatch(new.conversation_id or "") and new.limits is not None
        )
        maybe_archived = bool(not is_new and not new.stateless and new.conversation_id is not None)

        async def accept() -> Accepted:
            nonlocal maybe_archived
            for _ in range(RESTORES_MAX):
                try:
                    return await self._hot.accept_unless_cold(new, maybe_archived=maybe_archived)
                except Cold as cold:
                    # True if it was restored: Redis could lose the conversation again, and it must not be created anew then.
                    maybe_archived = await self._restorer.restore_for(new, cold.conversation)
            raise StoreError(LOST_AGAIN)

        async def bring_back(missing: NotFound) -> None:
            if missing.field != "parent" or new.parent is None:
                raise missing
            await self._restorer.restore_message(new.user, new.parent, new.conversation_id, "parent")

        return await bringing_back(accept, bring_back)

    async def claim(
        self, user: str, turn: str, owner: str, epoch: int, lease_ms: int, *, force: bool = False
    ) -> TurnRecord | None:
        """See `OwnershipStore`. Also replace what this instance knows of the turn's conversation.

        It may be about an earlier conversation with the same id, which was deleted.
        """
        record = await self._hot.claim(user, turn, owner, epoch, lease_ms, force=force)
        if record is not None and record.conversation is not None:
            self._restorer.known.forget(user, record.conversation)
            with suppress(NotFound):
                self._restorer.known.remember(user, await self._hot.conversation_fields(user, record.conversation))
        return record

    async def end(self, ended: EndedTurn) -> ConversationRecord | None:
        """See `TurnStore`."""
        try:
            record = await self._hot.end_unless_cold(ended, maybe_archived=True)
        except Cold as cold:
            await self._restorer.restore_if_archived(ended.user, cold.conversation)
            record = await self._hot.end_unless_cold(ended)
        await self._changed(ended.user, wait=self._sync)
        if self._sync and (await self._hot.turn(ended.user, ended.turn)).status == "running":
            # Redis has lost the ending before it was archived, and the turn was restored meanwhile.
            raise ArchiveError("Redis lost the ending before the archive had it. Store it again.")
        return record

    async def active(self, user: str, conversation: str | None) -> list[str]:
        """See `TurnStore`."""
        return await self._restorer.restoring(user, conversation, lambda: self._hot.active(user, conversation))


def archived(hot: Store, archive: Archive, *, sync: bool = False) -> Store:
    """Return `hot`, a Redis store or a wrapper of one, with an archive. `sync`: see `ArchivedStore`."""
    return cast("Store", ArchivedStore(cast("RedisStore", hot), archive, sync=sync))
