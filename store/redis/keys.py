"""Names of keys and channels in Redis.

All keys with a user's prefix have one hash tag, so they are in one slot and one script may use them.
The scripts append kind and id to the user's prefix; nothing after the tag can change the slot.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from urllib.parse import quote, unquote

import msgspec

BUCKETS = 16
ASIDE_KEY = b"turnwire:aside"
"""The users for whom entries of their outboxes were set aside, by the time of the last one."""
FEEDBACK_KEY = b"turnwire:feedback"
"""The index of all users' feedback: a member for each rated message, by the time of its rating."""


@lru_cache(maxsize=4096)
def user_prefix(user: str) -> bytes:
    """Return the prefix of all keys of the user."""
    return f"turnwire:{{@{quote(user, safe='', errors='surrogatepass')}}}:".encode()


def bucket_key(number: int) -> bytes:
    """Return the key of bucket `number` of the lease index, which has a fixed number of buckets."""
    return b"turnwire:leases:%d" % number


def bucket_of(user: str, turn: str) -> bytes:
    """Return the key of the bucket that has the turn's lease."""
    return bucket_key(zlib.crc32(encode_turn_ref(user, turn)) % BUCKETS)


def outbox_bucket_key(number: int) -> bytes:
    """Return the key of bucket `number` of the index of outboxes. The buckets have the users whose outboxes were filled."""
    return b"turnwire:outbox:%d" % number


def outbox_bucket_of(user: str) -> bytes:
    """Return the key of the bucket that has the user."""
    return outbox_bucket_key(zlib.crc32(encode_text(user)) % BUCKETS)


def encode_turn_ref(user: str, turn: str) -> bytes:
    """Return the encoded (user, turn) that names a turn in the lease index and on its owner's channel."""
    return msgspec.msgpack.encode((user, turn))


def decode_turn_ref(encoded: bytes) -> tuple[str, str]:
    """Return the (user, turn) that `encode_turn_ref` encoded."""
    return msgspec.msgpack.decode(encoded, type=tuple[str, str])


def encode_message_ref(user: str, message: str) -> bytes:
    """Return the member that names a message in the index of feedback. A message's id has no colon."""
    return encode_text(f"{message}:{user}")


def decode_message_ref(encoded: bytes) -> tuple[str, str]:
    """Return the user and the message of an `encode_message_ref`."""
    message, _, user = encoded.decode("utf-8", "surrogatepass").partition(":")
    return user, message


def channel_prefix(db: int) -> str:
    """Return the prefix of the channels of database `db`: Redis itself shares channels between its databases."""
    return f"turnwire:{db}:"


def user_of_channel(channel: str) -> str | None:
    """Return the user whose turn, conversation or list the channel belongs to; None if it belongs to no user."""
    kind, _, rest = channel.partition(":")
    if kind == "list":
        return unquote(rest, errors="surrogatepass")
    if kind not in {"turn", "conversation"}:
        return None
    quoted = rest.partition(":")[0]
    return quoted.replace("%3A", ":").replace("%25", "%") if "%" in quoted else quoted


def encode_text(text: str) -> bytes:
    """Encode `text` in UTF-8. A lone surrogate, which no id of the gateway has, is encoded too instead of refused."""
    return text.encode("utf-8", "surrogatepass")
