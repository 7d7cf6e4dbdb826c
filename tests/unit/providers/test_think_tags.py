"""Separating reasoning from text by think tags."""

import pytest

from providers.think_tags import BLANKS_MAX, ThinkTags

CASES = [
    ("<think>why</think>because", "why", "because"),
    ("<think>\nwhy\n</think>\n\nbecause", "why\n", "because"),
    ("\n<think>why</think>because", "why", "because"),
    ("no tags at all", "", "no tags at all"),
    ("<b>bold</b>", "", "<b>bold</b>"),
    ("text <think>later</think>", "", "text <think>later</think>"),
    ("<think>never closed", "never closed", ""),
    ("<think>a </thin b</think>c", "a </thin b", "c"),
    ("<think></think>c", "", "c"),
    ("<thi", "", "<thi"),
    ("<think>a</thi", "a</thi", ""),
    ("", "", ""),
]


@pytest.mark.parametrize(("raw", "reasoning", "text"), CASES)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_split(raw: str, reasoning: str, text: str, size: int) -> None:
    """Tags at the start are removed, wherever the text is split, and all other text is unchanged."""
    tags = ThinkTags()
    pieces = [piece for at in range(0, len(raw), size) for piece in tags.feed(raw[at : at + size])]
    pieces += tags.close()
    assert "".join(piece for kind, piece in pieces if kind == "reasoning") == reasoning
    assert "".join(piece for kind, piece in pieces if kind == "text") == text
    assert all(piece for _, piece in pieces)


def test_long_white_space_at_the_start() -> None:
    """The white space that is held back while waiting for a tag is bounded."""
    tags = ThinkTags()
    pieces = [piece for _ in range(BLANKS_MAX + 2) for piece in tags.feed("\n")]
    assert pieces == [("text", "\n" * (BLANKS_MAX + 1)), ("text", "\n")]
    assert ThinkTags().feed("\n" * BLANKS_MAX + "<think>why") == [("reasoning", "why")]
