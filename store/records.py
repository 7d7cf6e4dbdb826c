"""The records of a store: turns, logs, leases, conversations and messages.

Requests, events, endings and the bodies of messages are bytes here. Every read and write of a record names the user:
an id of another user is treated exactly as an id that doesn't exist (law 12).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, structs

PINNED_MAX = 100
"""The number of conversations that a user may pin."""


class Counters(Struct, frozen=True):
    """Sums of tokens and of cost. `cost_nano` is in billionths of a US dollar, and None if nothing had a price."""

    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_nano: int | None = None


class DayUsage(Struct, frozen=True, kw_only=True):
    """The sums over the turns that ended on a UTC day, which begins `day_ms` after 1970."""

    day_ms: int
    turns: int
    usage: Counters


class ConversationRecord(Struct, frozen=True, kw_only=True):
    """A conversation. `metadata` is JSON; times are ms since 1970.

    `retention_days`: how long after its last change it is kept. 0 means forever; None means as long as the setting says.
    """

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
    retention_days: int | None = None
    pinned: bool = False

    @property
    def size(self) -> int:
        """Number of bytes of its title, system prompt and metadata, without its messages."""
        return len(self.title.encode()) + len((self.system or "").encode()) + len(self.metadata)

    def changed_by(self, change: Change) -> ConversationRecord:
        """Return the conversation with the values that `change` gives."""
        values = {name: value for name, value in structs.asdict(change).items() if value is not None}
        values.pop("replaced_title", None)
        return structs.replace(self, **values)


class MessageRecord(Struct, frozen=True, kw_only=True):
    """A message in a conversation's tree. `body` has what the gateway stores besides these fields.

    `rating` and `comment` are its feedback, which `put_feedback` stores.
    """

    id: str
    parent: str | None
    role: str
    created_ms: int
    body: bytes
    turn: str | None = None
    rating: str | None = None
    comment: str | None = None


class FeedbackRecord(Struct, frozen=True, kw_only=True):
    """The feedback of a user on a message. `model` is the model that wrote the message, or None if none did."""

    user: str
    message: str
    conversation: str
    turn: str | None
    model: str | None
    rating: str
    comment: str | None
    rated_ms: int


class Found(Struct, frozen=True, kw_only=True):
    """A conversation that a search has found, the message in which it was found, and the text around the place.

    `message` and `snippet` are None if only the title matches.
    """

    record: ConversationRecord
    message: str | None = None
    snippet: str | None = None


class FeedbackFilter(Struct, frozen=True, kw_only=True):
    """The feedback to list: of one model, with one rating, from `since_ms` on, before `until_ms`. None selects any."""

    model: str | None = None
    rating: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def selects(self, feedback: FeedbackRecord) -> bool:
        """Return whether the model and the rating are those to list. The time isn't checked."""
        return self.model in {None, feedback.model} and self.rating in {None, feedback.rating}


DAY_MS = 86_400_000


class TurnLimits(Struct, frozen=True, kw_only=True):
    """The limits of a user, over all instances; 0 means no limit.

    `running`: the turns that run at once; others wait. `live`: the running and the waiting turns; `live_bytes`: the bytes
    of their requests. `conversations`: the stored conversations; `stored_bytes`: the bytes of their titles, system
    prompts, metadata and messages.
    One turn may start every `start_interval_us`, by the store's clock, and `start_burst` turns may start at once.
    A day is a UTC day. `cost_nano_per_day` is in billionths of a US dollar. `conversation_tokens` limits each
    conversation. Both limits on tokens count input and output tokens.
    """

    running: int = 0
    live: int = 0
    live_bytes: int = 0
    conversations: int = 0
    stored_bytes: int = 0
    start_interval_us: int = 0
    start_burst: int = 1
    tokens_per_day: int = 0
    cost_nano_per_day: int = 0
    conversation_tokens: int = 0


class NewTurn(Struct, frozen=True, kw_only=True):
    """A turn to accept. `digest` is the hash of its content (law 6); `owner` is the instance that will run it.

    `conversation` is the id that the request names. `new_conversation` is created unless its user has a conversation with
    its id; if both are given, the ids are the same.
    `title` is for a conversation without one.
    `parent` None means the conversation's head or, with `on_busy` "queue", the answer of its newest running turn,
    unless the conversation was cleared after that turn was accepted.
    `epoch` is a proposal that the store may raise. With `limits` None, no limit is checked: that is for a turn that was
    accepted before and that the store has lost. `retention_days` becomes that of the conversation.
    """

    user: str
    turn: str
    owner: str
    lease_ms: int
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
    on_busy: Literal["parallel", "queue", "reject"]
    model: str
    now_ms: int
    limits: TurnLimits | None = None
    retention_days: int | None = None

    @property
    def conversation_id(self) -> str | None:
        """The id of the conversation, which may not exist yet; None if the turn is in no history."""
        return self.conversation if self.new_conversation is None else self.new_conversation.id


class TurnRecord(Struct, frozen=True, kw_only=True):
    """An accepted turn. `seq` is the end of its log; `ending` is the encoded ending event, None while it runs.

    `request` is kept until the ending. `stateless_message` is the answer of a turn that is in no history. `cancel` is
    the stored cancel request, if there is one.
    """

    user: str
    turn: str
    conversation: str | None
    digest: bytes
    request: bytes | None
    epoch: int
    owner: str
    status: str
    message: str
    input: str | None
    parent: str | None
    model: str
    seq: int
    accepted_ms: int
    ending: bytes | None = None
    stateless_message: bytes | None = None
    cancel: bytes | None = None


RunningGroups = tuple[tuple[str, ...], ...]
"""Groups of ids of turns; in each group, only one turn runs at a time."""


class Accepted(Struct, frozen=True, kw_only=True):
    """The result of `accept`.

    `is_new` False: the user has used the id, and `turn` is the turn that has it, with `request` None.
    `ahead`: with `on_busy` "queue", the ids of the conversation's turns that have to end first, oldest first.
    `running_groups`: the groups of earlier turns, as `Store.running_groups` returns them.
    """

    is_new: bool
    turn: TurnRecord
    conversation: ConversationRecord | None = None
    input: MessageRecord | None = None
    ahead: tuple[str, ...] = ()
    running_groups: RunningGroups = ()


class Append(Struct, frozen=True):
    """Events `first` to `last` of a turn, written in `epoch`. `payload` is their encoding, opaque to the store."""

    user: str
    turn: str
    epoch: int
    first: int
    last: int
    payload: bytes


class Appended(Struct, frozen=True):
    """The result of one `Append`. `end` is the last seq of the log now; `cancel` is a stored cancel request.

    "stored": the events are in the log; this append or an earlier one wrote them. "gap": nothing was written; write again
    from `end` + 1. "fenced": another owner has the turn, or the turn has ended. "missing": the store has no such turn.
    "unavailable": the part of the store that has the turn fails, and the others don't; repeat the append later.
    """

    outcome: Literal["stored", "gap", "fenced", "missing", "unavailable"]
    end: int
    cancel: bytes | None = None


class LogEntry(Struct, frozen=True):
    """The log entry that one `Append` has written."""

    epoch: int
    first: int
    last: int
    payload: bytes


class Lease(Struct, frozen=True):
    """The result of renewing a lease. `held`: the owner still has the turn. `cancel` is a stored cancel request.

    `missing`: the store has no such turn, as after a loss of data; `held` is True, and the owner has to restore it.
    """

    held: bool
    cancel: bytes | None = None
    missing: bool = False


class EndedTurn(Struct, frozen=True, kw_only=True):
    """An ending and everything that is stored with it in one step (law 3).

    `events` has the events that the log doesn't have yet; the ending is the last of them, so `events.last` is its seq.
    """

    user: str
    turn: str
    epoch: int
    status: Literal["completed", "cancelled", "failed"]
    events: Append
    ending: bytes
    answer: MessageRecord
    usage: Counters
    now_ms: int


class Change(Struct, frozen=True, kw_only=True):
    """The changes to a conversation; None leaves a value as it is.

    A change of `pinned` alone leaves the conversation's place in the list, and its time of the last change. With
    `replaced_title`, nothing changes if the conversation has another title than that.
    """

    title: str | None = None
    system: str | None = None
    model: str | None = None
    metadata: bytes | None = None
    head: str | None = None
    pinned: bool | None = None
    replaced_title: str | None = None

    @property
    def keeps_place(self) -> bool:
        """Whether the conversation keeps its place in the list."""
        return self == Change(pinned=self.pinned) and self.pinned is not None
