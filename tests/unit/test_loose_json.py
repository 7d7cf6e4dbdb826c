"""JSON that strict parsers refuse."""

from typing import Any

import pytest

from providers.loose_json import documents


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b'{"a": 1}', [{"a": 1}]),
        (b'{"a": 1}\n{"b": 2}', [{"a": 1}, {"b": 2}]),
        (b'{"a": 1}\n\n[DONE]\n{"b": 2}\n', [{"a": 1}, {"b": 2}]),
        (b'{"a":\n 1}', [{"a": 1}]),
        (b'{"a": "\\ud83d"}', [{"a": "\ud83d"}]),
        (b'{"a": "\xff"}', [{"a": "\ufffd"}]),
    ],
)
def test_reads(raw: bytes, found: list[Any]) -> None:
    """Halves of characters are kept, and several documents are told apart."""
    assert documents(raw) == found


@pytest.mark.parametrize("raw", [b"", b"{", b"<html>", b'{"a": 1}\n{"b"', b"[DONE]\n{"])
def test_refuses(raw: bytes) -> None:
    """What is no JSON is an error, also when a part of it is."""
    with pytest.raises(ValueError, match=r"^Expecting"):
        documents(raw)
