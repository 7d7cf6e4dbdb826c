"""Amazon's frames, however they are cut."""

import json
from typing import Any

import pytest

from providers.aws_events import AwsEventParser
from providers.sse import BARE
from providers.stream import Unreadable
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
    assert (name, json.loads(data)) == (BARE, {"error": {"type": "throttlingException", "message": "slow down"}})


def test_what_else_comes_is_skipped() -> None:
    """Events of other kinds mean nothing to us."""
    assert AwsEventParser().feed(frame({":message-type": "event", ":event-type": "initial-response"}, b"{}")) == []


@pytest.mark.parametrize("raw", [b"data: {}\n\n" * 4, chunk({"type": "ping"})[:-1] + b"x"], ids=["text", "checksum"])
def test_what_is_no_frame(raw: bytes) -> None:
    """What isn't framed, or was changed on its way, can't be read."""
    with pytest.raises(Unreadable):
        AwsEventParser().feed(raw)


def test_a_frame_without_its_event() -> None:
    """A chunk whose payload isn't what it should be can't be read either."""
    with pytest.raises(Unreadable):
        AwsEventParser().feed(frame({":message-type": "event", ":event-type": "chunk"}, b"{"))
