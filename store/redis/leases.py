"""Ownership of turns in Redis: leases by Redis' clock, cancel requests, and presence.

A turn's own fields have its lease. The index for finding lapsed leases lies outside the users' keys. It is a hint
that is written separately, and is corrected when a lease is renewed, read or looked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from store.api import instance_channel
from store.records import Lease, StoreError, TurnRecord
from store.redis.client import ClientHolder, ScriptCall
from store.redis.commands import Argument
from store.redis.keys import BUCKETS, bucket_key, bucket_of, index_member, raw, turn_of, user_prefix
from store.redis.records import accepted, turn_record

LAPSED_PER_BUCKET = 64


class RedisLeases(ClientHolder):
    """The part of the Redis store that handles ownership."""

    async def renew(self, owner: str, turns: list[tuple[str, str, int]], lease_ms: int) -> list[Lease]:
        """See `Store`."""
        if not turns:
            return []
        by_user: dict[str, list[int]] = defaultdict(list)
        for at, (user, _, _) in enumerate(turns):
            by_user[user].append(at)
        calls: list[ScriptCall] = []
        for user, places in by_user.items():
            pairs: list[Argument] = [part for at in places for part in turns[at][1:]]
            calls.append(("renew", user_prefix(user), (owner, lease_ms, *pairs)))
        calls += _index_calls(((user, turn) for user, turn, _ in turns), lease_ms, "CH")
        replies = await self._client.scripts(calls)
        leases: dict[int, Lease] = {}
        for places, reply in zip(by_user.values(), replies, strict=False):
            for at, outcome, cancel in zip(places, reply[::2], reply[1::2], strict=True):
                missing = outcome == b"missing"
                leases[at] = Lease(missing or outcome == b"held", cancel, missing)
        return [leases[at] for at in range(len(turns))]

    async def release(self, user: str, turn: str, epoch: int) -> None:
        """See `Store`."""
        if await self._client.script("release", user_prefix(user), raw(turn), epoch):
            await self._note([(user, turn)], 0)

    async def expired_leases(self) -> list[tuple[str, str]]:
        """See `Store`. Also correct entries of the index that are wrong."""
        lapsed = await self._client.scripts(
            [("lease_expiry", bucket_key(number), (LAPSED_PER_BUCKET,)) for number in range(BUCKETS)]
        )
        members = [member for bucket in lapsed for member in bucket]
        if not members:
            return []
        found: dict[str, list[str]] = defaultdict(list)
        for user, turn in map(turn_of, members):
            found[user].append(turn)
        calls: list[ScriptCall] = [("lease", user_prefix(user), tuple(turns)) for user, turns in found.items()]
        free: list[tuple[str, str]] = []
        over: list[tuple[Argument, ...]] = []
        for (user, turns), reply in zip(found.items(), await self._client.scripts(calls), strict=True):
            for turn, left_ms in zip(turns, reply, strict=True):
                if left_ms == 0:
                    free.append((user, turn))
                elif left_ms > 0:
                    await self._note([(user, turn)], left_ms)
                else:
                    over.append(("ZREM", bucket_of(user, turn), index_member(user, turn)))
        if over:
            await self._client.commands(over)
        return free

    async def claim(
        self, user: str, turn: str, owner: str, epoch: int, lease_ms: int, *, force: bool = False
    ) -> TurnRecord | None:
        """See `Store`. If the owner that has just taken the turn repeats the same call, the result is the same."""
        answer = accepted(
            await self._client.script("claim", user_prefix(user), raw(turn), owner, epoch, lease_ms, int(force))
        )
        if not answer:
            return None
        await self._note([(user, turn)], lease_ms)
        return turn_record(user, answer[0], in_conversation=bool(answer[1]))

    async def request_cancel(self, user: str, turn: str, cancel: bytes) -> bool:
        """See `Store`."""
        told = index_member(user, turn)
        until_ms = await self._client.deadline_ms()
        reply = await self._client.script(
            "request_cancel", user_prefix(user), raw(turn), cancel, instance_channel(""), told, until_ms
        )
        accepted(reply)
        return bool(reply[0] == b"running")

    async def renew_presence(self, instance: str, turns: list[tuple[str, str]], ttl_ms: int) -> None:
        """See `Store`."""
        by_user: dict[str, list[Argument]] = defaultdict(list)
        for user, turn in turns:
            by_user[user].append(raw(turn))
        if by_user:
            await self._client.scripts(
                [("renew_presence", user_prefix(user), (instance, ttl_ms, *theirs)) for user, theirs in by_user.items()]
            )

    async def has_other_presence(self, user: str, turn: str, instance: str) -> bool:
        """See `Store`. Also return True if the turn isn't kept, because its presence is lost too."""
        return bool(await self._client.script("has_other_presence", user_prefix(user), raw(turn), instance))

    async def _note(self, turns: Iterable[tuple[str, str]], ms: int) -> None:
        """Write to the index when leases lapse. It is a hint that is corrected later, so ignore a failure."""
        try:
            await self._client.scripts(_index_calls(turns, ms, "CH"))
        except StoreError:
            pass


def _index_calls(turns: Iterable[tuple[str, str]], ms: int, how: str) -> list[ScriptCall]:
    """Return one script call for each bucket that has some of `turns`.

    `ms`: the time from now until the leases lapse. `how`: "NX" keeps an existing entry, "CH" replaces it.
    """
    buckets: dict[bytes, list[bytes]] = defaultdict(list)
    for user, turn in turns:
        buckets[bucket_of(user, turn)].append(index_member(user, turn))
    return [("index", bucket, (ms, how, *members)) for bucket, members in buckets.items()]
