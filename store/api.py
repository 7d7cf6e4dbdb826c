"""The store's interface: turns with their logs and leases, signals between instances, and the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from store.records import (
    Accepted,
    Append,
    Appended,
    Change,
    ConversationRecord,
    Counters,
    EndedTurn,
    Lease,
    LogEntry,
    MessageRecord,
    NewTurn,
    Slots,
    TurnLimits,
    TurnRecord,
)

Deliver = Callable[[str, bytes], None]


def _quoted(user: str) -> str:
    """The user without a colon, so that no two pairs of a user and an id share a channel (law 12)."""
    return user.replace("%", "%25").replace(":", "%3A") if ":" in user or "%" in user else user


def turn_channel(user: str, turn: str) -> str:
    """Where a turn's log entries are published, each as an encoded `LogEntry`."""
    return f"turn:{_quoted(user)}:{turn}"


def conversation_channel(user: str, conversation: str) -> str:
    """Where instances tell each other about a conversation."""
    return f"conversation:{_quoted(user)}:{conversation}"


def instance_channel(instance: str) -> str:
    """Where an instance is told of wishes to stop its turns, each as an encoded `(user, turn)`."""
    return f"instance:{instance}"


class Store(Protocol):
    """What the gateway needs kept. Methods raise `StoreError`; those that take an id raise `NotFound`.

    Durations are measured by the store's clock. `shared` says whether other instances may use it at the same time.
    """

    shared: bool

    async def open(self) -> None:
        """Ready to serve, or `StoreError` that says what to do."""

    async def close(self) -> None:
        """Flush and let go."""

    async def ping(self) -> None:
        """Whether it can be reached now: returns, or `StoreError`."""

    # Turns

    async def accept(self, new: NewTurn) -> Accepted:
        """Accept a turn with its input message and its lease in one step, or answer the turn that has its id.

        Tells the conversation's channel the turn's id. Raises `Conflict`, `Busy`, `NotFound`, `Limited`.
        """

    async def append(self, appends: list[Append]) -> list[Appended]:
        """Write to the logs of many turns in one round trip; each alone is atomic. Publishes what is new."""

    async def end(self, ended: EndedTurn) -> ConversationRecord | None:
        """Store the last events, the answer, the usage and the ending, move the head, drop the lease, in one step.

        Repeating it is harmless. Raises `Fenced`, `NotFound`, or `LogGap` if `events` don't continue the log.
        """

    async def turn(self, user: str, turn: str, *, with_request: bool = False) -> TurnRecord:
        """Return an accepted turn of the last 24 h; its request, up to 20 MiB, only `with_request`."""

    async def running(self, user: str, turns: list[str]) -> list[bool | None]:
        """For each of `turns`, in that order: True while it runs, False after its ending, None if there is no such turn.

        One round trip, however many are asked for.
        """

    async def log(self, user: str, turn: str, after: int) -> list[LogEntry]:
        """The entries that hold events after seq `after`, in order, at most about 1 MiB; none where nothing is kept."""

    async def active(self, user: str, conversation: str | None) -> list[str]:
        """The ids of the conversation's turns without an ending, oldest first; None: of all of the user's."""

    async def running_groups(self, user: str, turn: str, running: int) -> Slots:
        """What the user's turns that were accepted before `turn`, and have no ending, take of the places for running
        turns, oldest first: a slot for each, but one that waits in its conversation shares the slot of those ahead.
        None where fewer than `running` are taken, or `running` is 0.
        """

    # Ownership

    async def renew(self, owner: str, turns: list[tuple[str, str, int]], lease_ms: int) -> list[Lease]:
        """Prolong the leases of (user, turn, epoch) in one call; a lapsed one that nobody took is renewed too."""

    async def release(self, user: str, turn: str, epoch: int) -> None:
        """Let the lease lapse now, so that another instance takes the turn. Harmless where it isn't held."""

    async def expired_leases(self) -> list[tuple[str, str]]:
        """(user, turn) of some turns whose lease has lapsed: a hint."""

    async def claim(
        self, user: str, turn: str, owner: str, epoch: int, lease_ms: int, *, force: bool = False
    ) -> TurnRecord | None:
        """Become the owner, with an epoch of at least `epoch` and above the last; None if it has ended or is held.

        `force` takes it from a living owner too.
        """

    async def request_cancel(self, user: str, turn: str, wish: bytes) -> bool:
        """Store the wish and tell the owner's channel; whether the turn still runs. The first wish stays."""

    # Signals

    async def run_pubsub(self, deliver: Deliver, on_reconnect: Callable[[], None]) -> None:
        """Deliver what is published on followed channels, until cancelled; at most once, and after a loss of the
        connection `on_reconnect` first."""

    async def subscribe(self, channel: str) -> None:
        """Begin to hear a channel; returns when it is heard."""

    async def unsubscribe(self, channel: str) -> None:
        """Hear it no longer."""

    async def publish(self, channel: str, payload: bytes) -> None:
        """Tell whoever follows the channel, on other instances too."""

    async def renew_presence(self, instance: str, turns: list[tuple[str, str]], ttl_ms: int) -> None:
        """`instance` has connections attached to these turns, for `ttl_ms` (law 8)."""

    async def has_other_presence(self, user: str, turn: str, instance: str) -> bool:
        """Whether another instance has touched the turn and its time isn't over."""

    # History

    async def message(self, user: str, message: str) -> MessageRecord:
        """One message."""

    async def branch(
        self, user: str, conversation: str, last: str | None, bytes_max: int | None = None
    ) -> tuple[list[MessageRecord], int]:
        """The messages from the root to `last`, in order; the newest of them whose bodies are `bytes_max` together, and
        `last` in any case. With them, how many older ones there are.
        """

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | None
    ) -> tuple[list[MessageRecord], bool]:
        """At most `limit` messages by time, oldest first, those just before message `before`; whether there are older."""

    async def create_conversation(self, conversation: ConversationRecord, limits: TurnLimits | None = None) -> None:
        """Keep a new conversation. Raises `Limited`."""

    async def conversation(self, user: str, conversation: str) -> ConversationRecord:
        """One conversation."""

    async def conversations(
        self, user: str, limit: int, before: str | None, query: str | None
    ) -> tuple[list[ConversationRecord], bool]:
        """At most `limit` conversations, last changed first, those after conversation `before`; whether there are more.

        With `query` only those in whose title it is, in any case; nothing but titles is read of the others.
        """

    async def update_conversation(
        self, user: str, conversation: str, change: Change, now_ms: int, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """Apply `change`, raise the revision. Raises `Limited` where it needs more room than there is."""

    async def clear_conversation(self, user: str, conversation: str, now_ms: int) -> ConversationRecord:
        """Empty the head; endings of turns accepted before don't move it any more."""

    async def delete_conversation(self, user: str, conversation: str) -> list[str]:
        """Forget it and its messages; the ids of its turns that still run, oldest first."""

    async def put_feedback(self, user: str, message: str, rating: str, comment: str | None, now_ms: int) -> None:
        """Keep a rating; a second one replaces the first."""

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """Sums over the user's ended turns."""

    # Notes: small facts that concern no single turn, and expire: a ticket, a revocation, a key that rests

    async def put_ephemeral(self, key: str, value: bytes, ttl_ms: int) -> bool:
        """Keep `value` for `ttl_ms`, in place of what was there; whether nothing was."""

    async def pop_ephemeral(self, key: str) -> bytes | None:
        """Read a note and forget it in one step: of all who ask at once, one gets it."""

    async def get_ephemeral(self, keys: list[str]) -> list[bytes | None]:
        """What the notes say, in the order of `keys`, in one round trip; None where there is none."""

    # Paces: requests that come evenly, over all instances

    async def count_requests(self, taken: list[tuple[str, int, int]], interval_us: int) -> list[int]:
        """Of (user, how many, µs since the first of them) the requests that an instance has let through, of those that
        have `interval_us` between two. How far ahead of now each user's next one is due then, in µs, in that order.
        """

    # Places: which connections are there, over all instances

    async def acquire_permits(self, holder: str, places: list[tuple[str, int]], ttl_ms: int) -> list[bool]:
        """Whether `holder` has a place of each (key, how many there are) now, for `ttl_ms`. One round trip; each key
        alone is atomic."""

    async def renew_permits(self, held: list[tuple[str, str]], ttl_ms: int) -> None:
        """Prolong what is held, as (key, holder); what has lapsed or was lost is held again."""

    async def release_permits(self, held: list[tuple[str, str]]) -> None:
        """Give (key, holder) back. Harmless where it isn't held."""
