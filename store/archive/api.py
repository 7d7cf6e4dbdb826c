"""The interface of an archive. Every method raises `ArchiveError` if the database fails or can't be reached.

Reads name the user: what belongs to another user is treated exactly as what doesn't exist (law 12).
"""

from __future__ import annotations

from typing import Protocol

from store.archive.records import Applied, ArchivedConversation, ArchivedMessage, OutboxBatch
from store.errors import StoreError
from store.records import ConversationRecord, Counters, DayUsage, FeedbackFilter, FeedbackRecord, Found


class ArchiveError(StoreError):
    """The archive can't do what was asked of it now. The text is for a person, and has neither the URL nor a secret."""


class ArchiveUnfit(ArchiveError):
    """The database answers, but can't be the archive until an operator changes something: its schema, its rights or the URL."""


class Archive(Protocol):
    """A SQL database with the history of all users."""

    async def open(self) -> None:
        """Connect, and check the schema's version. Raises `ArchiveError` with a message that says what to do.

        It may be called again: after a failure, and to check the schema of a database that was away.
        """

    async def close(self) -> None:
        """Close all connections."""

    async def ping(self) -> None:
        """Check that the archive can be read and written now."""

    async def apply(self, batches: list[OutboxBatch]) -> list[Applied]:
        """Write the batches of some users in one transaction; return the results in the order of `batches`.

        Applying a batch again is harmless. An entry that the database refuses for its content is poisoned: the others
        are applied all the same.
        """

    async def conversation(self, user: str, conversation: str) -> ArchivedConversation | None:
        """Return a conversation, or None if there is none."""

    async def conversation_of(self, user: str, message: str) -> str | None:
        """Return the id of the conversation that has the message, or None if there is none."""

    async def message(self, user: str, message: str) -> ArchivedMessage | None:
        """Return a message, or None if there is none."""

    async def newest(
        self, user: str, conversation: str, limit: int, bytes_max: int
    ) -> tuple[list[ArchivedMessage], bool]:
        """Return the newest messages, by number, oldest first, and whether there are older ones.

        They are at most `limit`, and their bodies have at most `bytes_max` bytes together, but there is at least one.
        """

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | int | None, bytes_max: int | None
    ) -> tuple[list[ArchivedMessage], bool]:
        """Return a page; see `HistoryStore.messages`. `before` may be a message's number too. Raises `NotFound`."""

    async def branch(
        self, user: str, conversation: str, last: str, bytes_max: int | None, count_max: int | None = None
    ) -> tuple[list[ArchivedMessage], int]:
        """Return the messages from the root to `last`; see `HistoryStore.branch`. Raises `NotFound`.

        With `count_max`, return at most that many, but always `last`.
        """

    async def conversations(
        self, user: str, limit: int, before: str | None, *, pinned: bool = False
    ) -> tuple[list[ConversationRecord], bool]:
        """Return a page of the user's list, or with `pinned` of its pinned ones; see `HistoryStore.conversations`.

        Raises `NotFound`.
        """

    async def search(self, user: str, query: str, limit: int, before: str | None) -> tuple[list[Found], bool]:
        """Return the conversations that `query` finds in titles and messages, most recently changed first.

        Raises `NotFound` for `before`.
        """

    async def list_feedback(
        self, selected: FeedbackFilter, limit: int, before: tuple[int, str] | None
    ) -> tuple[list[FeedbackRecord], bool]:
        """See `HistoryStore.list_feedback`."""

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """See `HistoryStore.usage`. `conversation`: None for all turns. Raises `NotFound`."""

    async def usage_days(self, user: str) -> list[DayUsage]:
        """See `HistoryStore.usage_days`. The days are those of all turns that the archive has."""

    async def expired(self, now_ms: int, retention_days: int, limit: int) -> list[tuple[str, str]]:
        """Return the (user, conversation) of some conversations whose retention is over, oldest first.

        `retention_days`: for those that have none of their own; 0 means forever.
        """

    async def erase(self, user: str) -> None:
        """Delete everything of the user. Harmless if there is nothing."""
