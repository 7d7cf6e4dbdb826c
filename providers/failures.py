"""What a provider's failure means: an answer, an event or an exception as one of our errors.

The message is ours and says what to do next. The provider's own words go to the log, without keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

import httpx2

from providers.base import ErrorCode, ProviderError
from providers.failure_table import CHECK_KEY, RULES, STATUS_OF_TYPE, TRY_AGAIN
from providers.route import Endpoint
from providers.transport import Stalled

DETAIL_CHARS_MAX: Final = 500


_KEYLIKE: Final = re.compile(r"(?i)(bearer\s+|\b(?:sk|pk|rk|gsk|xai|key|ant|aiza|req)[-_])[\w.*-]{4,}")
_UNREACHED: Final = (
    httpx2.ConnectTimeout,
    httpx2.ConnectError,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
_PARAM: Final = re.compile(r"[A-Za-z][\w.\[\]]{0,60}")


class Reason(NamedTuple):
    """What a body says of its failure, in whatever shape."""

    type: str = ""
    code: str = ""
    text: str = ""
    param: str = ""

    @classmethod
    def read(cls, body: object) -> Reason:
        """Out of any shape: an object or text under `error`, a list of one, fields at the top."""
        while isinstance(body, list) and body:
            body = body[0]
        if not isinstance(body, Mapping):
            return cls(text=str(body or ""))
        inner = body.get("error", body.get("errors"))
        if isinstance(inner, list) and inner:
            inner = inner[0]
        if isinstance(inner, str):
            inner = {"message": inner}
        said = inner if isinstance(inner, Mapping) else body
        text = next((said[name] for name in _TEXT_FIELDS if said.get(name)), "")
        return cls(
            type=str(said.get("type") or said.get("status") or ""),
            code=str(next((said[name] for name in ("code", "error_code") if said.get(name)), "")),
            text=text if isinstance(text, str) else json.dumps(text),
            param=str(said.get("param") or ""),
        )

    def status(self) -> int:
        """The HTTP status that the body itself names, or 0."""
        for name in (self.code, self.type):
            if name.isdecimal() and 400 <= int(name) <= 599:
                return int(name)
            if name.lower() in STATUS_OF_TYPE:
                return STATUS_OF_TYPE[name.lower()]
        return 0


_TEXT_FIELDS: Final = ("message", "msg", "error_msg", "detail", "raw")


class Failures:
    """The table, for one endpoint: its title, the names of its keys, and the keys that must not be shown."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._title = endpoint.title
        self._keys = " or ".join(endpoint.keys) or "its key"
        self._hint = endpoint.hint
        self._secrets = endpoint.secrets

    def of_answer(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The failure that an HTTP answer is."""
        try:
            reason = Reason.read(json.loads(body))
        except ValueError:
            reason = Reason(text=body[:DETAIL_CHARS_MAX].decode("utf-8", "replace"))
        error = self._of(status, reason)
        error.retry_after_ms = retry_after_ms(headers)
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
        return self._error("upstream_error", "{title} answered with something that can't be read: try again.", detail)

    def overloaded(self, detail: object) -> ProviderError:
        """The failure of a model that ran out of its provider's resources."""
        return self._error("upstream_overloaded", "{title} is overloaded: " + TRY_AGAIN, detail)

    def _of(self, status: int, reason: Reason) -> ProviderError:
        words = " ".join((reason.type, reason.code, reason.text)).strip().lower()
        rule = next(
            rule
            for rule in RULES
            if (rule.statuses is None or status in rule.statuses)
            and (rule.words is None or re.search(rule.words, words))
        )
        param = f" ({reason.param})" if _PARAM.fullmatch(reason.param) else ""
        detail = f"{status} {reason.type} {reason.code} {reason.text}"
        return self._error(rule.code, rule.message, detail, retryable=rule.retryable, param=param)

    def _error(
        self, code: ErrorCode, message: str, detail: object, *, retryable: bool = True, param: str = ""
    ) -> ProviderError:
        said = str(detail)
        for secret in self._secrets:
            said = said.replace(secret, "***")
        sentence = message.format(title=self._title, keys=self._keys, param=param)
        return ProviderError(
            code,
            f"{sentence} {self._hint}" if message is CHECK_KEY and self._hint else sentence,
            retryable=retryable,
            detail=_KEYLIKE.sub(r"\1***", said)[:DETAIL_CHARS_MAX],
        )


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """How long to wait, as the headers say it: milliseconds, seconds or a date. Zero says nothing."""
    try:
        milliseconds = float(headers.get("retry-after-ms", 0)) or float(headers.get("retry-after", 0)) * 1000
    except ValueError:
        milliseconds = _until(headers.get("retry-after", ""), headers.get("date", ""))
    return round(milliseconds) if 0 < milliseconds < 86_400_000 else None


def _until(when: str, now: str) -> float:
    """Milliseconds between two HTTP dates; the provider's own clock tells now."""
    try:
        return (parsedate_to_datetime(when) - parsedate_to_datetime(now)).total_seconds() * 1000
    except (TypeError, ValueError):
        return 0
