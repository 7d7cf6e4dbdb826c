"""The interface of a store, in five parts: turns, ownership, pub/sub, history, and ephemeral values.

Every method raises `StoreError` if the store fails; the errors that its docstring names are subclasses.
Durations are measured by the store's clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol
from urllib.parse import quote

from store.records import (
    Accepted,
    Append,
    Appended,
    Change,
    ConversationRecord,
    Counters,
    DayUsage,
    EndedTurn,
    FeedbackFilter,
    FeedbackRecord,
    Found,
    Lease,
    LogEntry,
    MessageRecord,
    NewTurn,
    RunningGroups,
    TurnLimits,
    TurnRecord,
)

Deliver = Callable[[str, bytes], None]


def _quote(user: str) -> str:
    """Return `user` with `%` and `:` percent-encoded, so that no two (user, id) pairs share a channel (law 12)."""
    return user.replace("%", "%25").replace(":", "%3A") if ":" in user or "%" in user else user


def turn_channel(user: str, turn: str) -> str:
    """Return the channel on which a turn's log entries are published, each as an encoded `LogEntry`."""
    return f"turn:{_quote(user)}:{turn}"


def conversation_channel(user: str, conversation: str) -> str:
    """Return the channel on which instances notify each other of changes to a conversation."""
    return f"conversation:{_quote(user)}:{conversation}"


@lru_cache(maxsize=4096)
def list_channel(user: str) -> str:
    """Return the channel that has the id of each conversation of the user that has changed.

    The user is quoted as in `store.redis.keys.user_prefix`, because the scripts make the name from that prefix.
    """
    return f"list:{quote(user, safe='', errors='surrogatepass')}"


def instance_channel(instance: str) -> str:
    """Return the channel on which an instance learns of stored cancel requests, each as an encoded `(user, turn)`."""
    return f"instance:{instance}"


def erased_key(user: str) -> str:
    """Return the key of the ephemeral value that exists for a while after the user was erased.

    While it exists, an instance must not store data of the user from before the erasure. The value is the time of the
    erasure by the store's clock, in ms. The key doesn't show the user.
    """
    return "erased:" + user_hash(user)


def user_permits(user: str) -> str:
    """Return the key of the permits of the user's connections, which `erase_user` deletes."""
    return f"user:{user}"


def user_hash(user: str) -> str:
    """Return a name for the user that doesn't show the user's id: 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class TurnStore(Protocol):
    """Turns: their acceptance, their logs and their endings."""

    async def accept(self, new: NewTurn) -> Accepted:
        """Store a new turn with its input message and its lease in one step, or return the turn that has its id.

        Publish a new turn's id on the channel of its conversation, if it has one. Raises `Conflict` if the id was used
        for other content, `Busy` if a turn runs in the conversation and `new.on_busy` is "reject", `NotFound` if the
        conversation or the parent doesn't exist, and `Limited` if one of `new.limits` is reached.
        """

    async def append(self, appends: list[Append]) -> list[Appended]:
        """Append events to the logs of many turns, and publish the new entries.

        One round trip, or a few for very many or large appends. Each append is atomic by itself. Return the outcomes in
        the order of `appends`. Repeating an append is harmless. If only a part of the store fails, its appends are
        "unavailable", and no error is raised.
        """

    async def end(self, ended: EndedTurn) -> ConversationRecord | None:
        """Store a turn's last events, answer, usage and ending, move the head and drop the lease, in one step.

        Repeating the call is harmless. Return the conversation, or None if the turn has none. If the log has the
        ending already, `ended.events` is an empty `Append`: its `last` is the log's last seq, and its `first` is one more.
        Raises `Fenced` if the turn is in another epoch, `NotFound` if it doesn't exist, and `LogGap` if `ended.events`
        doesn't continue the log.
        """

    async def turn(self, user: str, turn: str, *, with_request: bool = False) -> TurnRecord:
        """Return a turn that runs or that ended in the last 24 h. Raises `NotFound`.

        The record has the turn's request, which may be 20 MiB long, only if `with_request` is true.
        """

    async def running(self, user: str, turns: list[str]) -> list[bool | None]:
        """Return for each id in `turns`, in order: True if it runs, False if it has ended, None if it doesn't exist.

        One round trip, however many ids are given.
        """

    async def log(self, user: str, turn: str, after: int) -> list[LogEntry]:
        """Return the log entries that hold events after seq `after`, in order, at most about 1 MiB.

        The list is empty if there are no such events, or if the log has expired.
        """

    async def active(self, user: str, conversation: str | None) -> list[str]:
        """Return the ids of the conversation's turns that have no ending, oldest first.

        With `conversation` None, return those of all the user's turns. Raises `NotFound` for the conversation.
        """

    async def running_groups(self, user: str, turn: str, running_max: int) -> RunningGroups:
        """Return the groups of the user's turns that were accepted before `turn` and have no ending, oldest first.

        In a group, only one turn runs at a time: a turn that is queued in its conversation joins the group of the turns
        ahead of it. Return no groups if there are fewer than `running_max`, or if `running_max` is 0.
        """


class OwnershipStore(Protocol):
    """The leases by which instances own turns, and the cancel requests to their owners."""

    async def renew(self, owner: str, turns: list[tuple[str, str, int]], lease_ms: int) -> list[Lease]:
        """Renew the leases of `turns`, each a (user, turn, epoch), in one call; return a `Lease` for each, in order.

        A lease that has expired is renewed too, unless another owner has claimed the turn.
        """

    async def release(self, user: str, turn: str, epoch: int) -> None:
        """Expire the lease now, so that another instance takes the turn over.

        Harmless if the lease isn't held in `epoch`.
        """

    async def expired_leases(self) -> list[tuple[str, str]]:
        """Return the (user, turn) of some turns whose lease has expired. The list is a hint."""

    async def claim(
        self, user: str, turn: str, owner: str, epoch: int, lease_ms: int, *, force: bool = False
    ) -> TurnRecord | None:
        """Make `owner` the turn's owner, in a new epoch that is at least `epoch` and above the last one.

        Return the turn with its request, or None if the turn has ended or its lease is held.
        With `force`, take the turn even if its lease is held. Raises `NotFound`.
        """

    async def request_cancel(self, user: str, turn: str, cancel: bytes) -> bool:
        """Store the cancel request `cancel` with the turn, unless it has one, and notify its owner's channel.

        Return whether the turn still runs. Raises `NotFound`.
        """


class PubSub(Protocol):
    """Messages between instances on named channels, and which instances have connections attached to a turn."""

    async def run_pubsub(self, deliver: Deliver, on_reconnect: Callable[[], None]) -> None:
        """Call `deliver(channel, payload)` for each message on a subscribed channel, until cancelled.

        Each message is delivered at most once. After a lost connection is restored, call `on_reconnect` before the next
        message is delivered.
        """

    async def subscribe(self, channel: str) -> None:
        """Subscribe to a channel; return once the subscription is active.

        Subscriptions are counted: after two calls, two calls of `unsubscribe` are needed.
        """

    async def unsubscribe(self, channel: str) -> None:
        """Cancel one subscription to a channel."""

    async def publish(self, channel: str, payload: bytes) -> None:
        """Send `payload` to the channel's subscribers on all instances.

        A channel's payloads are delivered in order; those of different channels may overtake each other.
        """

    async def renew_presence(self, instance: str, turns: list[tuple[str, str]], ttl_ms: int) -> None:
        """Record for `ttl_ms` that `instance` has connections attached to `turns` (law 8).

        Each of `turns` is a (user, turn).
        """

    async def has_other_presence(self, user: str, turn: str, instance: str) -> bool:
        """Return whether an instance other than `instance` has an unexpired presence on the turn."""


class HistoryStore(Protocol):
    """Conversations with their messages, ratings and usage.

    Each change of a conversation, and its deletion, is published on the `list_channel` of its user, as the conversation's id.
    """

    async def message(self, user: str, message: str) -> MessageRecord:
        """Return a message. Raises `NotFound`."""

    async def branch(
        self,
        user: str,
        conversation: str,
        last: str | None,
        bytes_max: int | None = None,
        count_max: int | None = None,
    ) -> tuple[list[MessageRecord], int]:
        """Return the messages from the root to message `last`, in order, and the number of older ones left out.

        With `bytes_max`, return only the newest messages whose bodies have at most that many bytes together, and with
        `count_max` at most that many messages, but always `last`. With `last` None, return ([], 0). Raises `NotFound` if
        `last` isn't in the conversation.
        """

    async def messages(
        self, user: str, conversation: str, limit: int, before: str | None, bytes_max: int | None = None
    ) -> tuple[list[MessageRecord], bool]:
        """Return at most `limit` messages, oldest first, and whether there are older ones.

        They are the newest of the conversation, or those just before message `before`. With `bytes_max`, return only the
        newest of them whose bodies have at most that many bytes together, but at least one. Raises `NotFound` for the
        conversation or for `before`.
        """

    async def create_conversation(
        self, conversation: ConversationRecord, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """Store a new conversation and return it. If its user already has a conversation with its id, return that one.

        Raises `Limited` if a new one exceeds `limits`.
        """

    async def conversation(self, user: str, conversation: str) -> ConversationRecord:
        """Return a conversation. Raises `NotFound`."""

    async def conversations(
        self, user: str, limit: int, before: str | None, *, whole: bool = False, pinned: bool = False
    ) -> tuple[list[ConversationRecord], bool]:
        """Return at most `limit` conversations, most recently changed first, and whether there are more.

        With `pinned`, list only the pinned ones. The store numbers the changes; no clock decides the order. With `before`, the
        list begins after that conversation. Raises `NotFound` for `before`. If some of the history can't be read now, the list
        lacks it; with `whole`, this raises `StoreError` instead.
        """

    async def search(self, user: str, query: str, limit: int, before: str | None) -> tuple[list[Found], bool]:
        """Return at most `limit` conversations that `query` finds, most recently changed first, and whether there are more.

        A conversation is found if its title contains `query`, ignoring case, or if one of its messages matches it; see
        `store.search_text`. Of the messages that match, the result has the newest. With `before`, the list begins after
        that conversation. Raises `NotFound` for `before`.
        """

    async def update_conversation(
        self, user: str, conversation: str, change: Change, now_ms: int, limits: TurnLimits | None = None
    ) -> ConversationRecord:
        """Apply `change`, raise the revision, and return the conversation. `change.replaced_title` may forbid that.

        Raises `NotFound` for the conversation or for the new head, and `Limited` if the change needs more space than
        `limits` leaves, or if it pins one conversation more than `PINNED_MAX`.
        """

    async def clear_conversation(self, user: str, conversation: str, now_ms: int) -> ConversationRecord:
        """Remove the conversation's head and return the conversation. Raises `NotFound`.

        A turn that was accepted before this call no longer moves the head when it ends.
        """

    async def delete_conversation(self, user: str, conversation: str) -> list[str]:
        """Delete the conversation, its messages, and all that is in the logs of its turns now. Raises `NotFound`.

        Return the ids of its turns that still run, oldest first.
        """

    async def put_feedback(
        self, user: str, message: str, rating: str, comment: str | None, now_ms: int, model: str | None = None
    ) -> None:
        """Store the rating of a message, with a comment and the model that wrote the message.

        They replace an earlier rating of the message, and are kept until its conversation is deleted. Raises `NotFound`.
        """

    async def list_feedback(
        self, selected: FeedbackFilter, limit: int, before: tuple[int, str] | None
    ) -> tuple[list[FeedbackRecord], bool]:
        """Return at most `limit` ratings of all users, the newest first, and whether there are more.

        With `before`, the time in ms and the message of a rating, the list begins after that place, even if the rating
        is gone.
        """

    async def usage(self, user: str, conversation: str | None, since_ms: int | None) -> Counters:
        """Return the sums over the user's ended turns.

        With `conversation`, count only its turns. With `since_ms` (ms since 1970), count only turns that ended then or
        later. Raises `NotFound` for the conversation.
        """

    async def usage_days(self, user: str) -> list[DayUsage]:
        """Return the sums over the user's ended turns for each UTC day on which one ended, oldest first.

        A store may keep the usage of single turns only for some time, as Redis does. Older turns are in neither these
        sums nor those of `usage` with `since_ms`. Raises `StoreError` if some of the history can't be read now.
        """

    async def expired_conversations(self, now_ms: int, retention_days: int, limit: int) -> list[tuple[str, str]]:
        """Return the (user, conversation) of at most `limit` conversations whose retention is over, oldest first.

        It is over if the last change is longer ago than the conversation's `retention_days`, or than this
        `retention_days` if the conversation has none of its own. 0 means that it is never over. Empty if the store
        expires conversations by itself.
        """

    async def erase_user(self, user: str) -> None:
        """Delete everything that the store has of the user: nothing of it stays in the store's files or keys.

        The caller has ended the user's turns. Harmless if there is nothing; if a call was cut off, another one
        completes it.
        """


class EphemeralStore(Protocol):
    """Small values that expire (a ticket, a revocation, an open circuit), rate limits and connection permits."""

    async def put_ephemeral(self, key: str, value: bytes, ttl_ms: int, user: str | None = None) -> bytes | None:
        """Store `value` for `ttl_ms`. Return the value that it replaces, or None if the key had none.

        With `user`, the value belongs to that user, and `erase_user` deletes it.
        """

    async def pop_ephemeral(self, key: str) -> bytes | None:
        """Return the key's value and delete it in one step; None if there is none.

        Of concurrent callers only one gets the value.
        """

    async def get_ephemeral(self, keys: list[str]) -> list[bytes | None]:
        """Return the values of `keys`, in order, in one round trip; None for a key that has none."""

    async def clock_ms(self) -> int:
        """Return the time by the store's clock, in ms since 1970. The clocks of instances may be apart; they share this one."""

    async def count_requests(self, counts: list[tuple[str, int, int]], interval_us: int) -> list[int]:
        """Count requests that an instance has let through.

        `counts` has (user, number of requests, µs since the first of them). `interval_us` is the time between two
        requests at the limit's rate. Return for each entry, in order, how many µs ahead of now the user's next request
        is due (GCRA).
        """

    async def acquire_permits(self, holder: str, limits: list[tuple[str, int]], ttl_ms: int) -> list[bool]:
        """Acquire a permit of each key for `holder`, for `ttl_ms`. One round trip; each key alone is atomic.

        `limits` has (key, maximum number of permits). Return for each, in order, whether `holder` has a permit now.
        """

    async def renew_permits(self, permits: list[tuple[str, str]], ttl_ms: int) -> None:
        """Renew `permits`, each a (key, holder), for `ttl_ms`.

        A permit that has expired or was lost is held again.
        """

    async def release_permits(self, permits: list[tuple[str, str]]) -> None:
        """Release `permits`, each a (key, holder). Harmless for one that isn't held."""


class Store(TurnStore, OwnershipStore, PubSub, HistoryStore, EphemeralStore, Protocol):
    """The interface that every store implements. `shared`: whether several instances may use the store at once."""

    shared: bool

    async def open(self) -> None:
        """Open the store for use. Raises `StoreError` with a message that says what to do."""

    async def close(self) -> None:
        """Write what is pending and release all resources."""

    async def ping(self) -> None:
        """Check that the store can be used now. Raises `StoreError` if not: `PartFailed` if only a part of it fails."""
