"""Tests of the conversion of path, query and body to a typed request, by the rules of frames and of HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from gateway.http.admin import AdminFeedback
from gateway.http.request_body import (
    convert_request,
    decode_body,
    decode_query,
    decode_start,
    parse_query,
    read_body,
)
from gateway.http.responses import HttpError
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError

TYPED = Headers({"content-type": "application/json; charset=utf-8"})
FIELDS = ("title", "metadata", "head")


def receiving(*pieces: bytes, disconnects: bool = False) -> Any:
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append(
        {"type": "http.disconnect"} if disconnects else {"type": "http.request", "body": b"", "more_body": False}
    )

    async def receive() -> Any:
        return messages.pop(0)

    return receive


async def test_a_body_is_read_completely() -> None:
    """The body may arrive in any number of pieces."""
    assert await read_body(TYPED, receiving(b"{", b"}"), 2) == b"{}"
    assert await read_body(Headers({}), receiving(), 2) == b""


async def test_a_body_that_is_too_large_is_refused() -> None:
    """It is refused before it is read if its length is known, and otherwise as soon as the limit is exceeded."""
    for headers, receive in (
        (Headers({"content-length": "3"}), receiving(disconnects=True)),
        (TYPED, receiving(b"12", b"3")),
    ):
        with pytest.raises(HttpError) as refused:
            await read_body(headers, receive, 2)
        assert refused.value.status == 413


async def test_a_client_that_disconnects_gets_no_response() -> None:
    """There is no client left to answer."""
    with pytest.raises(ClientDisconnect):
        await read_body(TYPED, receiving(b"{", disconnects=True), 10)


@pytest.mark.parametrize("given", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_a_body_that_is_not_json_is_refused(given: str) -> None:
    """Any other media type is refused with 415. Another site's page can send some of them without a preflight."""
    with pytest.raises(HttpError) as refused:
        await read_body(Headers({"content-type": given}), receiving(b"{}"), 10)
    assert refused.value.status == 415


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"content-type": "application/json; charset=utf-16"}, "charset"),
        ({"content-type": 'application/json; profile="a"; Charset="ISO-8859-1"'}, "charset"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, "content-encoding"),
    ],
)
async def test_a_body_is_plain_utf_8(headers: dict[str, str], named: str) -> None:
    """Another charset or a content encoding is refused with 415, and the message names what to change."""
    with pytest.raises(HttpError, match=named) as refused:
        await read_body(Headers(headers), receiving(b"{}"), 10)
    assert refused.value.status == 415
    for charset in ("UTF-8", '"utf-8"', "utf8"):
        typed = Headers({"content-type": f"application/json;charset={charset}", "content-encoding": "identity"})
        assert await read_body(typed, receiving(b"{}"), 10) == b"{}"


def test_a_query_is_decoded() -> None:
    """Percent escapes and plus signs are decoded, and an empty value is kept."""
    assert parse_query(b"query=a%20b+%C3%A9&before=", ("query", "before")) == {"query": "a b é", "before": ""}


@pytest.mark.parametrize(
    ("query", "path"),
    [(b"nope=1", "nope"), (b"before=a&before=b", "before"), (b"before=%FF", None), (b"before=\xff", None)],
)
def test_an_invalid_query_is_refused(query: bytes, path: str | None) -> None:
    """This covers unknown parameters, duplicates, and invalid UTF-8."""
    with pytest.raises(ApiError) as refused:
        parse_query(query, ("before",))
    assert (refused.value.code, refused.value.body.path) == ("invalid_request", path)


def test_numbers_in_a_url_are_converted() -> None:
    """Numeric fields are converted from text. Text fields stay text."""
    request = decode_query(p.ConversationMessages, {"conversation": "17"}, {"limit": "5", "before": "null"})
    assert request == p.ConversationMessages(conversation="17", limit=5, before="null")
    with pytest.raises(ApiError) as refused:
        decode_query(p.ConversationList, {}, {"limit": "201"})
    assert refused.value.body.path == "limit"


def test_null_in_a_query_is_text() -> None:
    """A field that may have any text gets the text `null`. Any other field refuses it like any other invalid value."""
    assert decode_query(AdminFeedback, {}, {"model": "null"}).model == "null"
    with pytest.raises(ApiError) as refused:
        decode_query(AdminFeedback, {}, {"rating": "null"})
    assert (refused.value.code, refused.value.body.path) == ("invalid_request", "rating")


def test_a_body_has_the_fields_that_are_not_in_the_path() -> None:
    """An empty body sets no fields, and a matching `type` is accepted."""
    request = decode_body(p.ConversationUpdate, {"conversation": "c"}, b'{"title":"T"}', FIELDS)
    assert request == p.ConversationUpdate(conversation="c", title="T")
    assert decode_body(p.ConversationCreate, {}, b"", FIELDS) == p.ConversationCreate()
    assert decode_body(p.ConversationCreate, {}, b'{"type":"conversation.create"}', FIELDS) == p.ConversationCreate()


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b'{"nope":1}', "invalid_frame", "nope"),
        (b'{"conversation":"d"}', "invalid_frame", "conversation"),
        (b'{"id":"1"}', "invalid_frame", "id"),
        (b'{"type":"ping"}', "invalid_frame", "type"),
        (b'{"title":1}', "invalid_request", "title"),
        (b'{"metadata":{"a":1e999}}', "invalid_frame", "metadata"),
        (b"[]", "invalid_frame", None),
        (b"{", "invalid_frame", None),
        (b"\xff", "invalid_frame", None),
        (b'{"metadata":' + b'{"a":' * 40 + b"1" + b"}" * 41, "invalid_frame", None),
        (b'{"metadata":' + b"[" * 100_000, "invalid_frame", None),
    ],
)
def test_a_body_is_refused_like_a_frame(body: bytes, code: str, path: str | None) -> None:
    """This covers unknown fields, wrong types, invalid JSON and nesting that is too deep."""
    with pytest.raises(ApiError) as refused:
        decode_body(p.ConversationUpdate, {"conversation": "c"}, body, FIELDS)
    assert (refused.value.code, refused.value.body.path) == (code, path)


def test_only_the_input_of_a_start_may_be_large() -> None:
    """All other fields together are limited to a frame's size."""
    text = "x" * 100_000
    assert decode_start(b'{"input":"%b"}' % text.encode(), 1000).input == text
    with pytest.raises(HttpError) as refused:
        decode_start(b'{"input":"x","metadata":{"a":"%b"}}' % text.encode(), 1000)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b"", "invalid_frame", None),
        (b'{"input":"x","nope":1}', "invalid_frame", None),
        (b'{"input":"x","id":"1"}', "invalid_frame", "id"),
        (b'{"input":[{"kind":"nope"}]}', "invalid_request", "input[0].kind"),
        (b'{"input":"x","metadata":' + b'{"a":' * 40 + b"1" + b"}" * 41, "invalid_frame", None),
    ],
)
def test_a_start_is_refused_like_a_frame(body: bytes, code: str, path: str | None) -> None:
    """The codes and paths are those of a frame's error; but only a frame may have an `id`."""
    with pytest.raises(ApiError) as refused:
        decode_start(body, 10_000)
    assert (refused.value.code, refused.value.body.path) == (code, path)


def test_a_request_can_be_built_from_fields() -> None:
    """It is validated like any other request."""
    assert convert_request(p.TurnAttach, {"turn": "t", "epoch": 5, "after": 3}).after == 3
    with pytest.raises(ApiError):
        convert_request(p.TurnAttach, {"turn": "t" * 65})
