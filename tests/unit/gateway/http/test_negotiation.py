"""Tests of the headers by which a client chooses its response: `Accept`, `Prefer` and `Last-Event-ID`."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from gateway.http.negotiation import RANGES_MAX, negotiate_media_type, parse_last_event_id, prefers_async
from gateway.http.responses import HttpError
from gateway.protocol.errors import ApiError

OFFERED = ("application/json", "text/event-stream", "application/x-ndjson")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("TEXT/Event-Stream; charset=utf-8", "text/event-stream"),
        ("application/json;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("application/*;q=0.5, text/*", "text/event-stream"),
        ("*/*, application/json;q=0", "text/event-stream"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/json;q=nonsense, text/event-stream;q=0.1", "text/event-stream"),
    ],
)
def test_the_preferred_media_type_is_chosen(accept: str | None, chosen: str) -> None:
    """The most specific range determines the quality. Of equal types, the first is chosen."""
    assert negotiate_media_type(Headers({} if accept is None else {"accept": accept}), OFFERED) == chosen


@pytest.mark.parametrize("accept", ["text/html", "text/event-stream;q=0", "application"])
def test_an_unacceptable_media_type_is_refused(accept: str) -> None:
    """The status is 406, and the message lists the available types."""
    with pytest.raises(HttpError) as refused:
        negotiate_media_type(Headers({"accept": accept}), OFFERED)
    assert refused.value.status == 406
    assert "text/event-stream" in refused.value.body.message


@pytest.mark.parametrize(
    ("prefer", "wanted"),
    [("respond-async", True), ("wait=10, Respond-Async; x=1", True), ("respond-asynchronous", False), ("", False)],
)
def test_respond_async_is_a_preference(prefer: str, wanted: bool) -> None:
    """It can be one of several preferences, in upper or lower case."""
    assert prefers_async(Headers({"prefer": prefer})) is wanted


def test_an_event_id_is_a_position() -> None:
    """The id has the epoch and the seq. Without an id, the position is the start."""
    assert parse_last_event_id(Headers({"last-event-id": "1795247464000-7"})) == (1795247464000, 7)
    assert parse_last_event_id(Headers({})) == parse_last_event_id(Headers({"last-event-id": " "})) == (0, 0)


@pytest.mark.parametrize("given", ["7", "a-b", "1-2-3", "-1-2", "1-", "\u0661-2", "1-" + "9" * 17])
def test_an_invalid_event_id_is_refused(given: str) -> None:
    """It isn't treated as the start, which would send all events again."""
    with pytest.raises(ApiError) as refused:
        parse_last_event_id(Headers(raw=[(b"last-event-id", given.encode("utf-8"))]))
    assert (refused.value.code, refused.value.body.path) == ("invalid_request", "Last-Event-ID")


def test_long_headers_are_read_only_in_part() -> None:
    """Only 100 media ranges or preferences are read, and only 300 characters of a range."""
    assert negotiate_media_type(Headers({"accept": "text/html," * 99 + OFFERED[1]}), OFFERED) == OFFERED[1]
    with pytest.raises(HttpError):
        negotiate_media_type(Headers({"accept": "text/html," * 100 + OFFERED[1]}), OFFERED)
    assert negotiate_media_type(Headers({"accept": OFFERED[1] + ";x=1" * 1000 + ";q=0"}), OFFERED) == OFFERED[1]
    assert not prefers_async(Headers({"prefer": "wait=1," * 200 + "respond-async"}))
    assert not prefers_async(Headers({"prefer": "wait=1," * RANGES_MAX + "respond-async"}))
    assert prefers_async(Headers({"prefer": "wait=1," * (RANGES_MAX - 1) + "respond-async"}))
