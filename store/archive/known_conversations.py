"""The conversations that an instance remembers, in case Redis loses one while the archive can't be reached."""

from __future__ import annotations

import time
from collections import OrderedDict

from msgspec import Struct, structs

from store.archive.records import ArchivedConversation
from store.records import ConversationRecord
from store.redis.records import parse_hash

KNOWN_MAX = 20_000
"""The most conversations that an instance remembers. The one without a new turn for the longest time is forgotten first."""
REVISIONS_SKIPPED, NUMBERS_SKIPPED = 1000, 10_000
"""How far the numbers of a restored conversation are above those that this instance remembers."""


class KnownConversation(Struct, frozen=True):
    """The fields of a conversation when this instance last accepted or claimed one of its turns."""

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


def known_of(fields: list[bytes]) -> KnownConversation:
    """Return what an instance remembers of a conversation, from its fields in Redis."""
    named = parse_hash(fields)
    head = named.get(b"head")
    return KnownConversation(
        conversation=named[b"id"].decode(),
        incarnation=named[b"place"].partition(b":")[0].decode(),
        number=int(named[b"n"]),
        cleared=int(named[b"cleared"]),
        head=None if head is None else head.decode(),
        messages=int(named[b"messages"]),
        revision=int(named[b"revision"]),
    )


class KnownConversations:
    """The conversations that this instance remembers, by user and id."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], KnownConversation] = OrderedDict()

    def get(self, user: str, conversation: str) -> KnownConversation | None:
        """Return what is remembered of a conversation, or None."""
        return self._known.get((user, conversation))

    def remember(self, user: str, fields: list[bytes]) -> None:
        """Remember a conversation of which a turn was accepted or claimed. `fields` are the conversation's fields in Redis."""
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
