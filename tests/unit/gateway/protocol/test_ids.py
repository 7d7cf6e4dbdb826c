"""Tests of ids and times in the format of the protocol."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.ids import from_rfc3339, new_id, now_ms, rfc3339


def test_an_id_is_unguessable_and_safe() -> None:
    """An id has 128 random bits after the prefix, in characters that are valid in a URL and in a turn id."""
    found = {new_id("cn") for _ in range(1000)}
    assert len(found) == 1000
    assert all(re.fullmatch(r"cn_[A-Za-z0-9_-]{22}", one) for one in found)


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_is_read_back_to_the_millisecond(ms: int) -> None:
    """A time is written in RFC 3339 format in UTC with milliseconds, and parsed back exactly."""
    text = rfc3339(ms)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert from_rfc3339(text) == ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.5Z", 500),
        ("2026-01-31T00:00:00.001Z", 1769817600001),
    ],
)
def test_a_time_with_an_offset_is_accepted(text: str, ms: int) -> None:
    """The result is in milliseconds since 1970, for any offset."""
    assert from_rfc3339(text) == ms


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-31T00:00:00", "2026-01-31", "2026-13-01T00:00:00Z", "1"])
def test_a_time_without_an_offset_is_refused(text: str) -> None:
    """A time that depends on the time zone of its reader is refused, and so is text that isn't a time."""
    with pytest.raises(ValueError, match=r"."):
        from_rfc3339(text)


def test_now_is_in_milliseconds() -> None:
    """The current time has 13 digits."""
    assert len(str(now_ms())) == 13
