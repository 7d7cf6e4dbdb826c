"""All keys of a user are in one slot and have a prefix of their own, for any name of the user."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from store.api import conversation_channel, instance_channel, turn_channel
from store.redis.keys import (
    BUCKETS,
    bucket_key,
    bucket_of,
    channel_prefix,
    decode_turn_ref,
    encode_text,
    encode_turn_ref,
    user_of_channel,
    user_prefix,
)

ANY_TEXT = st.text(st.characters(), max_size=20)


@given(user=ANY_TEXT, name=ANY_TEXT)
def test_a_users_keys_share_one_tag(user: str, name: str) -> None:
    """The text in the first pair of braces determines the slot, and no user name or id can change it."""
    key = user_prefix(user) + b"turn:" + encode_text(name)
    assert key.index(b"{") < key.index(b"}") == len(user_prefix(user)) - 2
    assert key[key.index(b"{") + 1 : key.index(b"}")] == user_prefix(user)[10:-2]
    assert len(user_prefix(user)) > len(b"turnwire:{}:")


@given(one=ANY_TEXT, two=ANY_TEXT)
def test_users_have_separate_prefixes(one: str, two: str) -> None:
    """Law 12: the prefixes of different users differ, and neither begins with the other."""
    assert (user_prefix(one) == user_prefix(two)) is (one == two)
    assert user_prefix(one).startswith(user_prefix(two)) is (one == two)


@given(user=st.text(max_size=20), turn=st.text(max_size=20))
def test_turn_refs_round_trip(user: str, turn: str) -> None:
    """An index member encodes the user and the turn, and its bucket is one of the fixed buckets."""
    assert decode_turn_ref(encode_turn_ref(user, turn)) == (user, turn)
    assert bucket_of(user, turn) in {bucket_key(number) for number in range(BUCKETS)}


def test_channels_name_their_database() -> None:
    """The databases of one Redis share its channels, so the database is a part of a channel's name."""
    assert channel_prefix(0) != channel_prefix(1)


@given(user=ANY_TEXT, name=ANY_TEXT)
def test_a_channel_names_its_user(user: str, name: str) -> None:
    """With sharded pub/sub, a channel of a user is in the slot of the user's keys, whatever the user's name."""
    assert user_of_channel(turn_channel(user, name)) == user
    assert user_of_channel(conversation_channel(user, name)) == user
    assert user_of_channel(instance_channel(name)) is None
