"""Parsing Amazon's frames, wherever the network splits them."""

import json
import struct
from typing import Any
from zlib import crc32

import pytest

from providers.http.aws_events import FRAME_BYTES_MAX, HEADERS_BYTES_MAX, AwsEventParser
from providers.http.sse import UNFRAMED, InvalidEvent
from providers.http.transport_errors import ERROR_BODY_BYTES_MAX
from tests.aws_frames import chunk, exception, frame

EVENTS: list[dict[str, Any]] = [
    {"type": "ping"},
    {"type": "content_block_delta", "delta": {"text": "wörld 🙂"}},
    {"type": "message_stop"},
]


@pytest.mark.parametrize("size", [1, 3, 7, 100, 10_000])
def test_frames_split_anywhere(size: int) -> None:
    """Every frame is one event of the dialect, wherever the network splits the stream."""
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
    """A frame with an exception or an error is parsed as a failure."""
    ((name, data),) = AwsEventParser().feed(failure)
    assert (name, json.loads(data)) == (UNFRAMED, {"error": {"type": "throttlingException", "message": "slow down"}})


def test_other_event_types_are_skipped() -> None:
    """Events of other types are skipped."""
    assert AwsEventParser().feed(frame({":message-type": "event", ":event-type": "initial-response"}, b"{}")) == []


@pytest.mark.parametrize("raw", [b"data: {}\n\n" * 4, chunk({"type": "ping"})[:-1] + b"x"], ids=["text", "checksum"])
def test_invalid_frames(raw: bytes) -> None:
    """Data that isn't framed, or whose checksum is wrong, is rejected."""
    with pytest.raises(InvalidEvent):
        AwsEventParser().feed(raw)


@pytest.mark.parametrize("payload", [b"{", b"{}", b"[]", b'{"bytes":7}', b'{"bytes":"x"}', b"[" * 100_000, b"\xff"])
def test_invalid_payloads(payload: bytes) -> None:
    """A chunk whose payload isn't valid is rejected."""
    with pytest.raises(InvalidEvent):
        AwsEventParser().feed(frame({":message-type": "event", ":event-type": "chunk"}, payload))


@pytest.mark.parametrize(("size", "headers"), [(FRAME_BYTES_MAX + 1, 0), (1000, HEADERS_BYTES_MAX + 1), (12, 0)])
def test_frame_of_an_invalid_size(size: int, headers: int) -> None:
    """A frame that is too large or too small, or whose headers are too large, is rejected as soon as its prelude is read."""
    prelude = struct.pack("!II", size, headers)
    with pytest.raises(InvalidEvent):
        AwsEventParser().feed(prelude + struct.pack("!I", crc32(prelude)))


def test_long_exception_is_truncated() -> None:
    """Only the beginning of a long exception message is kept."""
    ((name, data),) = AwsEventParser().feed(exception("throttlingException", "slow " * 1_000_000))
    assert name == UNFRAMED
    assert len(data) < 2 * ERROR_BODY_BYTES_MAX
    assert "slow slow" in json.loads(data)["error"]["message"]
