"""Tests of invisible characters: the character class against Unicode's tables, the pattern, and the escapes."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.plain_text import INVISIBLE_CHARS, PLAIN_PATTERN, escape_invisible, is_plain

KINDS = {"Cc", "Cf", "Zl", "Zp"}
FOUND = re.compile(f"[{INVISIBLE_CHARS}]")


def test_the_class_matches_unicodes_tables() -> None:
    """The class contains all control characters, format characters and line separators.

    It contains no other assigned character.
    """
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    kinds = {character: unicodedata.category(character) for character in characters}
    assert [one for one in characters if kinds[one] in KINDS and not FOUND.match(one)] == []
    assert [one for one in characters if kinds[one] not in KINDS | {"Cn"} and FOUND.match(one)] == []


@pytest.mark.parametrize("text", ["", "t1", "c_7q-zyZSe", "Ünï 安", "a b", "a\\x1b", "👋", "a\u00a0b"])
def test_visible_text_is_unchanged(text: str) -> None:
    """This applies to text in any language."""
    assert is_plain(text)
    assert escape_invisible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb", r"a\u202eb"),
        ("a\u2028b\u2029", r"a\u2028b\u2029"),
        ("a\ufeff\u200d", r"a\ufeff\u200d"),
        ("\U000e0041", r"\U000e0041"),
        ("ä\n安", r"ä\n安"),
    ],
)
def test_invisible_characters_are_escaped(text: str, shown: str) -> None:
    """The characters around them are unchanged. A text with invisible characters isn't a valid name."""
    assert escape_invisible(text) == shown
    assert not is_plain(text)
    assert re.search(PLAIN_PATTERN, f"a{text}\n") is None


def test_a_lone_surrogate_is_escaped() -> None:
    """A lone surrogate couldn't be encoded."""
    assert escape_invisible("a\ud800b\n") == r"a\ud800b\n"


@given(st.text(st.characters(categories=("Cc", "Cf", "Cs", "Zl", "Zp", "L", "P", "Zs")), max_size=30))
def test_escaped_text_has_no_invisible_characters(text: str) -> None:
    """Any text becomes one line of visible characters, and escaping it again changes nothing."""
    shown = escape_invisible(text)
    assert is_plain(shown)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert escape_invisible(shown) == shown
