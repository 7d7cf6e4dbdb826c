"""Tests of the tables for a terminal."""

from __future__ import annotations

import pytest

from gateway.commands.table import format_table, shortened, shown_width


def test_columns_are_aligned_as_they_are_shown() -> None:
    """A Chinese character takes two columns, a combining accent none."""
    assert format_table([["a", "x", ""], ["日本", "y", "z"], ["e\u0301é", "z", ""]]) == [
        "a     x",
        "日本  y  z",
        "e\u0301é    z",
    ]


@pytest.mark.parametrize(
    ("text", "width"), [("", 0), ("abc", 3), ("日本語", 6), ("🚀", 2), ("e\u0301", 1), ("\uff48", 2)]
)
def test_shown_width(text: str, width: int) -> None:
    """The width is that of the characters, in columns of a terminal."""
    assert shown_width(text) == width


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("abcdef", "abcdef"),
        ("abcdefg", "abcde…"),
        ("日本語", "日本語"),
        ("日本語x", "日本…"),
        ("é" * 7, "ééééé…"),
    ],
)
def test_shortened(text: str, short: str) -> None:
    """A line of more than six columns is cut, and has an ellipsis within them."""
    assert shortened(text, 6) == short
