"""Amazon's frames, however they are cut."""

import json
import struct
from typing import Any
from zlib import crc32

import pytest

from providers.http.aws_events import FRAME_BYTES_MAX, HEADERS_BYTES_MAX, AwsEventParser
from providers.http.body import ERROR_BODY_BYTES_MAX
from providers.http.sse import UNFRAMED, InvalidEvent
from tests.aws_frames import chunk, exception, frame

EVENTS: list[dict[str, Any]] = [
    {"type": "ping"},
    {"type": "content_block_delta", "delta": {"text": "wörld 🙂"}},
    {"type": "message_stop"},
]


@pytest.mark.parametrize("size", [1, 3, 7, 100, 10_000])
def test_frames_however_they_are_cut(size: int) -> None:
    """Every frame is one event of its dialect, wherever the network cuts."""
    raw = b"".join(chunk(event) for event in EVENTS)
    parser, got = AwsEventParser(), []
    for at in range(0, len(raw), size):
        got += parser.feed(raw[at : at + size])
    assert [(name, json.loads(data)) for name, data in got] == [(None, event) for event in EVENTS]
    assert parser.close() == []


@pytest.mark.parametrize(
    "failure",
    [
        exception("throttlingException", "slow down"),
        frame({":message-type": "error", ":error-code": "throttlingException", ":error-message": "slow down"}, b""),
        frame({":message-type": "exception", ":exception-type": "throttlingException"}, b"slow down"),
    ],
)
def test_an_exception_is_a_failure(failure: bytes) -> None:
    """A frame that isn't an event says what went wrong."""
    ((name, data),) = AwsEventParser().feed(failure)
    assert (name, json.loads(data)) == (UNFRAMED, {"error": {"type": "throttlingException", "message": "slow down"}})


def test_what_else_comes_is_skipped() -> None:
    """Events of other kinds mean nothing to us."""
    assert AwsEventParser().feed(frame({":message-type": "event", ":event-type": "initial-response"}, b"{}")) == []


@pytest.mark.parametrize("raw", [b"data: {}\n\n" * 4, chunk({"type": "ping"})[:-1] + b"x"], ids=["text", "checksum"])
def test_what_is_no_frame(raw: bytes) -> None:
    """What isn't framed, or was changed on its way, can't be read."""
    with pytest.raises(InvalidEvent):
        AwsEventParser().feed(raw)


@pytest.mark.parametrize("payload", [b"{", b"{}", b"[]", b'{"bytes":7}', b'{"bytes":"x"}', b"[" * 100_000, b"\xff"])
def test_a_frame_without_its_event(payload: bytes) -> None:
    """A chunk whose payload isn't what it should be can't be read either."""
    with pytest.raises(InvalidEvent):
        AwsEventParser().feed(frame({":message-type": "event", ":event-type": "chunk"}, payload))


@pytest.mark.parametrize(("size", "headers"), [(FRAME_BYTES_MAX + 1, 0), (1000, HEADERS_BYTES_MAX + 1), (12, 0)])
def test_a_frame_that_is_too_large_is_not_waited_for(size: int, headers: int) -> None:
    """Its beginning is enough; one without an end would be kept for ever."""
    prelude = struct.pack("!II", size, headers)
    with pytest.raises(InvalidEvent):
        AwsEventParser().feed(prelude + struct.pack("!I", crc32(prelude)))


def test_what_a_long_exception_says() -> None:
    """Its beginning; the rest is for nobody."""
    ((name, data),) = AwsEventParser().feed(exception("throttlingException", "slow " * 1_000_000))
    assert name == UNFRAMED
    assert len(data) < 2 * ERROR_BODY_BYTES_MAX
    assert "slow slow" in json.loads(data)["error"]["message"]
