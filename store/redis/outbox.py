"""The users' outboxes in Redis: what the archive doesn't have yet.

Scripts that change a user's history mark in the user's outbox what has changed. The index of users with outboxes is outside the
users' keys; it is written before an outbox is filled, and cleaned some time after the outbox was emptied.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from store.api import user_hash
from store.archive.records import Applied, OutboxBatch, OutboxEntry
from store.errors import Damaged
from store.redis.client import RedisPart, ScriptCall
from store.redis.commands import Argument
from store.redis.keys import ASIDE_KEY, BUCKETS, encode_text, outbox_bucket_key, outbox_bucket_of, user_prefix
from store.redis.node import Command
from store.redis.outbox_entries import change_of, describe, item_from
from store.redis.records import parse_hash

ENTRIES_MAX = 200
BATCH_BYTES = 4 * 2**20
INDEXED_PER_BUCKET = 256
SUMMARIZED_PER_BUCKET = 10_000
RENUMBERED_MAX = 1000
BACKFILLED_MAX = 200
MARKED_MAX = 250
"""How many messages one script call marks: Redis does nothing else meanwhile."""
REASON_CHARS_MAX = 500
ERASURE_TTL_MS = 3_600_000


class OutboxState(NamedTuple):
    """The number of entries that wait in an outbox, when the oldest was written, and how many were set aside.

    An outbox that is damaged itself counts as one entry.
    """

    entries: int
    oldest_ms: int | None
    aside: int


class OutboxSummary(NamedTuple):
    """The number of users with entries that wait in their outboxes, the number of entries, and the age of the oldest."""

    users: int
    entries: int
    oldest_s: float


class OutboxRead(NamedTuple):
    """The oldest entries of an outbox, whether it has more, and the number of its last change; None if that can't be read.

    `unreadable`: entries that aren't in the batch, because their data in Redis can't be read. `unmarked`: some messages aren't
    in the outbox yet, and `mark_earlier` has to add them. `damaged`: nothing of the outbox can be read.
    """

    batch: OutboxBatch
    more: bool
    last: int | None
    unreadable: tuple[OutboxEntry, ...] = ()
    unmarked: bool = False
    damaged: Damaged | None = None


class RedisOutbox(RedisPart):
    """The outboxes of all users, and their index."""

    async def read_outboxes(self, users: Sequence[str]) -> list[OutboxRead]:
        """Return the oldest entries of each user's outbox. One round trip."""
        bytes_max = BATCH_BYTES // max(len(users), 1)
        replies = await self._client.scripts_of_users(
            [("read_outbox", user_prefix(user), (ENTRIES_MAX, bytes_max)) for user in users]
        )
        return [
            OutboxRead(OutboxBatch(user=user, entries=()), more=False, last=None, damaged=reply)
            if isinstance(reply, Damaged)
            else _read(user, *reply)
            for user, reply in zip(users, replies, strict=True)
        ]

    async def set_aside(self, user: str, entries: Sequence[tuple[OutboxEntry, str]]) -> None:
        """Move `entries`, each with the reason, out of the outbox, unless they have changed since they were read."""
        # The index of these users is written first, so that every entry that is set aside can be found.
        await self._client.command("ZADD", ASIDE_KEY, int(time.time() * 1000), encode_text(user))
        named: list[Argument] = [
            argument
            for entry, reason in entries
            for argument in (entry.member, entry.change, encode_text(reason[:REASON_CHARS_MAX]))
        ]
        await self._script("set_aside", user, *named)

    async def acknowledge(self, results: Sequence[Applied]) -> list[str]:
        """Remove what the archive has from the outboxes. One round trip. Set aside what it refuses.

        Return the users whose outboxes had none of the entries any more.
        """
        calls: list[ScriptCall] = []
        for applied in results:
            if applied.poisoned:
                await self.set_aside(applied.user, applied.poisoned)
            done: list[Argument] = [argument for entry in applied.done for argument in (entry.member, entry.change)]
            if done or applied.poisoned:
                counts = (applied.conversations, applied.stored_bytes)
                calls.append(("acknowledge", user_prefix(applied.user), (*counts, *done)))
        if not calls:
            return []
        replies = await self._client.scripts_of_users(calls)
        keys = {user_prefix(applied.user): applied.user for applied in results}
        return [
            keys[key]
            for (_, key, _), reply in zip(calls, replies, strict=True)
            if reply and not isinstance(reply, Damaged)
        ]

    async def renumber(self, user: str, stale_until: int) -> None:
        """Give new numbers to the entries of the outbox whose change is at most `stale_until`."""
        while await self._script("renumber_outbox", user, stale_until, RENUMBERED_MAX) == RENUMBERED_MAX:
            pass

    async def outbox_states(self, users: Sequence[str]) -> list[OutboxState]:
        """Return what waits in the outboxes of `users`, in order."""
        replies = await self._client.scripts_of_users([("outbox_state", user_prefix(user), ()) for user in users])
        return [OutboxState(1, None, 0) if isinstance(reply, Damaged) else _state(*reply) for reply in replies]

    async def indexed_outboxes(self, age_ms: int, per_bucket: int = INDEXED_PER_BUCKET) -> list[tuple[str, int]]:
        """Return users whose outboxes were filled more than `age_ms` ago, each with its number in the index.

        `per_bucket`: at most that many users of each bucket of the index.
        """
        replies = await self._client.scripts(
            [("indexed_outboxes", outbox_bucket_key(number), (age_ms * 1000, per_bucket)) for number in range(BUCKETS)]
        )
        found, damaged = list[tuple[str, int]](), list[Command]()
        for bucket, reply in enumerate(replies):
            for user, score in zip(reply[::2], reply[1::2], strict=True):
                number = change_of(score)
                try:
                    name = user.decode("utf-8", "surrogatepass")
                except UnicodeDecodeError:
                    number = None
                if number is None:
                    damaged.append(("ZREM", outbox_bucket_key(bucket), user))
                else:
                    found.append((name, number))
        if damaged:
            await self._client.commands(damaged)
        return found

    async def outbox_summary(self) -> OutboxSummary:
        """Return what waits in all outboxes that the index has, at most 10,000 of a bucket."""
        indexed = [user for user, _ in await self.indexed_outboxes(0, SUMMARIZED_PER_BUCKET)]
        found = [state for state in await self.outbox_states(indexed) if state.entries] if indexed else []
        oldest_ms = min((state.oldest_ms for state in found if state.oldest_ms is not None), default=None)
        age_s = 0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)
        return OutboxSummary(len(found), sum(state.entries for state in found), age_s)

    async def unindex_outboxes(self, users: Sequence[tuple[str, int]]) -> None:
        """Remove `users`, as `indexed_outboxes` has returned them, from the index, unless their numbers there have changed."""
        calls: dict[bytes, list[Argument]] = {}
        for user, number in users:
            calls.setdefault(outbox_bucket_of(user), []).extend((encode_text(user), number))
        if calls:
            await self._client.scripts([("unindex_outboxes", key, tuple(named)) for key, named in calls.items()])

    async def backfill_outbox(self, user: str) -> None:
        """Mark for the archive what Redis stored of the user before an archive was set up."""
        while (await self._change_history(user, [("backfill_outbox", user_prefix(user), (BACKFILLED_MAX,))]))[0]:
            pass

    async def mark_earlier(self, users: Sequence[str]) -> list[str]:
        """Mark some of the messages from before an archive was set up. Return the users who have more of them.

        Each user takes a round trip, so that other calls run in between.
        """
        more: list[str] = []
        for user in users:
            with suppress(Damaged):  # `read_outboxes` reports it
                more += [user] if await self._script("mark_earlier", user, MARKED_MAX) else []
        return more

    async def users_aside(self) -> list[str]:
        """Return the users for whom entries were set aside, the latest last."""
        return [
            user.decode("utf-8", "surrogatepass") for user in await self._client.command("ZRANGE", ASIDE_KEY, 0, -1)
        ]

    async def entries_aside(self, user: str) -> dict[str, str]:
        """Return the entries that were set aside for the user, each with the reason."""
        reply = parse_hash(await self._client.command("HGETALL", user_prefix(user) + b"aside"))
        return {describe(member): reason.decode("utf-8", "replace") for member, reason in reply.items()}

    async def erase_outbox(self, user: str) -> None:
        """Remove what names the user outside the user's own keys."""
        name = encode_text(user)
        await self._client.commands([("ZREM", outbox_bucket_of(user), name), ("ZREM", ASIDE_KEY, name)])

    async def note_erasure(self, user: str) -> None:
        """Store, for `erased_ages_ms`, that the user is erased now."""
        await self._client.command("SET", _erasure_key(user), b"", "PX", ERASURE_TTL_MS)

    async def erased_ages_ms(self, users: Sequence[str]) -> list[int | None]:
        """Return how many ms ago each user was erased, or None if that is longer ago than `ERASURE_TTL_MS`.

        Redis measures the time, so it doesn't matter what the clocks of the instances say.
        """
        left = await self._client.commands([("PTTL", _erasure_key(user)) for user in users])
        return [ERASURE_TTL_MS - left_ms if left_ms >= 0 else None for left_ms in left]

    async def put_back(self, user: str) -> int:
        """Put what was set aside for the user into the outbox again. Return the number of entries."""
        (count,) = await self._change_history(user, [("put_back", user_prefix(user), ())])
        await self._client.command("ZREM", ASIDE_KEY, encode_text(user))
        return int(count)


def _erasure_key(user: str) -> bytes:
    """Return a key that doesn't show the user, and that the erasure of the user doesn't delete."""
    return b"turnwire:erased:" + user_hash(user).encode()


def _state(entries: int, oldest: bytes | None, aside: int) -> OutboxState:
    change = None if oldest is None else change_of(oldest)
    return OutboxState(entries, None if change is None else change // 1000, aside)


def _read(user: str, entries: list[Any], more: int, last: bytes | None, unmarked: int) -> OutboxRead:
    """Return the result of the script as an `OutboxRead`. What can't be read must not stop the rest."""
    readable: list[OutboxEntry] = []
    unreadable: list[OutboxEntry] = []
    for member, score, state in entries:
        change = change_of(score)
        entry = OutboxEntry(member=member, change=change or 0, item=None)
        if change is None or state is None:
            unreadable.append(entry)
            continue
        try:
            readable.append(structs.replace(entry, item=item_from(user, member, change, state)))
        except (ValueError, LookupError, TypeError, AttributeError, msgspec.DecodeError):
            unreadable.append(entry)
    last_change = 0 if last is None else change_of(last)
    batch = OutboxBatch(user=user, entries=tuple(readable))
    return OutboxRead(batch, bool(more), last_change, tuple(unreadable), bool(unmarked))
