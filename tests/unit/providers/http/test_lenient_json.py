"""JSON that strict parsers refuse."""

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
def test_reads(raw: bytes, expected: list[Any]) -> None:
    """Halves of characters are kept, and several documents are told apart."""
    assert parse_documents(raw) == expected


def test_too_deep() -> None:
    """Nesting without end is no JSON to us."""
    with pytest.raises(ValueError, match="too deep"):
        parse_documents(b"[" * 100_000)


@pytest.mark.parametrize("raw", [b"", b"{", b"<html>", b'{"a": 1}\n{"b"', b"[DONE]\n{"])
def test_refuses(raw: bytes) -> None:
    """What is no JSON is an error, also when a part of it is."""
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
def test_fits(document: Any, expected: _Outer) -> None:
    """A field that is of another type than ours is another field; what fits is kept, however deep it stands."""
    assert convert_leniently(document, _Outer) == expected


def test_no_object_fits_nothing() -> None:
    """What is no object at all isn't made one."""
    with pytest.raises(ValueError, match="Expected"):
        convert_leniently([1], _Outer)


def test_too_many_documents() -> None:
    """What holds so many are no merged frames."""
    assert parse_documents(b"{}" * DOCUMENTS_MAX) == [{}] * DOCUMENTS_MAX
    with pytest.raises(ValueError, match="more than"):
        parse_documents(b"{}" * (DOCUMENTS_MAX + 1))


def test_too_much_that_does_not_fit() -> None:
    """What has to be mended so often is of another family."""
    bad: dict[str, Any] = {"count": []}
    good = {"text": "t"}
    assert convert_leniently({"many": [bad] * (MISMATCHES_MAX - 1)}, _Outer) == _Outer(
        many=[_Inner()] * (MISMATCHES_MAX - 1)
    )
    assert convert_leniently({"many": [bad] + [good] * 5000}, _Outer).many == [_Inner(), *[_Inner("t")] * 5000]
    with pytest.raises(ValueError, match="don't match"):
        convert_leniently({"many": [bad] * (MISMATCHES_MAX + 1)}, _Outer)
