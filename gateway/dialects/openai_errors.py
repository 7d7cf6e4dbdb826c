"""Errors in the shape of OpenAI's APIs, for the dialects Chat Completions and Responses."""

from __future__ import annotations

from typing import Any, Final

from gateway.dialects.base import Shaped, encode_json
from gateway.protocol.errors import CODES, ErrorBody

ERROR_TYPES: Final[dict[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
"""The type of an error by its status. Other errors of the client are `invalid_request_error`, the rest `server_error`."""
ERROR_CODES: Final[dict[str, str]] = {
    "unauthenticated": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
    "budget_exceeded": "insufficient_quota",
    "content_filtered": "content_filter",
    "unsupported": "unsupported_parameter",
}
"""The codes of those of our errors that OpenAI has a code for. Other errors keep our code."""


def error_object(error: ErrorBody, status: int | None = None) -> dict[str, Any]:
    """Return an error. Without `status`, it has the status that our own protocol has for it."""
    status = CODES[error.code].http_status if status is None else status
    kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = ERROR_CODES.get(error.code, error.code)
    if code == "not_found" and error.path == "previous_response_id":
        code = "previous_response_not_found"  # clients send the whole context then
    return {"message": error.message, "type": kind, "param": error.path, "code": code}


def refuse(error: ErrorBody, status: int) -> Shaped:
    """Return the answer of a refused or failed request."""
    return Shaped(status, encode_json({"error": error_object(error, status)}))
