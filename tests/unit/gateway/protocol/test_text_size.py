"""Texts are split and cut to a size in a frame."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.codec import JSON, MSGPACK
from gateway.protocol.text_size import clip_text, encoded_size, split_text

TEXTS = st.one_of(
    st.text(max_size=400),
    st.builds(lambda unit, n: unit * n, st.text(min_size=1, max_size=3), st.integers(0, 3000)),
)


@given(TEXTS, st.integers(16, 4000))
def test_split_text_loses_nothing_and_every_piece_fits(text: str, bytes_max: int) -> None:
    """Law 10: the joined pieces equal the text, and each piece fits the limit in either codec."""
    pieces = split_text(text, bytes_max)
    assert "".join(pieces) == text
    for piece in pieces:
        assert len(JSON.encode(piece)) <= bytes_max
        assert len(MSGPACK.encode(piece)) <= bytes_max
    if encoded_size(text) <= bytes_max:
        assert pieces == [text]


def test_pieces_are_as_large_as_possible() -> None:
    """A long text fills its frames. Halving it until the pieces fit would make up to twice as many."""
    assert [len(piece) for piece in split_text("a" * 45_000, 15_000)] == [14_996, 14_996, 14_996, 12]
    assert split_text("", 16) == [""]


@settings(deadline=2000)
@given(TEXTS, st.integers(-10, 4000))
def test_clip_text_is_a_prefix_that_fits(text: str, bytes_max: int) -> None:
    """Law 10: clipped text is a prefix that fits. It is the whole text if that fits, and empty if nothing fits."""
    clipped = clip_text(text, bytes_max)
    assert text.startswith(clipped)
    assert not clipped or encoded_size(clipped) <= bytes_max
    if encoded_size(text) <= bytes_max:
        assert clipped == text
    elif bytes_max > 64:
        assert clipped
