"""The demo model's tokens."""

import pytest

from providers.demo.tokens import COUNTED_CHARS_MAX, REPEATED_CHARS_MAX, Tokens, count_tokens, split


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" \n", [" \n"]),
        ("one", ["one"]),
        ("a b  c\n\n d ", ["a ", "b  ", "c\n\n ", "d "]),
        ("  lead", ["  lead"]),
        ("é\u3000☃", ["é\u3000", "☃"]),
    ],
)
def test_a_token_is_a_word_with_white_space(text: str, tokens: list[str]) -> None:
    """The tokens of a text join to that text."""
    assert split(text) == list(Tokens(text)) == tokens
    assert count_tokens(text) == len(tokens)


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("a b c", 2, "a b "),
        ("a b c", 3, "a b c"),
        ("a b c", 5, "a b c\n\na b "),
        ("", 2, "…\n\n…\n\n"),
        (" ", 2, "\n\n\n\n"),
    ],
)
def test_requested_number_of_tokens(text: str, count: int, expected: str) -> None:
    """The text is cut or repeated to the requested number of tokens."""
    tokens = Tokens(text, count)
    assert len(tokens) == count
    assert "".join(tokens) == expected


def test_repetition_of_a_long_text_is_bounded() -> None:
    """A repeated text is bounded: a 60 KB frame that requests a million tokens would otherwise give a 60 GB answer."""
    word = "a" * 60_000
    assert sum(map(len, Tokens(word, 1_000_000))) <= REPEATED_CHARS_MAX + 2 * len(word)
    assert len(Tokens("word " * 10, 1_000_000)) == 1_000_000


def test_count_of_a_long_text_is_extrapolated() -> None:
    """The count of a long text is extrapolated from its beginning."""
    assert count_tokens("word " * COUNTED_CHARS_MAX) == COUNTED_CHARS_MAX
