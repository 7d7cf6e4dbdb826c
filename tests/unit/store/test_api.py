"""The names of channels, which are the same in every backend and on every instance."""

from __future__ import annotations

from store.api import conversation_channel, instance_channel, turn_channel


def test_channels_are_unique() -> None:
    """Turns, conversations and instances of the same name have different channels, and so do different users."""
    channels = [
        turn_channel("ann", "x"),
        turn_channel("bob", "x"),
        conversation_channel("ann", "x"),
        conversation_channel("bob", "x"),
        instance_channel("x"),
    ]
    assert len(set(channels)) == len(channels)


def test_a_colon_in_a_name_is_escaped() -> None:
    """Law 12: different pairs of user and id never have the same channel."""
    pairs = [("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"), ("a%253Ab", "c"), ("a%", "3Ab:c")]
    for channel in (turn_channel, conversation_channel):
        assert len({channel(user, name) for user, name in pairs}) == len(pairs)
