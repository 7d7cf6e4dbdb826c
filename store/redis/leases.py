"""Ownership of turns in Redis: leases by Redis' clock, and cancel requests.

A turn's own fields have its lease. The index for finding expired leases is outside the users' keys. It is a hint
that is written separately, and is corrected when a lease is renewed, read or looked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal

from store.api import instance_channel
from store.errors import StoreError
from store.records import Lease, TurnRecord
from store.redis.client import RedisPart, ScriptCall
from store.redis.commands import Argument
from store.redis.keys import (
    BUCKETS,
    bucket_key,
    bucket_of,
    decode_turn_ref,
    encode_turn_ref,
    user_prefix,
)
from store.redis.records import parse_reply, turn_record

EXPIRED_PER_BUCKET = 64


class RedisLeases(RedisPart):
    """`OwnershipStore` in Redis."""

    async def renew(self, owner: str, turns: list[tuple[str, str, int]], lease_ms: int) -> list[Lease]:
        """See `OwnershipStore`."""
        if not turns:
            return []
        by_user: dict[str, list[int]] = defaultdict(list)
        for index, (user, _, _) in enumerate(turns):
            by_user[user].append(index)
        calls: list[ScriptCall] = []
        for user, indexes in by_user.items():
            pairs: list[Argument] = [argument for index in indexes for argument in turns[index][1:]]
            calls.append(("renew", user_prefix(user), (owner, lease_ms, *pairs)))
        calls += index_calls(((user, turn) for user, turn, _ in turns), lease_ms, "CH")
        replies = await self._client.scripts(calls)
        leases: dict[int, Lease] = {}
        for indexes, reply in zip(by_user.values(), replies, strict=False):
            for index, outcome, cancel in zip(indexes, reply[::2], reply[1::2], strict=True):
                missing = outcome == b"missing"
                leases[index] = Lease(missing or outcome == b"held", cancel, missing)
        return [leases[index] for index in range(len(turns))]

    async def release(self, user: str, turn: str, epoch: int) -> None:
        """See `OwnershipStore`."""
        if await self._script("release", user, turn, epoch):
            await self._update_index(user, turn, 0)

    async def expired_leases(self) -> list[tuple[str, str]]:
        """See `OwnershipStore`. Also correct entries of the index that are wrong."""
        buckets = await self._client.scripts(
            [("expired_leases", bucket_key(number), (EXPIRED_PER_BUCKET,)) for number in range(BUCKETS)]
        )
        by_user: dict[str, list[str]] = defaultdict(list)
        for user, turn in (decode_turn_ref(member) for members in buckets for member in members):
            by_user[user].append(turn)
        if not by_user:
            return []
        calls: list[ScriptCall] = [("lease_ttl", user_prefix(user), tuple(turns)) for user, turns in by_user.items()]
        expired: list[tuple[str, str]] = []
        not_running: list[tuple[Argument, ...]] = []
        for (user, turns), reply in zip(by_user.items(), await self._client.scripts(calls), strict=True):
            for turn, ttl_ms in zip(turns, reply, strict=True):
                if ttl_ms == 0:
                    expired.append((user, turn))
                elif ttl_ms > 0:
                    await self._update_index(user, turn, ttl_ms)
                else:
                    not_running.append(("ZREM", bucket_of(user, turn), encode_turn_ref(user, turn)))
        if not_running:
            await self._client.commands(not_running)
        return expired

    async def claim(
        self, user: str, turn: str, owner: str, epoch: int, lease_ms: int, *, force: bool = False
    ) -> TurnRecord | None:
        """See `OwnershipStore`. If the owner that has just claimed the turn repeats the call, the result is the same."""
        result = parse_reply(await self._script("claim", user, turn, owner, epoch, lease_ms, int(force)))
        if not result:
            return None
        await self._update_index(user, turn, lease_ms)
        return turn_record(user, result[0], in_conversation=bool(result[1]))

    async def request_cancel(self, user: str, turn: str, cancel: bytes) -> bool:
        """See `OwnershipStore`."""
        deadline_ms = await self._client.deadline_ms(user_prefix(user))
        arguments = (turn, cancel, instance_channel(""), encode_turn_ref(user, turn), deadline_ms)
        reply = await self._script("request_cancel", user, *arguments)
        owner = parse_reply(reply)
        if owner and self._client.is_sharded:
            with suppress(StoreError):  # the owner also reads the request when it appends or renews its lease
                await self._client.publish(instance_channel(owner[0].decode()), encode_turn_ref(user, turn))
        return bool(owner)

    async def _update_index(self, user: str, turn: str, ttl_ms: int) -> None:
        """Set the expiry time of the lease in the index. It is a hint that is corrected later, so ignore a failure."""
        with suppress(StoreError):
            await self._client.scripts(index_calls([(user, turn)], ttl_ms, "CH"))


def index_calls(turns: Iterable[tuple[str, str]], ttl_ms: int, mode: Literal["NX", "CH"]) -> list[ScriptCall]:
    """Return the script calls that set the expiry times of leases in the index. `turns`: a (user, turn) for each lease.

    There is one call for each bucket. `ttl_ms`: the time from now. `mode`: "NX" keeps an existing entry, "CH" replaces
    it.
    """
    buckets: dict[bytes, list[bytes]] = defaultdict(list)
    for user, turn in turns:
        buckets[bucket_of(user, turn)].append(encode_turn_ref(user, turn))
    return [("index_leases", bucket, (ttl_ms, mode, *members)) for bucket, members in buckets.items()]
