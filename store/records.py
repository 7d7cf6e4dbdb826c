"""What a store keeps and how it refuses: records of turns, logs, leases, conversations and messages.

Messages, requests, events and endings are bytes here. Every read and write names the user: what belongs to another
answers `NotFound`, exactly as what doesn't exist.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, structs


class StoreError(Exception):
    """The store can't do it now. `message` is for a person."""


class NotFound(StoreError):
    """Nothing of that kind with that id belongs to this user. `what` names the request's field."""

    def __init__(self, what: str) -> None:
        super().__init__(f"no such {what}")
        self.what = what


class Conflict(StoreError):
    """The turn id was used for another request in the last 24 h."""


class Busy(StoreError):
    """The conversation has a running turn, and the new one was not to run beside it or wait."""


LimitName = Literal[
    "starts",
    "live",
    "live_bytes",
    "conversations",
    "stored_bytes",
    "tokens_per_day",
    "cost_per_day",
    "conversation_tokens",
]


class Limited(StoreError):
    """The user has what the limits allow. `retry_after_ms`: when that is over, where it is known."""

    def __init__(self, limit: LimitName, retry_after_ms: int | None = None) -> None:
        super().__init__(f"the limit {limit} is reached")
        self.limit = limit
        self.retry_after_ms = retry_after_ms


class LogGap(StoreError):
    """The events don't continue the log. `end`: its end."""

    def __init__(self, end: int) -> None:
        super().__init__(f"the log ends at {end}")
        self.end = end


class Fenced(StoreError):
    """The turn belongs to a newer epoch: whoever wrote is no longer its owner."""


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

    @property
    def size(self) -> int:
        """The bytes of its texts, without its messages."""
        return len(self.title.encode()) + len((self.system or "").encode()) + len(self.metadata)

    def changed_by(self, change: Change) -> ConversationRecord:
        """The conversation with what the change gives."""
        given = {name: value for name, value in structs.asdict(change).items() if value is not None}
        return structs.replace(self, **given)


class MessageRecord(Struct, frozen=True, kw_only=True):
    """A message of a conversation's tree; `body` is what the gateway keeps of it beside these fields."""

    id: str
    parent: str | None
    role: str
    created_ms: int
    body: bytes
    turn: str | None = None


DAY_MS = 86_400_000


class TurnLimits(Struct, frozen=True, kw_only=True):
    """What a user may have, over all instances; 0: as much as there is.

    `running`: turns at once; the next waits. `live`: with those that wait, and `live_bytes` the requests of all of them.
    `conversations` may be kept, and `stored_bytes` of their titles, system prompts, metadata and messages. Starts may
    come every `start_interval_us`, `start_burst` of them at once, by the store's clock. A day is that of UTC;
    `cost_nano_per_day` is in units of 1e-9 of the currency.
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
    """A turn to accept. `digest` is the hash of its content (law 6), `owner` the instance that will run it.

    `conversation` None with `stateless` False makes a conversation from `new_conversation`. `title` is given to a
    conversation that has none. `parent` None means the conversation's head, or with `on_busy` "queue" the answer of
    the newest turn that still runs there. `epoch` is a proposal: the store may raise it. `limits` None: whatever the
    user has, as for a turn that was accepted before.
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


class TurnRecord(Struct, frozen=True, kw_only=True):
    """An accepted turn. `seq` is the log's end; `ending` the wire's ending event, None while it runs.

    `request` is kept until the ending, `stateless_message` is the answer of a turn in no history, `cancel` a stored
    wish to stop it.
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


Slots = tuple[tuple[str, ...], ...]
"""Ids of turns by the place that they take: of one slot, one runs at a time."""


class Accepted(Struct, frozen=True, kw_only=True):
    """What became of `accept`. `fresh` False: this user has used the id; `turn` is that turn, perhaps without
    its request.

    `ahead`: with `on_busy` "queue", the ids of the conversation's turns that have to end first, oldest first.
    `slots`: see `Store.running_groups`; none where fewer than `limits.running` are taken.
    """

    fresh: bool
    turn: TurnRecord
    conversation: ConversationRecord | None = None
    input: MessageRecord | None = None
    ahead: tuple[str, ...] = ()
    slots: Slots = ()


class Append(Struct, frozen=True):
    """Events `first` … `last` of a turn, written in `epoch`. `payload` is their encoding, opaque here."""

    user: str
    turn: str
    epoch: int
    first: int
    last: int
    payload: bytes


class Appended(Struct, frozen=True):
    """What became of one `Append`: `end` is the log's end now, `cancel` a stored wish to stop the turn.

    "stored": it is in the log (also if it had been before). "gap": nothing was changed, write again from `end` + 1.
    "fenced": another owner has the turn. "missing": the store knows no such turn.
    """

    outcome: Literal["stored", "gap", "fenced", "missing"]
    end: int
    cancel: bytes | None = None


class LogEntry(Struct, frozen=True):
    """What one `Append` wrote."""

    epoch: int
    first: int
    last: int
    payload: bytes


class Lease(Struct, frozen=True):
    """Whose turn a turn is. `held`: this owner still has it. `cancel` is a stored wish to stop it.

    `missing`: the store knows no such turn, as after a loss; it is still held, and its owner has to make it again.
    """

    held: bool
    cancel: bytes | None = None
    missing: bool = False


class EndedTurn(Struct, frozen=True, kw_only=True):
    """An ending with all that belongs to it, stored in one step (law 3).

    `events` are those that the log doesn't have yet, the ending among them, so `events.last` is its seq.
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
    """What to change of a conversation; None leaves it."""

    title: str | None = None
    system: str | None = None
    model: str | None = None
    metadata: bytes | None = None
    head: str | None = None
