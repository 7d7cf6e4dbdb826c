"""The erasure of a user in Redis: of all keys with the user's prefix, and of what names the user elsewhere.

The keys are found by steps through all keys of the node, because some, such as the messages of an expired conversation, are in
no list. Each step is short, so other calls run in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from store.api import user_permits
from store.errors import StoreError
from store.redis.client import RedisPart
from store.redis.ephemeral import ephemeral_index_key, permits_key, value_key
from store.redis.keys import (
    BUCKETS,
    FEEDBACK_KEY,
    bucket_key,
    decode_message_ref,
    decode_turn_ref,
    encode_text,
    user_prefix,
)

KEYS_PER_STEP = 1000
PASSES_MAX = 5
_SPECIAL = re.compile(rb"[*?\[\]\\^]")


class RedisErasure(RedisPart):
    """`HistoryStore.erase_user` in Redis."""

    async def erase_user(self, user: str) -> None:
        """See `HistoryStore`."""
        # The keys of the values are known only from this list, so it is deleted after them.
        for key in await self._client.command("ZRANGE", ephemeral_index_key(user), 0, -1):
            await self._client.command("DEL", value_key(key.decode("utf-8", "surrogatepass")))
        await self._client.command("DEL", permits_key(user_permits(user)))
        await self._erase_keys(user)
        await self._erase_members(
            FEEDBACK_KEY, b"*:" + _escape(encode_text(user)), lambda ref: decode_message_ref(ref)[0] == user
        )
        for number in range(BUCKETS):
            await self._erase_members(bucket_key(number), b"*", lambda ref: decode_turn_ref(ref)[0] == user)

    async def _erase_keys(self, user: str) -> None:
        """Delete all keys of the user. A pass that meets a failover may miss keys, so the last pass has to find none."""
        prefix = user_prefix(user)
        for _ in range(PASSES_MAX):
            cursor, deleted = b"0", 0
            while True:
                cursor, count = (
                    await self._client.scripts([("erase", prefix, (cursor, prefix + b"*", KEYS_PER_STEP))])
                )[0]
                deleted += count
                if cursor == b"0":
                    break
            if not deleted:
                return
        raise StoreError(
            "The user's data is written again while it is deleted. Stop the user's clients, then try again."
        )

    async def _erase_members(self, key: bytes, pattern: bytes, is_users: Callable[[bytes], bool]) -> None:
        """Delete the members of the sorted set `key` that match `pattern` and for which `is_users` returns true."""
        cursor = b"0"
        while True:
            cursor, flat = await self._client.command("ZSCAN", key, cursor, "MATCH", pattern, "COUNT", KEYS_PER_STEP)
            members = [member for member in flat[::2] if is_users(member)]
            if members:
                await self._client.command("ZREM", key, *members)
            if cursor == b"0":
                return


def _escape(text: bytes) -> bytes:
    """Return the pattern that matches only `text`."""
    return _SPECIAL.sub(rb"\\\g<0>", text)
