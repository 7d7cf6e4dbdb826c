"""The channels' names, which every backend and every instance must make alike."""

from __future__ import annotations

from store.api import conversation_channel, instance_channel, turn_channel


def test_each_thing_has_a_channel_of_its_own() -> None:
    """A turn, a conversation and an instance of one name are three channels, and a user's are nobody else's."""
    channels = [
        turn_channel("ann", "x"),
        turn_channel("bob", "x"),
        conversation_channel("ann", "x"),
        conversation_channel("bob", "x"),
        instance_channel("x"),
    ]
    assert len(set(channels)) == len(channels)


def test_a_colon_in_a_user_s_name_moves_nothing_into_another_s_channel() -> None:
    """Law 12: no user and id spell the channel of another user and id."""
    pairs = [("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"), ("a%253Ab", "c"), ("a%", "3Ab:c")]
    for channel in (turn_channel, conversation_channel):
        assert len({channel(user, name) for user, name in pairs}) == len(pairs)
