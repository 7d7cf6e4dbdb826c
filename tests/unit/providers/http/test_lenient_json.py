"""Parsing JSON that strict parsers reject."""

from typing import Any

import pytest
from msgspec import Struct

from providers.http.lenient_json import DOCUMENTS_MAX, MISMATCHES_MAX, convert_leniently, parse_documents


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a": 1}', [{"a": 1}]),
        (b'{"a": 1}\n{"b": 2}', [{"a": 1}, {"b": 2}]),
        (b'{"a": 1}\n\n[DONE]\n{"b": 2}\n', [{"a": 1}, {"b": 2}]),
        (b'{"a":\n 1}', [{"a": 1}]),
        (b'{"a": 1}{"b": 2}', [{"a": 1}, {"b": 2}]),
        (b'{"a": 1}data: {"b": 2}', [{"a": 1}, {"b": 2}]),
        (b'{"a": "\\ud83d"}', [{"a": "\ud83d"}]),
        (b'{"a": "\xff"}', [{"a": "\ufffd"}]),
    ],
)
def test_parse_documents(raw: bytes, expected: list[Any]) -> None:
    """Lone surrogates are kept, invalid UTF-8 is replaced, and several documents are split."""
    assert parse_documents(raw) == expected


def test_too_deep() -> None:
    """JSON that is nested too deeply is rejected."""
    with pytest.raises(ValueError, match="too deep"):
        parse_documents(b"[" * 100_000)


@pytest.mark.parametrize("raw", [b"", b"{", b"<html>", b'{"a": 1}\n{"b"', b"[DONE]\n{"])
def test_invalid_documents(raw: bytes) -> None:
    """Data that isn't JSON is rejected, even if a part of it is."""
    with pytest.raises(ValueError, match=r"^Expecting"):
        parse_documents(raw)


class _Inner(Struct):
    text: str | None = None
    count: int = 0


class _Outer(Struct):
    name: str = ""
    inner: _Inner | None = None
    many: list[_Inner] | None = None


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"name": "n", "inner": {"text": "t", "count": "3"}}, _Outer("n", _Inner("t", 3))),
        ({"name": {"not": "a name"}, "inner": {"text": "t"}}, _Outer(inner=_Inner("t"))),
        ({"name": "n", "inner": {"text": ["no"], "count": 2}}, _Outer("n", _Inner(count=2))),
        ({"name": "n", "inner": 5}, _Outer("n")),
        ({"many": [{"text": "t", "count": []}, 7]}, _Outer(many=[_Inner("t")])),
    ],
)
def test_mismatched_fields_are_ignored(document: Any, expected: _Outer) -> None:
    """A field of another type is ignored, and the other fields are kept at every level of nesting."""
    assert convert_leniently(document, _Outer) == expected


def test_only_objects_are_converted() -> None:
    """A value that isn't an object is rejected."""
    with pytest.raises(ValueError, match="Expected"):
        convert_leniently([1], _Outer)


def test_too_many_documents() -> None:
    """Data with too many documents is rejected."""
    assert parse_documents(b"{}" * DOCUMENTS_MAX) == [{}] * DOCUMENTS_MAX
    with pytest.raises(ValueError, match="more than"):
        parse_documents(b"{}" * (DOCUMENTS_MAX + 1))


def test_too_many_mismatches() -> None:
    """A document with too many objects that don't match is rejected. The outer object counts too."""
    bad: dict[str, Any] = {"count": []}
    good = {"text": "t"}
    assert convert_leniently({"many": [bad] * (MISMATCHES_MAX - 1)}, _Outer) == _Outer(
        many=[_Inner()] * (MISMATCHES_MAX - 1)
    )
    assert convert_leniently({"many": [bad] + [good] * 5000}, _Outer).many == [_Inner(), *[_Inner("t")] * 5000]
    with pytest.raises(ValueError, match="don't match"):
        convert_leniently({"many": [bad] * MISMATCHES_MAX}, _Outer)
