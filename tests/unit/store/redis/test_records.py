"""Records are packed for scripts, replies are parsed, and refusals are raised."""

from __future__ import annotations

import msgspec
import pytest

from store.errors import Busy, Conflict, Fenced, LogGap, NotFound, StoreError
from store.records import Counters
from store.redis.commands import SLICE_BYTES
from store.redis.records import counters, pack, parse_hash, parse_reply


class Inner(msgspec.Struct):
    """A nested record."""

    body: bytes


class Outer(msgspec.Struct):
    """A record with fields of every type."""

    name: str
    number: int
    flag: bool
    nothing: str | None
    inner: Inner


def test_records_are_packed_for_scripts() -> None:
    """Bytes are packed as text, fields that are None are omitted, and nested records become nested maps."""
    whole = pack(Outer("Zoë", 2**52, True, None, Inner(b"abc")))
    assert isinstance(whole, bytes)
    assert msgspec.msgpack.decode(whole) == {
        "name": "Zoë",
        "number": 2**52,
        "flag": True,
        "inner": {"body": "abc"},
    }


def test_long_values_are_not_copied() -> None:
    """A long record is packed in pieces, one of which is the long value itself."""
    body = b"x" * (SLICE_BYTES + 1)
    pieces = pack(Inner(body))
    assert any(piece is body for piece in pieces)
    assert msgspec.msgpack.decode(b"".join(pieces)) == {"body": body.decode()}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "refusal"),
    [
        ([b"not_found", b"turn"], NotFound),
        ([b"conflict"], Conflict),
        ([b"busy"], Busy),
        ([b"fenced"], Fenced),
        ([b"gap", 7], LogGap),
    ],
)
def test_a_refusing_outcome_is_raised(reply: list[object], refusal: type[StoreError]) -> None:
    """Each refusing outcome of a script has its own exception."""
    with pytest.raises(refusal) as raised:
        parse_reply(reply)
    assert getattr(raised.value, "field", "turn") == "turn"
    assert getattr(raised.value, "end", 7) == 7


def test_any_other_outcome_returns_the_rest() -> None:
    """If the outcome isn't a refusal, the rest of the reply is returned. A flat list of fields becomes a dict."""
    assert parse_reply([b"ok", [b"a"]]) == [[b"a"]]
    assert parse_hash([b"a", b"1", b"b", b"2"]) == {b"a": b"1", b"b": b"2"}


def test_missing_counters_have_defaults() -> None:
    """Missing token counts are 0, and a missing cost is None."""
    assert counters([b"1", None, None, None, None, None]) == Counters(1, 0, 0, 0, 0, None)
