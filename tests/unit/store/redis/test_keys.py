"""Whatever a user is called, all their keys are in one slot, and nobody else's are theirs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from store.redis.keys import (
    BUCKETS,
    bucket_key,
    bucket_of,
    channel_prefix,
    decode_turn_ref,
    encode_text,
    encode_turn_ref,
    user_prefix,
)

ANY_TEXT = st.text(st.characters(), max_size=20)


@given(user=ANY_TEXT, name=ANY_TEXT)
def test_a_users_keys_share_one_tag(user: str, name: str) -> None:
    """What stands between the first brace and the next decides the slot, and no user or id can move those."""
    key = user_prefix(user) + b"turn:" + encode_text(name)
    assert key.index(b"{") < key.index(b"}") == len(user_prefix(user)) - 2
    assert key[key.index(b"{") + 1 : key.index(b"}")] == user_prefix(user)[10:-2]
    assert len(user_prefix(user)) > len(b"turnwire:{}:")


@given(one=ANY_TEXT, two=ANY_TEXT)
def test_users_have_keys_of_their_own(one: str, two: str) -> None:
    """Law 12: two users' prefixes are the same only if the users are, and neither begins with the other's."""
    assert (user_prefix(one) == user_prefix(two)) is (one == two)
    assert user_prefix(one).startswith(user_prefix(two)) is (one == two)


@given(user=st.text(max_size=20), turn=st.text(max_size=20))
def test_a_turn_is_found_again_in_the_index(user: str, turn: str) -> None:
    """Its member says whose it is, and its bucket is one of the fixed ones."""
    assert decode_turn_ref(encode_turn_ref(user, turn)) == (user, turn)
    assert bucket_of(user, turn) in {bucket_key(number) for number in range(BUCKETS)}


def test_channels_name_their_database() -> None:
    """Redis' channels are the same in all its databases; ours aren't."""
    assert channel_prefix(0) != channel_prefix(1)
