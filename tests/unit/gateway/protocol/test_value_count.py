"""Tests of the count of values in a JSON text, which isn't decoded and may arrive in any pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol.errors import ApiError
from gateway.protocol.value_count import COUNTED_PER_ITEM, STEPS_PER_SLICE, ValueCount

ITEMS = 4
MAX = ITEMS * COUNTED_PER_ITEM

texts = st.text(alphabet=st.sampled_from('a"\\,{[]}: \n\u00e9'), max_size=12)
documents = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(texts, inner, max_size=8),
    max_leaves=60,
)


def expected_count(value: Any) -> int:
    """Return the number of strings (including keys), commas and opening brackets."""
    if isinstance(value, str):
        return 1
    if isinstance(value, list):
        return 1 + max(len(value) - 1, 0) + sum(map(expected_count, value))
    if isinstance(value, dict):
        return 1 + max(len(value) - 1, 0) + len(value) + sum(map(expected_count, value.values()))
    return 0


def fits(pieces: Iterable[bytes]) -> bool:
    count = ValueCount(ITEMS)
    try:
        for piece in pieces:
            count.feed(piece)
    except ApiError as error:
        assert error.code == "too_large"
        assert str(ITEMS) in error.body.message
        return False
    return True


@given(documents, st.lists(st.integers(0, 400), max_size=10), st.integers(0, MAX))
def test_the_count_ignores_the_contents_of_strings(document: Any, cuts: list[int], padding: int) -> None:
    """Commas and brackets inside a JSON string aren't counted, and the count doesn't depend on the pieces."""
    whole = [document, *([0] * padding)]
    data = json.dumps(whole, ensure_ascii=False).encode()
    places = sorted({min(cut, len(data)) for cut in cuts})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    assert fits(pieces) == (expected_count(whole) <= MAX)


@pytest.mark.parametrize("one", [b"{", b"[", b",", b'"",', b'""', b'"\\\\"'])
def test_invalid_json_is_bounded(one: bytes) -> None:
    """This covers each kind of token that costs the decoder, or the count itself, a step."""
    assert fits([one * 8])
    assert not fits([one * (MAX + 1)])


def test_a_long_text_is_one_value() -> None:
    """A long string of base64 or of escaped quotes takes few steps, so `feed` never asks to let other tasks run.

    It does ask after many short strings.
    """
    count = ValueCount(ITEMS)
    assert not any(count.feed(piece) for piece in [b'{"data":"', *[b"A" * 8192] * 100, *[b'\\"' * 4096] * 100, b'"}'])
    assert ValueCount(10_000).feed(b'"",' * (STEPS_PER_SLICE + 1))
