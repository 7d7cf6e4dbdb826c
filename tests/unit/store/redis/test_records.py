"""What goes into scripts comes out as it was, and refusing outcomes are raised."""

from __future__ import annotations

import msgspec
import pytest

from store.records import Busy, Conflict, Counters, Fenced, LogGap, NotFound, StoreError
from store.redis.records import counters, pack, parse_hash, parse_reply


class Inner(msgspec.Struct):
    """A record in a record."""

    body: bytes


class Outer(msgspec.Struct):
    """A record with everything in it."""

    name: str
    number: int
    flag: bool
    nothing: str | None
    inner: Inner


def test_records_are_packed_as_redis_reads_them() -> None:
    """Bytes and texts are alike, what is None isn't there, and records in records are maps in maps."""
    whole = pack(Outer("Zoë", 2**52, True, None, Inner(b"abc")))
    assert msgspec.msgpack.decode(whole) == {
        "name": "Zoë",
        "number": 2**52,
        "flag": True,
        "inner": {"body": "abc"},
    }


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
    """Each outcome of a script has its exception."""
    with pytest.raises(refusal) as raised:
        parse_reply(reply)
    assert getattr(raised.value, "field", "turn") == "turn"
    assert getattr(raised.value, "end", 7) == 7


def test_any_other_outcome_is_what_stands_behind_it() -> None:
    """The rest of the reply is the answer."""
    assert parse_reply([b"ok", [b"a"]]) == [[b"a"]]
    assert parse_hash([b"a", b"1", b"b", b"2"]) == {b"a": b"1", b"b": b"2"}


def test_what_was_never_counted_has_its_default() -> None:
    """No token is 0, no price is None."""
    assert counters([b"1", None, None, None, None, None]) == Counters(1, 0, 0, 0, 0, None)
