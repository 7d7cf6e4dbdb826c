"""Tests of the parser of server-sent events."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.http.sse import UNFRAMED, Event, EventTooLarge, SseParser


def parse(*chunks: bytes) -> list[Event]:
    parser = SseParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.close()


def parse_bytewise(raw: bytes) -> list[Event]:
    return parse(*(raw[at : at + 1] for at in range(len(raw))))


CASES: list[tuple[bytes, list[Event]]] = [
    (b"data: {}\n\n", [(None, b"{}")]),
    (b"data:{}\n\n", [(None, b"{}")]),
    (b"data: a\n\ndata: b\n\n", [(None, b"a"), (None, b"b")]),
    (b"event: ping\ndata: {}\n\n", [("ping", b"{}")]),
    (b"data: a\nevent: late\n\n", [("late", b"a")]),
    (b"event: a\n\ndata: b\n\n", [(None, b"b")]),
    (b"data: one\ndata: two\n\n", [(None, b"one\ntwo")]),
    (b"data\n\n", [(None, b"")]),
    (b": keep-alive\n\ndata: a\n\n", [(None, b"a")]),
    (b"id: 7\nretry: 10\ndata: a\n\n", [(None, b"a")]),
    (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [(None, b"a"), (None, b"b"), (None, b"c")]),
    (b"\xef\xbb\xbfdata: a\n\n", [(None, b"a")]),
    (b"data:  two spaces\n\n", [(None, b" two spaces")]),
    (b"data: open at the end", [(None, b"open at the end")]),
    (b"data: a\n", [(None, b"a")]),
    ("data: a\u2028b\u0085c\x0bd\x1ce\n\n".encode(), [(None, "a\u2028b\u0085c\x0bd\x1ce".encode())]),
    (b'{"error": 1}', [(UNFRAMED, b'{"error": 1}')]),
    (b'data: a\n\n{"error":\n  {"code": 5}}\n', [(None, b"a"), (UNFRAMED, b'{"error":\n  {"code": 5}}')]),
    (b"\n\n\n", []),
    (b"", []),
    (b"event:\ndata: a\n\n", [(None, b"a")]),
]


@pytest.mark.parametrize(("raw", "events"), CASES)
def test_reads_events(raw: bytes, events: list[Event]) -> None:
    """The events of a stream are parsed correctly, whether it is fed whole or byte by byte."""
    assert parse(raw) == events
    assert parse_bytewise(raw) == events


@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\n"])
def test_line_endings(ending: bytes) -> None:
    """The three line endings are equivalent, even if a chunk ends between \\r and \\n."""
    raw = b"event: x\ndata: a\n\n: c\n\ndata: b\n\n".replace(b"\n", ending)
    assert parse(raw) == parse_bytewise(raw) == [("x", b"a"), (None, b"b")]


@given(st.binary(max_size=200), st.randoms(use_true_random=False))
def test_stream_split_anywhere(raw: bytes, rng: random.Random) -> None:
    """The parsed events don't depend on where the network splits the stream."""
    raw = b"data: " + raw.replace(b"x", b"\n").replace(b"y", b"\n\ndata: ") + b"\n\n"
    cuts = sorted(rng.randrange(len(raw)) for _ in range(5))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert parse(*pieces) == parse_bytewise(raw) == parse(raw)


def test_fast_path_after_a_split_event() -> None:
    """After an event that was split between two chunks, a chunk with a complete event is parsed correctly."""
    parser = SseParser()
    assert parser.feed(b"data: a") == []
    assert parser.feed(b"b\n\n") == [(None, b"ab")]
    assert parser.feed(b"data: c\n\n") == [(None, b"c")]


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: " + b"x" * 200],
        [b"data: " + b"x" * 200 + b"\n\n"],
        [b"data: " + b"x" * 60 + b"\n"] * 3,
        [b"y" * 60 + b"\n"] * 3,
        [b"x"] * 200,
    ],
)
def test_event_above_the_limit(chunks: list[bytes]) -> None:
    """An event above the limit is rejected, whether it consists of one line, many lines or many chunks."""
    parser = SseParser(event_bytes_max=100)
    with pytest.raises(EventTooLarge, match="over 100 bytes"):
        list(map(parser.feed, chunks))


def test_limit_is_per_event() -> None:
    """The limit applies to each event: several events may exceed it together, even in a single chunk."""
    parser = SseParser(event_bytes_max=100)
    assert len(parser.feed((b"data: " + b"x" * 50 + b"\n\n") * 10)) == 10
    assert len(parser.feed((b"data: " + b"x" * 50 + b"\n\n: c\n\n") * 10)) == 10
