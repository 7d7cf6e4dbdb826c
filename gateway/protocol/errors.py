"""The table of error codes and close codes, and the exception that carries a code to a client.

No message here, and no `ApiError`, ever contains a provider's raw body, a key, a host name or a stack trace.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, NamedTuple

from msgspec import Struct

from gateway.protocol.plain_text import escape_invisible
from providers.base import ErrorCode as ProviderErrorCode
from providers.base import too_long

ErrorCode = (
    ProviderErrorCode
    | Literal[
        "invalid_frame",
        "unauthenticated",
        "forbidden",
        "forbidden_origin",
        "not_found",
        "conflict",
        "gone",
        "busy",
        "too_large",
        "rate_limited",
        "budget_exceeded",
        "owner_lost",
        "store_unavailable",
        "shutting_down",
        "internal",
    ]
)


class ErrorSpec(NamedTuple):
    """The default message, retryability and HTTP status of an error code."""

    message: str
    retryable: bool
    http_status: int


CODES: dict[ErrorCode, ErrorSpec] = {
    "invalid_frame": ErrorSpec("Invalid frame. Check its type and fields against the protocol.", False, 400),
    "invalid_request": ErrorSpec("A field has an invalid value. Correct the field.", False, 400),
    "unauthenticated": ErrorSpec("The credential is missing or no longer valid. Sign in again.", False, 401),
    "forbidden": ErrorSpec("The credential doesn't allow this request. Use another credential.", False, 403),
    "forbidden_origin": ErrorSpec(
        "Pages of this origin may not use this gateway. Add the origin to TURNWIRE_ALLOWED_ORIGINS.", False, 403
    ),
    "not_found": ErrorSpec("Not found. Check the id.", False, 404),
    "conflict": ErrorSpec("This id was already used for a different request. Use a new id.", False, 409),
    "gone": ErrorSpec("The events of this turn are no longer kept. Read the stored message.", False, 410),
    "busy": ErrorSpec("The conversation has a running turn. Wait for it to end, or cancel it.", True, 409),
    "too_large": ErrorSpec("The request is too large. Send less.", False, 413),
    "rate_limited": ErrorSpec("Too many requests. Wait a moment, then try again.", True, 429),
    "budget_exceeded": ErrorSpec("The budget is used up. Try again after it is renewed.", False, 429),
    "model_not_found": ErrorSpec("Model not found. Send models.list to get the models.", False, 404),
    "unsupported": ErrorSpec(
        "The model doesn't support this request. Choose another model, or change the request.", False, 400
    ),
    "context_length_exceeded": ErrorSpec(too_long(), False, 400),
    "content_filtered": ErrorSpec("The provider's content filter refused the input. Rephrase it.", False, 400),
    "upstream_auth": ErrorSpec("The provider rejected the gateway's key. Ask the operator to check it.", False, 502),
    "upstream_rate_limited": ErrorSpec("The provider's rate limit is reached. Try again later.", True, 503),
    "upstream_overloaded": ErrorSpec("The provider is overloaded. Try again later.", True, 503),
    "upstream_timeout": ErrorSpec("The provider didn't respond in time. Try again.", True, 504),
    "upstream_error": ErrorSpec("The provider failed. Try again, or choose another model.", True, 502),
    "upstream_incomplete": ErrorSpec("The provider's answer ended too early. Try again.", True, 502),
    "owner_lost": ErrorSpec("The instance that ran this turn is gone. Start a new turn.", True, 503),
    "store_unavailable": ErrorSpec("The store can't be reached. Try again in a moment.", True, 503),
    "shutting_down": ErrorSpec("This instance is shutting down. Connect again.", True, 503),
    "internal": ErrorSpec("The gateway failed. Try again, and tell the operator if it keeps failing.", True, 500),
}


class CloseCode(IntEnum):
    """The reasons to close a socket. After 44xx, a client must change something before it reconnects."""

    NORMAL = 1000
    UNSUPPORTED_DATA = 1003
    INVALID_UTF8 = 1007
    TOO_LARGE = 1009
    INTERNAL = 1011
    PROTOCOL_BROKEN = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    NO_AUTH_IN_TIME = 4408
    TOO_MANY_CONNECTIONS = 4409
    TOO_SLOW = 4501
    LIFETIME_REACHED = 4502
    DRAINING = 4503


class ErrorBody(Struct, frozen=True, omit_defaults=True):
    """An error as a client receives it. `path` names the field that is wrong."""

    code: ErrorCode
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    path: str | None = None
    stored_message: str | None = None

    @property
    def retry_after(self) -> str | None:
        """The value of the header `Retry-After`, in whole seconds, or None if the time to retry isn't known."""
        return None if self.retry_after_ms is None else str(-(-self.retry_after_ms // 1000))


class ApiError(Exception):
    """A request or a turn failed with a code from `CODES`. `message` replaces the default message."""

    def __init__(
        self,
        code: ErrorCode,
        message: str | None = None,
        *,
        retryable: bool | None = None,
        retry_after_ms: int | None = None,
        path: str | None = None,
        stored_message: str | None = None,
    ) -> None:
        spec = CODES[code]
        self.body = ErrorBody(
            code=code,
            message=escape_invisible((message or spec.message)[:MESSAGE_CHARS_MAX])[:MESSAGE_CHARS_MAX],
            retryable=spec.retryable if retryable is None else retryable,
            retry_after_ms=retry_after_ms,
            path=None if path is None else path[:PATH_CHARS_MAX],
            stored_message=stored_message,
        )
        super().__init__(f"{code}: {self.body.message}")

    @property
    def code(self) -> ErrorCode:
        """The error's code."""
        return self.body.code


_NOT_FOUND = {
    "before": "The item in `before` was not found. Send the `next` of the previous page.",
    "head": "The message in `head` was not found. Check the id.",
    "parent": "The message in `parent` was not found. Check the id.",
    "part": "This part was not found or has no data. Check the message id and the part number.",
}


def not_found(field: str, name: str = "") -> ApiError:
    """Return the error for an id that doesn't exist for the user.

    `field` is the name of the request's field. `name` is the id, if the message should include it.
    """
    message = _NOT_FOUND.get(field) or f"{' '.join(filter(None, (field.capitalize(), name)))} not found. Check the id."
    return ApiError("not_found", message, path=field)


def over_limit(subject: str, size: int, bytes_max: int, path: str | None = None) -> ApiError:
    """Return the error for a value in a request that exceeds its limit in bytes. `subject` names the value."""
    return ApiError("too_large", f"{subject} has {size} bytes; the limit is {bytes_max}. Shorten it.", path=path)


MESSAGE_CHARS_MAX = 500
PATH_CHARS_MAX = 200
