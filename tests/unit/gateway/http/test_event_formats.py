"""Tests of frames as server-sent events and as JSON lines."""

from __future__ import annotations

import pytest

from gateway.http.event_formats import FORMATS, NDJSON, SSE, JsonLines, ServerSentEvents
from gateway.protocol.codec import JSON
from gateway.protocol.events import GoingAway, Heartbeat, TurnDelta, TurnDetached, TurnReset, TurnStatus


def test_an_event_has_its_type_and_its_position() -> None:
    """The id of a merged frame has its last seq. The epoch is the most recent one."""
    event_format = ServerSentEvents(5)
    delta = JSON.encode(TurnDelta("t", 7, 0, text="a\nb\u2028c", after=3))
    assert event_format.encode(delta) == b"event: turn.delta\nid: 5-7\ndata: " + delta + b"\n\n"
    assert delta.count(b"\n") == 0
    assert b"\nid: 9-8\n" in event_format.encode(JSON.encode(TurnStatus(turn="t", seq=8, status="resumed", epoch=9)))
    assert b"\nid: 9-9\n" in event_format.encode(JSON.encode(TurnDelta("t", 9, 0, text="x")))
    assert b"\nid: 11-0\n" in event_format.encode(JSON.encode(TurnReset("t", 0, 11, "why")))


def test_a_frame_without_a_seq_is_a_comment() -> None:
    """An EventSource ignores it. `going_away` also sets the retry time."""
    event_format = ServerSentEvents(5)
    assert event_format.encode(JSON.encode(Heartbeat(1))) == b': {"type":"heartbeat","t":1}\n\n'
    encoded = event_format.encode(JSON.encode(GoingAway("shutdown", 0, 750)))
    assert encoded.startswith(b"retry: 750\n: {")
    assert encoded.endswith(b"\n\n")


def test_every_frame_is_a_json_line() -> None:
    """This includes frames without a seq."""
    event_format = JsonLines(5)
    assert event_format.encode(b'{"type":"heartbeat","t":1}') == b'{"type":"heartbeat","t":1}\n'


@pytest.mark.parametrize("media_type", [SSE, NDJSON])
def test_an_ending_ends_the_stream(media_type: str) -> None:
    """A detach also ends it, because no frame follows."""
    event_format = FORMATS[media_type](5)
    assert event_format.media_type == media_type
    event_format.encode(b'{"type":"turn.delta","seq":2}')
    assert not event_format.ended
    event_format.encode(b'{"type":"turn.failed","seq":3}')
    assert event_format.ended
    event_format = FORMATS[media_type](5)
    event_format.encode(JSON.encode(TurnDetached("t", "gone")))
    assert event_format.ended
