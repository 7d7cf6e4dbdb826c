"""Errors in the shape of Anthropic's API."""

from __future__ import annotations

from typing import Any, Final

from gateway.dialects.base import Shaped, encode_json
from gateway.protocol.errors import CODES, ErrorBody

ERROR_TYPES: Final[dict[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""The type of an error by its status. Other errors of the client are `invalid_request_error`, the rest `api_error`."""
STATUSES: Final[dict[str, int]] = {"upstream_overloaded": 529, "upstream_rate_limited": 529}
"""The status of those errors that have another one at Anthropic."""
TOO_LONG: Final = "prompt is too long: "
"""The beginning of the message by which clients, such as Claude Code, see that they must shorten the context."""


NO_THREADS: Final = {"details": {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}}
"""The fields of an error after which Anthropic's SDK sends all messages, and not only those that a server doesn't have."""


def error_body(error: ErrorBody, status: int | None = None) -> dict[str, Any]:
    """Return an error. Without `status`, it has the status that our own protocol has for it.

    The path of a field is at the beginning of the message, because there is no field for it.
    """
    status = CODES[error.code].http_status if status is None else status
    kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    message = error.message if error.path is None else f"{error.path}: {error.message}"
    if error.code == "context_length_exceeded":
        message = TOO_LONG + message
    found = {"type": kind, "message": message}
    return {"type": "error", "error": found | NO_THREADS if error.path == "thread" else found}


def refuse(error: ErrorBody, status: int) -> Shaped:
    """Return the answer of a refused or failed request."""
    status = STATUSES.get(error.code, status)
    return Shaped(status, encode_json(error_body(error, status)))
