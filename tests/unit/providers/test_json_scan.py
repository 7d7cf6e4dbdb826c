"""The end of a JSON value that arrives in pieces."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from providers.json_scan import SLICE_CHARS, JsonScan
from tests.examples import examples


def has_end(text: str) -> bool:
    """Return whether `text` is one object, list or string, perhaps with white space around it."""
    try:
        return isinstance(json.loads(text), dict | list | str)
    except ValueError:
        return False


JSONS = st.recursive(
    st.one_of(st.none(), st.integers(), st.text('{}[]"\\\\, a', max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text('{}"\\\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
).map(json.dumps)
PIECES = st.lists(st.one_of(JSONS, st.text('{}[]"\\\\:, a', max_size=6)), max_size=4)


@settings(deadline=None, max_examples=examples(200))
@given(PIECES, st.lists(st.integers(1, 5), min_size=1, max_size=40))
def test_a_value_ends_where_json_ends(texts: list[str], sizes: list[int]) -> None:
    """The end of a JSON value is found, and no earlier place, wherever the value is split and whatever is in strings."""
    text, scan, fed = "".join(texts), JsonScan(), ""
    for size in [*sizes, len(text) + 1]:
        piece, text = text[:size], text[size:]
        was_closed, end = scan.closed, scan.feed(piece)
        assert (end >= 0) == (scan.closed and not was_closed)
        if end >= 0:
            assert not piece[end:].strip() or not has_end(fed + piece)
        fed += piece
        if has_end(fed):
            assert scan.closed
            assert not scan.is_open


def test_a_long_string() -> None:
    """A string longer than a slice is skipped, with escapes at the borders of slices and of pieces."""
    for size in range(SLICE_CHARS - 3, SLICE_CHARS + 3):
        scan, text = JsonScan(), '{"' + "x" * size + '\\"' + "\\\\" + '":1}'
        assert scan.feed(text) == len(text)
        scan = JsonScan()
        assert [scan.feed(piece) for piece in (text[: size + 3], text[size + 3 :])] == [-1, len(text) - size - 3]
