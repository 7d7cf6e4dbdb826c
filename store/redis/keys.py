"""Names in Redis: one hash tag per user, so that all keys of a user are in one slot and one script may touch them.

The scripts add kind and id behind the user's prefix; nothing behind the tag can change the slot.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from urllib.parse import quote

import msgspec

BUCKETS = 16


@lru_cache(maxsize=4096)
def user_prefix(user: str) -> bytes:
    """What every key of the user begins with."""
    return f"turnwire:{{@{quote(user, safe='', errors='surrogatepass')}}}:".encode()


def bucket_key(number: int) -> bytes:
    """The key of one of the fixed buckets of the index of leases."""
    return b"turnwire:leases:%d" % number


def bucket_of(user: str, turn: str) -> bytes:
    """The key of the bucket in which a turn's lease is."""
    return bucket_key(zlib.crc32(index_member(user, turn)) % BUCKETS)


def index_member(user: str, turn: str) -> bytes:
    """A turn's name in the index of leases, and in what an owner is told of a wish to stop it."""
    return msgspec.msgpack.encode((user, turn))


def turn_of(member: bytes) -> tuple[str, str]:
    """The user and the turn of `index_member`."""
    return msgspec.msgpack.decode(member, type=tuple[str, str])


def channel_prefix(db: int) -> str:
    """What every channel's name begins with: Redis' channels are the same in all its databases, ours aren't."""
    return f"turnwire:{db}:"


def raw(text: str) -> bytes:
    """An id as it is sent; a lone surrogate, which no id of ours has, is sent as what it is."""
    return text.encode("utf-8", "surrogatepass")
