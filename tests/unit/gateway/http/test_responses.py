"""Tests of responses: the status and headers of errors, bodies sent in pieces, and JSON."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.http.responses import CHUNK_BYTES, BytesResponse, HttpError, JsonResponse, error_response
from gateway.protocol.codec import JSON
from gateway.protocol.errors import CODES, ApiError, ErrorCode
from gateway.protocol.results import Pong


@pytest.mark.parametrize("code", CODES)
def test_an_error_has_the_status_of_the_table(code: ErrorCode) -> None:
    """The response must not be cached."""
    answer = error_response(ApiError(code))
    assert answer.status_code == CODES[code].http_status
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers.get("www-authenticate") == ("Bearer" if answer.status_code == 401 else None)


@pytest.mark.parametrize(("retry_after_ms", "header"), [(None, None), (1, "1"), (1000, "1"), (1001, "2")])
def test_an_error_has_a_retry_after_header(retry_after_ms: int | None, header: str | None) -> None:
    """The time is in whole seconds, rounded up. Without a time to retry, the header is absent."""
    answer = error_response(ApiError("rate_limited", retry_after_ms=retry_after_ms))
    assert answer.headers.get("retry-after") == header


def test_a_drain_closes_the_connection() -> None:
    """So that the client's retry reaches another instance."""
    assert error_response(ApiError("shutting_down")).headers["connection"] == "close"
    assert "connection" not in error_response(ApiError("store_unavailable")).headers


def test_http_specific_errors_keep_their_status() -> None:
    """The body has a code of the table."""
    assert (error_response(HttpError(415, "No.")).status_code, HttpError(415, "No.").code) == (415, "invalid_request")
    assert HttpError(413, "No.").code == "too_large"
    assert error_response(HttpError(405, "No."), {"allow": "GET"}).headers["allow"] == "GET"


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
async def test_a_body_is_sent_in_pieces(size: int) -> None:
    """Each piece is small, the last one is marked, and together they are the whole body."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await BytesResponse(b"x" * size)({"type": "http"}, None, send)  # type: ignore[arg-type]
    bodies = [message["body"] for message in sent[1:]]
    assert b"".join(bodies) == b"x" * size
    assert max(map(len, bodies)) <= CHUNK_BYTES
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(bodies) - 1) + [False]
    assert dict(sent[0]["headers"])[b"content-length"] == str(size).encode()


def test_json_is_encoded_by_the_gateways_codec() -> None:
    """The encoder is the same as for the socket."""
    assert JsonResponse({"a": Pong(1.5)}).body == JSON.encode({"a": Pong(1.5)})
