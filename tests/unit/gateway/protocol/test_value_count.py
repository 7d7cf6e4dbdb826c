"""What a JSON text holds is counted without decoding it, however it is cut into pieces."""

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


def counted(value: Any) -> int:
    """Texts, keys among them, commas and opening brackets."""
    if isinstance(value, str):
        return 1
    if isinstance(value, list):
        return 1 + max(len(value) - 1, 0) + sum(map(counted, value))
    if isinstance(value, dict):
        return 1 + max(len(value) - 1, 0) + len(value) + sum(map(counted, value.values()))
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
def test_it_counts_what_stands_outside_of_texts(document: Any, cuts: list[int], padding: int) -> None:
    """Commas and brackets inside a JSON string don't count, and the count is the same wherever the pieces are cut."""
    whole = [document, *([0] * padding)]
    data = json.dumps(whole, ensure_ascii=False).encode()
    places = sorted({min(cut, len(data)) for cut in cuts})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    assert fits(pieces) == (counted(whole) <= MAX)


@pytest.mark.parametrize("one", [b"{", b"[", b",", b'"",', b'""', b'"\\\\"'])
def test_what_is_no_json_is_bounded_too(one: bytes) -> None:
    """A flood of anything that costs the decoder, or this count, a step."""
    assert fits([one * 8])
    assert not fits([one * (MAX + 1)])


def test_a_long_text_is_one_value() -> None:
    """Twenty megabytes of base64, or of escaped quotes, are no work for anybody else to wait for."""
    count = ValueCount(ITEMS)
    assert not any(count.feed(piece) for piece in [b'{"data":"', *[b"A" * 8192] * 100, *[b'\\"' * 4096] * 100, b'"}'])
    assert ValueCount(10_000).feed(b'"",' * (STEPS_PER_SLICE + 1))
