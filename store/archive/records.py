"""The records of an outbox, and those that the archive stores and returns.

An outbox belongs to one user. Its entries are numbered by `change`, a number that grows with every change of the user.
"""

from __future__ import annotations

from msgspec import Struct

from store.records import ConversationRecord, Counters, MessageRecord


class ArchivedConversation(Struct, frozen=True, kw_only=True):
    """A conversation as the archive keeps it.

    `incarnation` differs from those of all conversations that had the same id before. `change` is the number of its last
    change, which orders the list. `next_number` is the number of its next message or turn. `cleared` is the revision at which its
    context was cleared last. `size`: bytes of its title, system prompt, metadata and messages.
    `retention_days`: how long after its last change it is kept; None means as long as the setting says.
    """

    record: ConversationRecord
    incarnation: str
    change: int
    next_number: int
    cleared: int
    size: int
    retention_days: int | None = None


class ArchivedMessage(Struct, frozen=True, kw_only=True):
    """A message as the archive keeps it. `number` orders the messages of its conversation.

    `incarnation` is that of its conversation; None if it isn't known. A message may arrive before its conversation.
    `rated_ms` and `rated_model` belong to its feedback; see `HistoryStore.put_feedback`.
    """

    record: MessageRecord
    conversation: str
    number: int
    incarnation: str | None = None
    rated_ms: int | None = None
    rated_model: str | None = None


class ArchivedTurn(Struct, frozen=True, kw_only=True):
    """The usage of an ended turn. `incarnation`: of its conversation; None if the turn was stateless."""

    turn: str
    conversation: str | None
    incarnation: str | None
    model: str
    status: str
    ended_ms: int
    usage: Counters


class RemovedConversation(Struct, frozen=True, kw_only=True):
    """A deleted conversation. A conversation with the same id and another incarnation isn't touched."""

    conversation: str
    incarnation: str


OutboxItem = ArchivedConversation | ArchivedMessage | ArchivedTurn | RemovedConversation


class OutboxEntry(Struct, frozen=True, kw_only=True):
    """An entry of an outbox. `member` names what has changed; `change` numbers the change; `item` is its state now.

    `item` is None if it no longer exists: another entry removes it.
    """

    member: bytes
    change: int
    item: OutboxItem | None


class OutboxBatch(Struct, frozen=True, kw_only=True):
    """The oldest entries of the outbox of `user`, in the order of their changes. No older entry is left out."""

    user: str
    entries: tuple[OutboxEntry, ...]


class Applied(Struct, frozen=True, kw_only=True):
    """The result of applying an `OutboxBatch`.

    `done`: the entries that the archive has now, or that don't belong in it. `stale_until`: the last change that the
    archive had applied before; entries up to this number were skipped, and the outbox renumbers those that it still
    has. None if none was skipped. `poisoned`: the entries that the database refuses for what they contain, each
    with the reason. `conversations` and `stored_bytes`: what the user has in the archive now.
    """

    user: str
    done: tuple[OutboxEntry, ...]
    stale_until: int | None = None
    poisoned: tuple[tuple[OutboxEntry, str], ...] = ()
    conversations: int = 0
    stored_bytes: int = 0
