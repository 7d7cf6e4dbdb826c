"""What a provider's failure means: an answer, an event or an exception as one of our errors.

The message is ours and says what to do next. The log gets names and numbers, and none of the provider's words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx2
from jiter import from_json

from providers.base import ErrorCode, ProviderError
from providers.errors.table import CHECK_KEY, RULES, TRY_AGAIN
from providers.errors.words import NAME_CHARS_MAX, TEXT_CHARS_MAX, Reason, known_words, quiet
from providers.http.body import REFUSAL_BYTES_MAX, Stalled
from providers.route import Endpoint

WAIT_MAX_MS: Final = 86_400_000
"""A longer wait is said to be a day, and is too long for everybody."""
_UNREACHED: Final = (
    httpx2.ConnectTimeout,
    httpx2.ConnectError,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
_ABOUT_REQUESTS: Final[frozenset[ErrorCode]] = frozenset({"invalid_request", "unsupported"})
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.\[\]-]{0,60}")


class Failures:
    """The table, for one endpoint: its title, the names of its keys, and the keys that must not be shown."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._title = endpoint.title
        self._keys = " or ".join(endpoint.keys) or "its key"
        self._hint = endpoint.hint
        self._secrets = endpoint.secrets

    def of_answer(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The failure that an HTTP answer is; `body` may be its beginning."""
        try:
            reason = Reason.read(_begun(body[:REFUSAL_BYTES_MAX]))
            error = self._of(status, reason)
        except (ValueError, RecursionError):
            error = self._of(status, Reason(text=body[:TEXT_CHARS_MAX].decode("utf-8", "replace")))
            error.detail = f"{status} with a body of {len(body)} bytes that is no JSON"
        error.retry_after_ms = retry_after_ms(headers) or error.retry_after_ms
        if (again := headers.get("x-should-retry")) in ("true", "false"):
            error.retryable = again == "true"
        return error

    def of_event(self, body: object) -> ProviderError:
        """The failure that stands in a stream, or in an answer with status 200: decoded JSON of any shape."""
        reason = Reason.read(body)
        return self._of(reason.status(), reason)

    def of_exception(self, error: Exception) -> ProviderError:
        """The failure behind an exception of an SDK, or of the transport."""
        response = getattr(error, "response", None)
        if isinstance(response, httpx2.Response):
            return self.of_answer(response.status_code, response.headers, response.content)
        cause = error if isinstance(error, httpx2.HTTPError) else error.__cause__ or error
        if isinstance(cause, Stalled) and cause.started:
            return self._error("upstream_timeout", "{title} stopped sending in the middle: try again.", cause)
        if isinstance(cause, _UNREACHED):
            message = "{title} can't be reached: check the network and the base URL where the gateway runs."
            return self._error("upstream_error", message, cause)
        if isinstance(cause, httpx2.TimeoutException):
            return self._error("upstream_timeout", "{title} took too long to begin its answer: try again.", cause)
        return self._error("upstream_error", "The connection to {title} broke: try again.", cause)

    def no_credentials(self, error: Exception) -> ProviderError:
        """The failure of a library that found no credentials to sign with."""
        return self._error("upstream_auth", CHECK_KEY, error, retryable=False)

    def incomplete(self, detail: object = "the stream ended without saying why") -> ProviderError:
        """The failure of a stream that ended too early."""
        return self._error("upstream_incomplete", "{title} broke off its answer in the middle: try again.", detail)

    def unreadable(self, detail: object) -> ProviderError:
        """The failure of a stream that doesn't speak its dialect."""
        detail = f"{len(detail)} bytes that are no event" if isinstance(detail, bytes) else detail
        return self._error("upstream_error", "{title} answered with something that can't be read: try again.", detail)

    def bare(self, documents: list[Any]) -> ProviderError | None:
        """The failure in an event that is no chunk, if it is one: some hosts say it without the word error."""
        for said in documents:
            reason = Reason.read(said)
            if isinstance(said, dict) and reason.text and (reason.type or reason.code or said.get("object") == "error"):
                return self._of(reason.status(), reason)
        return None

    def of_finish(self, reason: str) -> ProviderError:
        """The failure that a finish reason tells of."""
        reason = reason[:NAME_CHARS_MAX]
        if re.search("insufficient|overload|capacity", reason.lower()):
            return self._error("upstream_overloaded", "{title} is overloaded: " + TRY_AGAIN, reason)
        return self.of_event({"code": reason, "message": "the finish reason of the answer"})

    def _of(self, status: int, reason: Reason) -> ProviderError:
        words = reason.words()
        # Who says when to come back wants it: some say "quota" for a minute's limit too.
        again = status == 429 and reason.retry_ms is not None
        rule = next(
            rule
            for rule in RULES
            if not (again and rule.code == "upstream_rate_limited" and not rule.retryable)
            and (rule.statuses is None or status in rule.statuses)
            and (rule.words is None or re.search(rule.words, words))
        )
        type_, code, param = (self._name(name) for name in (reason.type, reason.code, reason.param))
        # Of what is wrong with a request only its names and numbers are for the log.
        says = known_words(reason.text) if rule.code in _ABOUT_REQUESTS else ""
        error = self._error(
            rule.code,
            rule.message,
            " ".join(filter(None, (str(status), type_, code, param, says and f"says: {says}"))),
            retryable=rule.retryable,
            param=f" ({param})" if param else "",
        )
        error.said = quiet(reason.text, self._secrets)
        error.retry_after_ms = reason.retry_ms
        return error

    def _name(self, given: str) -> str:
        """The name of a type, a code or a parameter, if it is one and gives nothing away."""
        return given if _NAME.fullmatch(given) and quiet(given, self._secrets) == given else ""

    def _error(
        self, code: ErrorCode, message: str, detail: object, *, retryable: bool = True, param: str = ""
    ) -> ProviderError:
        sentence = message.format(title=self._title, keys=self._keys, param=param)
        return ProviderError(
            code,
            f"{sentence} {self._hint}" if message is CHECK_KEY and self._hint else sentence,
            retryable=retryable,
            detail=quiet(str(detail), self._secrets),
        )


def _begun(body: bytes) -> object:
    """A JSON document, or as much as there is of one that was cut. Raises `ValueError`, `RecursionError`."""
    try:
        return json.loads(body)
    except ValueError:
        return from_json(body, partial_mode="trailing-strings")


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """How long to wait, as the headers say it: milliseconds, seconds or a date. Zero says nothing."""
    try:
        milliseconds = float(headers.get("retry-after-ms", 0)) or float(headers.get("retry-after", 0)) * 1000
    except ValueError:
        milliseconds = _until(headers.get("retry-after", ""), headers.get("date", ""))
    return round(min(milliseconds, WAIT_MAX_MS)) if milliseconds > 0 else None


def _until(when: str, now: str) -> float:
    """Milliseconds between two HTTP dates; the provider's own clock tells now."""
    try:
        return (parsedate_to_datetime(when) - parsedate_to_datetime(now)).total_seconds() * 1000
    except (TypeError, ValueError, OverflowError):
        return 0
