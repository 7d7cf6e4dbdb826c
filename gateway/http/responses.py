"""HTTP responses: JSON from the gateway's own encoder, and errors with the status that `CODES` has for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.dialects.base import Dialect
from gateway.protocol.codec import JSON
from gateway.protocol.errors import CODES, ApiError

NO_STORE = {"cache-control": "no-store"}
JSONL_TYPE = "application/jsonl"
CHUNK_BYTES = 32 * 1024


class BytesResponse(Response):
    """A response that sends its body in pieces, so that a slow client has a write deadline for each piece."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, then run its background task."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = memoryview(self.body)
        for start in range(0, max(len(body), 1), CHUNK_BYTES):
            chunk = bytes(body[start : start + CHUNK_BYTES])
            await send({"type": "http.response.body", "body": chunk, "more_body": start + CHUNK_BYTES < len(body)})
        if self.background is not None:
            await self.background()


class JsonResponse(BytesResponse):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return `content` encoded as JSON."""
        return JSON.encode(content)


class HttpError(ApiError):
    """An error with an HTTP status of its own, such as 405, 406, 413 or 415."""

    def __init__(self, status: int, message: str, *, path: str | None = None) -> None:
        super().__init__("too_large" if status == 413 else "invalid_request", message, path=path)
        self.status = status


def error_response(
    error: ApiError, headers: Mapping[str, str] | None = None, dialect: Dialect | None = None
) -> BytesResponse:
    """Return the response `{"error": …}`, with `Retry-After` (in seconds) if the time to retry is known.

    With `dialect`, the body has its shape, and headers tell its SDKs whether and when to retry.
    """
    status = error.status if isinstance(error, HttpError) else CODES[error.code].http_status
    all_headers = {**NO_STORE, **(headers or {})}
    if error.body.retry_after is not None:
        all_headers["retry-after"] = error.body.retry_after
    if error.code == "shutting_down":
        all_headers["connection"] = "close"  # so that the retry reaches another instance
    if error.code == "forbidden_origin":
        all_headers["access-control-allow-origin"] = "*"  # the page must be able to read it
    if status == 401:
        all_headers["www-authenticate"] = "Bearer"
    if dialect is not None:
        all_headers["x-should-retry"] = "true" if error.body.retryable else "false"
        if error.body.retry_after_ms is not None:
            all_headers["retry-after-ms"] = str(error.body.retry_after_ms)
        shaped = dialect.refuse(error.body, status)
        return BytesResponse(shaped.body, shaped.status, {**all_headers, **shaped.headers}, shaped.media_type)
    return JsonResponse({"error": error.body}, status, all_headers)
