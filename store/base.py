"""The store's interface: accept a turn, end it, and keep conversations, messages, feedback and usage.

Messages, requests and endings are bytes here. Every read and write names the user: what belongs to another
answers `NotFound`, exactly as what doesn't exist.
"""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct


class StoreError(Exception):
    """The store can't do it now. `message` is for a person."""


class NotFound(StoreError):
    """Nothing of that kind with that id belongs to this user. `what` names the request's field."""

    def __init__(self, what: str) -> None:
        super().__init__(f"no such {what}")
        self.what = what


class Conflict(StoreError):
    """The turn id was used for another request in the last 24 h."""


class Counters(Struct, frozen=True):
    """Sums of tokens, and of money in units of 1e-9 `currency`; None where nothing was priced."""

    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_nano: int | None = None


class ConversationRecord(Struct, frozen=True, kw_only=True):
    """A conversation. `metadata` is JSON; times are ms since 1970."""

    id: str
    user: str
    title: str
    system: str | None
    model: str | None
    metadata: bytes
    head: str | None
    revision: int
    created_ms: int
    updated_ms: int
    messages: int = 0
    usage: Counters = Counters()


class MessageRecord(Struct, frozen=True, kw_only=True):
    """A message of a conversation's tree; `body` is what the gateway keeps of it beside these fields."""

    id: str
    parent: str | None
    role: str
    created_ms: int
    body: bytes
    turn: str | None = None


class NewTurn(Struct, frozen=True, kw_only=True):
    """A turn to accept. `digest` is the hash of its content (law 6).

    `conversation` None with `stateless` False makes a conversation from `new_conversation`. `title` is given to a
    conversation that has none. `parent` None means the conversation's head; `parent_pending` says that the parent
    is the answer of a turn that still runs.
    """

    user: str
    turn: str
    digest: bytes
    request: bytes
    epoch: int
    message: str
    stateless: bool
    conversation: str | None
    new_conversation: ConversationRecord | None
    title: str
    input: MessageRecord | None
    parent: str | None
    parent_pending: bool
    model: str
    now_ms: int


class TurnRecord(Struct, frozen=True, kw_only=True):
    """An accepted turn. `ending` is the wire's ending event; `stateless_message` the answer of a turn in no history."""

    turn: str
    conversation: str | None
    digest: bytes
    epoch: int
    status: str
    message: str
    parent: str | None
    model: str
    seq: int
    ending: bytes | None
    stateless_message: bytes | None


class Unfinished(Struct, frozen=True):
    """A turn that its process left without an ending."""

    user: str
    turn: TurnRecord


class Accepted(Struct, frozen=True, kw_only=True):
    """What became of `accept`. `fresh` False: this user has used the id; `turn` is that turn."""

    fresh: bool
    turn: TurnRecord
    conversation: ConversationRecord | None = None
    input: MessageRecord | None = None


class EndedTurn(Struct, frozen=True, kw_only=True):
    """An ending with all that belongs to it, stored in one step (law 3)."""

    user: str
    turn: str
    epoch: int
    status: Literal["completed", "cancelled", "failed"]
    seq: int
    ending: bytes
    answer: MessageRecord
    usage: Counters
    now_ms: int


class Change(Struct, frozen=True, kw_only=True):
    """What to change of a conversation; None leaves it."""

    title: str | None = None
    system: str | None = None
    model: str | None = None
    metadata: bytes | None = None
    head: str | None = None


class Store(Protocol):
    """What the gateway needs kept. Methods raise `StoreError`; those that take an id raise `NotFound`."""

    async def open(self) -> None:
        """Ready to serve, or `StoreError` that says what to do."""

    async def close(self) -> None:
        """Flush and let go."""

    async def accept(self, new: NewTurn) -> Accepted:
        """Accept a turn with its input message in one step, or answer the turn that has its id. `Conflict`."""

    async def end(self, ended: EndedTurn) -> ConversationRecord | None:
        """Store the ending, the answer and the usage, and move the head, in one step. Repeating it is harmless."""

    async def unfinished(self) -> list[Unfinished]:
        """Turns without an ending, which no living process runs."""

    async def turn(self, user: str, turn: str) -> TurnRecord:
        """An accepted turn of the last 24 h."""

    async def message(self, user: str, message: str) -> MessageRecord:
        """One message."""

    async def branch(self, user: str, conversation: str, last: str | None) -> list[MessageRecord]:
        """The messages from the root to `last`, in order."""

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | None
    ) -> tuple[list[MessageRecord], bool]:
        """At most `limit` messages by time, oldest first, those just before message `before`; whether there are older."""

    async def create_conversation(self, conversation: ConversationRecord) -> None:
        """Keep a new conversation."""

    async def conversation(self, user: str, conversation: str) -> ConversationRecord:
        """One conversation."""

    async def conversations(
        self, user: str, limit: int, before: str | None, query: str | None
    ) -> tuple[list[ConversationRecord], bool]:
        """At most `limit` conversations, last changed first, those after conversation `before`; whether there are more."""

    async def update_conversation(
        self, user: str, conversation: str, change: Change, now_ms: int
    ) -> ConversationRecord:
        """Apply `change`, raise the revision."""

    async def clear_conversation(self, user: str, conversation: str, now_ms: int) -> ConversationRecord:
        """Empty the head; endings of turns accepted before don't move it any more."""

    async def delete_conversation(self, user: str, conversation: str) -> None:
        """Forget it and its messages."""

    async def put_feedback(self, user: str, message: str, rating: str, comment: str | None, now_ms: int) -> None:
        """Keep a rating; a second one replaces the first."""

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """Sums over the user's ended turns."""
