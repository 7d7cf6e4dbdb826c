"""The plan of a transaction of the archive: the rows that it writes for entries of outboxes, and those it deletes first."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from store.archive.records import (
    ArchivedConversation,
    ArchivedMessage,
    ArchivedTurn,
    OutboxEntry,
    OutboxItem,
    RemovedConversation,
)
from store.archive.rows import conversation_row, feedback_row, message_row, placeholder_row, refusal, turn_row

Key = tuple[str, str]
"""A user and the id of the user's conversation or turn."""


class Tally(Struct):
    """The row of a user."""

    applied: int
    conversations: int
    stored_bytes: int


class StoredConversation(Struct):
    """The values of a conversation's row in the database that the plan compares with those of a new row."""

    incarnation: str
    revision: int
    size: int


class PlannedEntry(Struct, eq=False):
    """An entry with its row. `reason`: why no database can hold it. `refused`: why this one doesn't."""

    user: str
    entry: OutboxEntry
    row: dict[str, Any] = field(default_factory=dict)
    feedback: dict[str, Any] | None = None
    reason: str | None = None
    refused: str | None = None
    is_stale: bool = False

    @property
    def item(self) -> ArchivedConversation | ArchivedMessage | ArchivedTurn | RemovedConversation | None:
        """The state that the entry stores."""
        return self.entry.item

    @property
    def conversation(self) -> Key | None:
        """The conversation that the entry changes."""
        match self.item:
            case ArchivedConversation(record=record):
                return self.user, record.id
            case ArchivedMessage(conversation=conversation) | RemovedConversation(conversation=conversation):
                return self.user, conversation
        return None

    def prepare(self) -> None:
        """Make the row."""
        item = self.item
        if item is None or (reason := refusal(item)) is not None:
            self.reason = None if item is None else reason
            return
        try:
            self._make_row(item)
        except Exception as error:  # whatever it is, the other entries must not wait for this one
            self.reason = f"it can't be made a row ({type(error).__name__})"

    def _make_row(self, item: OutboxItem) -> None:
        match item:
            case ArchivedConversation():
                self.row = conversation_row(self.user, item)
            case ArchivedMessage():
                self.row = message_row(self.user, item)
                self.feedback = feedback_row(self.user, item) if item.record.rating is not None else None
            case ArchivedTurn():
                self.row = turn_row(self.user, item)


class Plan:
    """The rows to write to `conversations`.

    `stored`: those that the database has, or will have. `deleted`: the rows to delete first, each with
    the number of the entry that deletes it.
    """

    def __init__(self, tallies: dict[str, Tally]) -> None:
        self.tallies = tallies
        self.stored: dict[Key, StoredConversation] = {}
        self.deleted: dict[Key, int] = {}
        self.conversations: dict[Key, dict[str, Any]] = {}
        self.placeholders: dict[Key, dict[str, Any]] = {}

    def add(self, each: PlannedEntry) -> None:
        """Add an entry, after those with smaller numbers."""
        key = each.conversation
        if key is None:
            return
        stored = self.stored.get(key)
        match each.item:
            case RemovedConversation(incarnation=incarnation):
                if stored is not None and stored.incarnation in {"", incarnation}:
                    self._delete(key, stored, each.entry.change)
            case ArchivedConversation(incarnation=incarnation, record=record, size=size):
                stored = self._same(key, incarnation, each.entry.change)
                if stored is None or stored.revision <= record.revision:
                    self.conversations[key] = each.row
                    self._store(key, StoredConversation(incarnation, record.revision, size))
            case ArchivedMessage(incarnation=incarnation) as item:
                if self._same(key, incarnation, each.entry.change) is None:
                    self.placeholders[key] = placeholder_row(each.user, item, each.entry.change)
                    self._store(key, StoredConversation(incarnation or "", 0, 0))

    def _same(self, key: Key, incarnation: str | None, change: int) -> StoredConversation | None:
        """Return the row of this incarnation. A row of an earlier one is deleted by the entry `change`."""
        stored = self.stored.get(key)
        if stored is None or not incarnation or stored.incarnation in {"", incarnation}:
            return stored
        self._delete(key, stored, change)
        return None

    def _delete(self, key: Key, stored: StoredConversation, change: int) -> None:
        del self.stored[key]
        self.deleted.setdefault(key, change)
        self.conversations.pop(key, None)
        self.placeholders.pop(key, None)
        tally = self.tallies[key[0]]
        tally.conversations -= 1
        tally.stored_bytes -= stored.size

    def _store(self, key: Key, new: StoredConversation) -> None:
        old, tally = self.stored.get(key), self.tallies[key[0]]
        tally.conversations += old is None
        tally.stored_bytes += new.size - (0 if old is None else old.size)
        self.stored[key] = new
