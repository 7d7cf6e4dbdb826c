"""The table of error codes and close codes, and the exception that carries a code to a client.

Nothing here, and nothing raised as `ApiError`, ever holds a provider's raw body, a key, a host name or a trace.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, NamedTuple, get_args

from msgspec import Struct

from gateway.protocol.plain_text import escaped
from providers.base import ErrorCode as ProviderErrorCode
from providers.base import ProviderError

ErrorCode = (
    ProviderErrorCode
    | Literal[
        "invalid_frame",
        "unauthenticated",
        "forbidden",
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


class CodeFacts(NamedTuple):
    """The default message, retryability and HTTP status of an error code."""

    message: str
    retryable: bool
    http_status: int


CODES: dict[ErrorCode, CodeFacts] = {
    "invalid_frame": CodeFacts("The frame can't be read. Check it against the protocol.", False, 400),
    "invalid_request": CodeFacts("A field has a value that can't be used. Correct it.", False, 400),
    "unauthenticated": CodeFacts("Credentials are missing or no longer valid. Sign in again.", False, 401),
    "forbidden": CodeFacts("These credentials don't allow that. Use others.", False, 403),
    "not_found": CodeFacts("There is no such thing here. Check the id.", False, 404),
    "conflict": CodeFacts("This id was used for another request. Use a new id.", False, 409),
    "gone": CodeFacts("These events are no longer kept. Read the stored message.", False, 410),
    "busy": CodeFacts("The conversation has a running turn. Wait for its end, or stop it.", True, 409),
    "too_large": CodeFacts("That is more than may be sent at once. Send less.", False, 413),
    "rate_limited": CodeFacts("Too many requests. Wait a moment and try again.", True, 429),
    "budget_exceeded": CodeFacts("The budget is used up. Try again when it is renewed.", False, 429),
    "model_not_found": CodeFacts("There is no such model. Ask models.list which there are.", False, 404),
    "unsupported": CodeFacts("The model can't take that. Choose another model, or leave it out.", False, 400),
    "context_length_exceeded": CodeFacts(
        "The conversation is too long for this model. Shorten it, or choose a model with a larger window.",
        False,
        400,
    ),
    "content_filtered": CodeFacts("The provider's content filter refused. Rephrase the input.", False, 400),
    "upstream_auth": CodeFacts("The provider refuses the gateway's key. The operator must check it.", False, 502),
    "upstream_rate_limited": CodeFacts("The provider limits the rate. Try again later.", True, 503),
    "upstream_overloaded": CodeFacts("The provider is overloaded. Try again later.", True, 503),
    "upstream_timeout": CodeFacts("The provider didn't answer in time. Try again.", True, 504),
    "upstream_error": CodeFacts("The provider failed. Try again, or choose another model.", True, 502),
    "upstream_incomplete": CodeFacts("The provider's answer broke off. Try again.", True, 502),
    "owner_lost": CodeFacts("The instance that ran the turn is gone. Start the turn again.", True, 503),
    "store_unavailable": CodeFacts("The store can't be reached. Try again soon.", True, 503),
    "shutting_down": CodeFacts("This instance is shutting down. Connect again.", True, 503),
    "internal": CodeFacts("The gateway failed. Try again; if it stays, tell the operator.", True, 500),
}

PROVIDER_CODES: frozenset[str] = frozenset(get_args(ProviderErrorCode))


class CloseCode(IntEnum):
    """The reasons to close a socket. After 44xx a client must not reconnect unchanged; after 45xx it may."""

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


class ApiError(Exception):
    """A request or a turn failed with a code of the table. `message` replaces the table's message."""

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
        facts = CODES[code]
        self.body = ErrorBody(
            code=code,
            message=escaped((message or facts.message)[:MESSAGE_CHARS_MAX])[:MESSAGE_CHARS_MAX],
            retryable=facts.retryable if retryable is None else retryable,
            retry_after_ms=retry_after_ms,
            path=None if path is None else path[:PATH_CHARS_MAX],
            stored_message=stored_message,
        )
        super().__init__(f"{code}: {self.body.message}")

    @property
    def code(self) -> ErrorCode:
        """The error's code."""
        return self.body.code

    @classmethod
    def from_provider(cls, error: ProviderError) -> ApiError:
        """Return the API error for a provider's failure.

        The provider's raw error isn't included; it stays in the log.
        """
        return cls(
            error.code,
            error.message,
            retryable=error.retryable,
            retry_after_ms=error.retry_after_ms,
        )


MESSAGE_CHARS_MAX = 500
PATH_CHARS_MAX = 200
