"""Convert a provider's failure (a response, an event or an exception) to one of our errors.

The message is our own text and says what to do next. Of the provider's answer, only the status, the finish
reason and the names of a type, a code and a parameter are logged, never a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import httpx2
from jiter import from_json

from providers.base import ErrorCode, ProviderError
from providers.endpoint import Endpoint
from providers.errors.retry_headers import retry_after_ms
from providers.errors.table import CHECK_CREDENTIALS, CHECK_KEY, RULES, TRY_AGAIN
from providers.errors.words import NAME_CHARS_MAX, TEXT_CHARS_MAX, Reason, redact
from providers.http.transport_errors import ERROR_BODY_BYTES_MAX, Stalled

_UNREACHABLE: Final = (httpx2.ConnectTimeout, httpx2.ConnectError, httpx2.ProxyError, httpx2.UnsupportedProtocol)
_FINAL_CODES: Final[frozenset[ErrorCode]] = frozenset({"model_not_found", "context_length_exceeded"})
"""The codes of failures that a retry of the same request can't avoid, whatever the provider says."""
_WORD: Final = re.compile(r"[A-Za-z_]{1,40}")
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.\[\]-]{0,60}")


class Failures:
    """The conversion for one endpoint. Messages contain its title, the names of its keys and its hint; secrets are masked."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._title = endpoint.title
        self._keys = " or ".join(endpoint.keys) or "the key"
        self._hint = endpoint.hint
        self._secrets = endpoint.secrets

    def from_response(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Return the error for an HTTP response. `body` may be truncated."""
        try:
            reason = Reason.parse(_decode_start(body[:ERROR_BODY_BYTES_MAX]))
            error = self._match(status, reason)
        except (ValueError, RecursionError):
            error = self._match(status, Reason(text=body[:TEXT_CHARS_MAX].decode("utf-8", "replace")))
            error.detail = f"{status} with a body of {len(body)} bytes that isn't JSON"
        error.retry_after_ms = retry_after_ms(headers) or error.retry_after_ms
        should_retry = headers.get("x-should-retry")
        if should_retry == "false" or (should_retry == "true" and error.code not in _FINAL_CODES):
            error.retryable = should_retry == "true"
        return error

    def from_event(self, body: object) -> ProviderError:
        """Return the error for `body`: decoded JSON of any shape, from a stream or a response with status 200."""
        reason = Reason.parse(body)
        return self._match(reason.status(), reason)

    def from_exception(self, error: Exception) -> ProviderError:
        """Return the error for an exception of an SDK or of the transport."""
        response = getattr(error, "response", None)
        if isinstance(response, httpx2.Response):
            return self.from_response(response.status_code, response.headers, response.content)
        cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__ or error
        if isinstance(cause, Stalled) and cause.alive:
            message = "{title} kept its connection alive but sent no part of its answer for too long. Try again."
            return self._error("upstream_timeout", message, cause)
        if isinstance(cause, Stalled) and cause.started:
            return self._error(
                "upstream_timeout", "{title} stopped sending in the middle of its answer. Try again.", cause
            )
        if isinstance(cause, _UNREACHABLE):
            message = "{title} can't be reached. Check the network and the base URL where the gateway runs."
            return self._error("upstream_error", message, cause)
        if isinstance(cause, httpx2.TimeoutException):
            return self._error("upstream_timeout", "{title} took too long to begin its answer. Try again.", cause)
        return self._error("upstream_error", "The connection to {title} broke. Try again.", cause)

    def no_credentials(self, error: Exception) -> ProviderError:
        """Return the error for `error`, raised by a cloud's library that found no valid credentials."""
        return self._error("upstream_auth", CHECK_CREDENTIALS, error, retryable=False)

    def incomplete(self, detail: object = "the stream ended without a finish reason") -> ProviderError:
        """Return the error for a stream that ended too early. `detail` is for the log."""
        return self._error("upstream_incomplete", "{title} ended its answer too early. Try again.", detail)

    def no_finish_reason(self, word: str) -> ProviderError:
        """Return the error for an answer that ended without a known finish reason. `word` is the unknown one, if any."""
        if not word:
            return self.incomplete()
        return self.incomplete(f"unknown finish reason {word if _WORD.fullmatch(word) else '(not a word)'}")

    def unreadable(self, detail: object) -> ProviderError:
        """Return the error for a stream that isn't valid in its dialect. `detail` is for the log."""
        detail = f"{len(detail)} bytes that aren't an event" if isinstance(detail, bytes) else detail
        return self._error("upstream_error", "{title} sent an answer that can't be read. Try again.", detail)

    def too_large(self, detail: object) -> ProviderError:
        """Return the error for an event that is too large, such as an image. A retry would get it again."""
        message = "{title} sent more at once than can be read. Ask for less, for example for a smaller image."
        return self._error("upstream_error", message, detail, retryable=False)

    def from_documents(self, documents: list[Any]) -> ProviderError | None:
        """Return the first error in `documents`, or None. Some hosts send an error without an `error` field."""
        for body in documents:
            reason = Reason.parse(body)
            if isinstance(body, dict) and reason.text and (reason.type or reason.code or body.get("object") == "error"):
                return self._match(reason.status(), reason)
        return None

    def from_finish_reason(self, reason: str) -> ProviderError:
        """Return the error for a finish reason that reports a failure."""
        reason = reason[:NAME_CHARS_MAX]
        if re.search("insufficient|overload|capacity", reason.lower()):
            return self._error("upstream_overloaded", "{title} is overloaded. " + TRY_AGAIN, self._name(reason))
        return self.from_event({"code": reason, "message": "the finish reason of the answer"})

    def _match(self, status: int, reason: Reason) -> ProviderError:
        words = reason.words()
        # A 429 whose body gives a retry time is temporary, even if it says "quota": for some providers, that word
        # means a limit per minute.
        is_temporary = status == 429 and reason.retry_ms is not None
        rule = next(
            rule
            for rule in RULES
            if not (is_temporary and rule.code == "upstream_rate_limited" and not rule.retryable)
            and (rule.statuses is None or status in rule.statuses)
            and (rule.words is None or re.search(rule.words, words))
        )
        type_, code, param = (self._name(name) for name in (reason.type, reason.code, reason.param))
        # The text may quote the request, so no word of it is logged.
        error = self._error(
            rule.code,
            rule.message,
            " ".join(filter(None, (str(status), type_, code, param))),
            retryable=rule.retryable,
            param=f" ({param})" if param else "",
        )
        error.provider_text = redact(reason.text, self._secrets)
        error.retry_after_ms = reason.retry_ms
        return error

    def _name(self, name: str) -> str:
        """Return the name of a type, a code or a parameter, or "" if it isn't a name or contains a secret."""
        return name if _NAME.fullmatch(name) and redact(name, self._secrets) == name else ""

    def _error(
        self, code: ErrorCode, message: str, detail: object, *, retryable: bool = True, param: str = ""
    ) -> ProviderError:
        sentence = message.format(title=self._title, keys=self._keys, param=param)
        return ProviderError(
            code,
            f"{sentence} {self._hint}" if self._hint and message in (CHECK_KEY, CHECK_CREDENTIALS) else sentence,
            retryable=retryable,
            detail=redact(str(detail), self._secrets),
        )


def _decode_start(body: bytes) -> object:
    """Return a JSON document, or what there is of a truncated one. Raise `ValueError` or `RecursionError`."""
    try:
        return json.loads(body)
    except ValueError:
        return from_json(body, partial_mode="trailing-strings")
