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
def test_a_token_is_a_word_with_its_blanks(text: str, tokens: list[str]) -> None:
    """Joined they are the text."""
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
def test_so_many_tokens(text: str, count: int, expected: str) -> None:
    """The text is cut, or told again."""
    tokens = Tokens(text, count)
    assert len(tokens) == count
    assert "".join(tokens) == expected


def test_a_long_text_is_not_told_for_ever() -> None:
    """A frame of 60 KB that asks for a million tokens would be an answer of 60 GB."""
    word = "a" * 60_000
    assert sum(map(len, Tokens(word, 1_000_000))) <= REPEATED_CHARS_MAX + 2 * len(word)
    assert len(Tokens("word " * 10, 1_000_000)) == 1_000_000


def test_a_long_text_is_counted_by_its_beginning() -> None:
    """As if it went on like that."""
    assert count_tokens("word " * COUNTED_CHARS_MAX) == COUNTED_CHARS_MAX
