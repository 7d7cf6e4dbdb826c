"""An archive in memory, for tests of the outbox and the drain that don't need a database."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from msgspec import structs

from store.archive.api import ArchiveError
from store.archive.records import (
    Applied,
    ArchivedConversation,
    ArchivedMessage,
    ArchivedTurn,
    OutboxBatch,
    OutboxEntry,
    RemovedConversation,
)
from store.records import (
    ConversationRecord,
    Counters,
    FeedbackFilter,
    FeedbackRecord,
    NotFound,
)


class MemoryArchive:
    """An `Archive` of one process. `is_away`: calls fail. `gate`: `apply` waits for it before it commits."""

    def __init__(self) -> None:
        self.is_away = False
        self.gate: asyncio.Event | None = None
        self.refused: set[bytes] = set()
        self.applied: dict[str, int] = defaultdict(int)
        self.conversations_of: dict[str, dict[str, ArchivedConversation]] = defaultdict(dict)
        self.messages_of: dict[str, dict[str, ArchivedMessage]] = defaultdict(dict)
        self.turns_of: dict[str, dict[str, ArchivedTurn]] = defaultdict(dict)
        self.calls = 0

    def _check(self) -> None:
        self.calls += 1
        if self.is_away:
            raise ArchiveError("The archive can't be reached.")

    async def open(self) -> None:
        self._check()

    async def close(self) -> None:
        pass

    async def ping(self) -> None:
        self._check()

    async def apply(self, batches: list[OutboxBatch]) -> list[Applied]:
        self._check()
        if self.gate is not None:
            await self.gate.wait()
        self._check()
        return [self._apply(batch) for batch in batches]

    def _apply(self, batch: OutboxBatch) -> Applied:
        user, done, stale = batch.user, list[OutboxEntry](), None
        poisoned: list[tuple[OutboxEntry, str]] = []
        last = self.applied[user]
        for entry in batch.entries:
            if entry.change <= last:
                stale = last
                continue
            if entry.member in self.refused:
                poisoned.append((entry, "refused"))
                continue
            self._put(user, entry)
            done.append(entry)
            self.applied[user] = max(self.applied[user], entry.change)
        conversations = self.conversations_of[user].values()
        return Applied(
            user=user,
            done=tuple(done),
            stale_until=stale,
            poisoned=tuple(poisoned),
            conversations=len(conversations),
            stored_bytes=sum(one.size for one in conversations),
        )

    def _put(self, user: str, entry: OutboxEntry) -> None:
        item = entry.item
        conversations = self.conversations_of[user]
        if isinstance(item, RemovedConversation):
            found = conversations.get(item.conversation)
            if found is not None and found.incarnation == item.incarnation:
                self._remove(user, item.conversation)
        elif isinstance(item, ArchivedConversation):
            found = conversations.get(item.record.id)
            if found is not None and found.incarnation != item.incarnation:
                self._remove(user, item.record.id)
                found = None
            if found is None or item.record.revision >= found.record.revision:
                conversations[item.record.id] = item
        elif isinstance(item, ArchivedMessage):
            self.messages_of[user][item.record.id] = item
        elif isinstance(item, ArchivedTurn):
            self.turns_of[user].setdefault(item.turn, item)

    def _remove(self, user: str, conversation: str) -> None:
        self.conversations_of[user].pop(conversation)
        messages = self.messages_of[user]
        for name in [name for name, one in messages.items() if one.conversation == conversation]:
            del messages[name]

    async def conversation(self, user: str, conversation: str) -> ArchivedConversation | None:
        self._check()
        return self.conversations_of[user].get(conversation)

    async def message(self, user: str, message: str) -> ArchivedMessage | None:
        self._check()
        return self.messages_of[user].get(message)

    def _numbered(self, user: str, conversation: str) -> list[ArchivedMessage]:
        found = [one for one in self.messages_of[user].values() if one.conversation == conversation]
        return sorted(found, key=lambda one: one.number)

    async def newest(
        self, user: str, conversation: str, limit: int, bytes_max: int
    ) -> tuple[list[ArchivedMessage], bool]:
        self._check()
        return _fit(self._numbered(user, conversation), limit, bytes_max)

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | int | None, bytes_max: int | None
    ) -> tuple[list[ArchivedMessage], bool]:
        self._check()
        if conversation not in self.conversations_of[user]:
            raise NotFound("conversation")
        found = self._numbered(user, conversation)
        if isinstance(before, str):
            numbers = [one.number for one in found if one.record.id == before]
            if not numbers:
                raise NotFound("before")
            before = numbers[0]
        if before is not None:
            found = [one for one in found if one.number < before]
        return _fit(found, limit, bytes_max)

    async def branch(
        self, user: str, conversation: str, last: str, bytes_max: int | None
    ) -> tuple[list[ArchivedMessage], int]:
        self._check()
        messages = self.messages_of[user]
        branch: list[ArchivedMessage] = []
        name: str | None = last
        while name is not None and name in messages and messages[name].conversation == conversation:
            branch.append(messages[name])
            name = messages[name].record.parent
        if not branch or conversation not in self.conversations_of[user]:
            raise NotFound("parent")
        kept, _ = _fit(branch[::-1], len(branch), bytes_max)
        return kept, len(branch) - len(kept)

    async def conversations(self, user: str, limit: int, before: str | None) -> tuple[list[ConversationRecord], bool]:
        self._check()
        found = sorted(self.conversations_of[user].values(), key=lambda one: -one.change)
        names = [one.record.id for one in found]
        if before is not None:
            if before not in names:
                raise NotFound("before")
            found = found[names.index(before) + 1 :]
        return [one.record for one in found[:limit]], len(found) > limit

    async def list_feedback(
        self, selected: FeedbackFilter, limit: int, before: tuple[int, str] | None
    ) -> tuple[list[FeedbackRecord], bool]:
        self._check()
        found = [
            FeedbackRecord(
                user=user,
                message=one.record.id,
                conversation=one.conversation,
                turn=one.record.turn,
                model=one.rated_model,
                rating=one.record.rating or "",
                comment=one.record.comment,
                rated_ms=one.rated_ms or 0,
            )
            for user, messages in self.messages_of.items()
            for one in messages.values()
            if one.record.rating is not None
        ]
        found = [
            one
            for one in sorted(found, key=lambda one: (one.rated_ms, one.message), reverse=True)
            if selected.selects(one)
            and (selected.since_ms is None or one.rated_ms >= selected.since_ms)
            and (selected.until_ms is None or one.rated_ms < selected.until_ms)
            and (before is None or (one.rated_ms, one.message) < before)
        ]
        return found[:limit], len(found) > limit

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        self._check()
        found = self.conversations_of[user].get(conversation) if conversation is not None else None
        if conversation is not None and found is None:
            raise NotFound("conversation")
        sums: dict[str, int | None] = structs.asdict(Counters())
        for turn in self.turns_of[user].values():
            if found is not None and turn.incarnation != found.incarnation:
                continue
            if since_ms is not None and turn.ended_ms < since_ms:
                continue
            for name, value in structs.asdict(turn.usage).items():
                if value is not None:
                    sums[name] = (sums[name] or 0) + value
        return Counters(**sums)  # type: ignore[arg-type]


def _fit(found: list[ArchivedMessage], limit: int, bytes_max: int | None) -> tuple[list[ArchivedMessage], bool]:
    """Return the newest of `found`, and whether there are older ones."""
    kept: list[ArchivedMessage] = []
    size = 0
    for one in reversed(found[-limit:] if limit else []):
        size += len(one.record.body)
        if kept and bytes_max is not None and size > bytes_max:
            break
        kept.insert(0, one)
    return kept, len(kept) < len(found)
