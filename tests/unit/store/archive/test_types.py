"""Texts and bytes that no database can hold are escaped, and come back exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.archive.types import escape, escape_bytes, unescape, unescape_bytes


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_comes_back(text: str) -> None:
    """What is stored is valid UTF-8 without U+0000."""
    stored = escape(text)
    assert "\x00" not in stored
    stored.encode()
    assert unescape(stored) == text


@given(st.binary())
def test_any_bytes_come_back(value: bytes) -> None:
    """Bytes that are text are stored as they are."""
    stored = escape_bytes(value)
    assert "\x00" not in stored
    stored.encode()
    assert unescape_bytes(stored) == value


@pytest.mark.parametrize(
    ("text", "stored"),
    [("plain\ntext", "plain\ntext"), ("a\x00b", "a\x1a0000b"), ("\x1a0000", "\x1a001a0000"), ("\ud800é", "\x1ad800é")],
)
def test_the_form_is_that_of_the_document(text: str, stored: str) -> None:
    """docs/schema.md describes it."""
    assert escape(text) == stored
    assert unescape(stored) == text
