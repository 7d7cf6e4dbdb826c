"""Read from a response's headers how long to wait before the next request. This module does no I/O.

Each header is read separately, so one that can't be read doesn't hide another.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

WAIT_MAX_MS: Final = 86_400_000
"""The maximum wait that is taken from the headers: one day. No caller waits that long."""
VALUE_CHARS_MAX: Final = 200
CLOCKS_APART_MAX_S: Final = 60.0
EPOCH_S_MIN: Final = 1_000_000_000
"""A number of seconds that isn't less than this is a time since 1970, not a wait. In ms, the bound is a thousand times this."""

_NUMBER: Final = re.compile(r"\+?[0-9]{1,18}(?:\.[0-9]{0,18})?(?:e[+-]?[0-9]{1,3})?|\.[0-9]{1,18}")
_SPAN: Final = re.compile(
    r"(?:\d{1,9}(?:\.\d{1,9})?\s?(?:ms|milliseconds?|h|hours?|hrs?|m|min|minutes?|s|sec|secs|seconds?|d|days?)\s?)+"
)
_PIECE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s?(ms|mil|[dhms])[a-z]*")
_UNITS_MS: Final = {"ms": 1.0, "mil": 1.0, "s": 1e3, "m": 6e4, "h": 36e5, "d": 864e5}
_RESETS: Final = (
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
    ("ratelimit-remaining", "ratelimit-reset"),
    ("x-ratelimit-remaining-tokens-minute", "x-ratelimit-reset-tokens-minute"),
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
)
"""Pairs of headers: the first says how much of a limit is left, and if that is 0, the second says when it resets."""


def retry_after_ms(headers: Mapping[str, str], now_s: float | None = None) -> int | None:
    """Return how long to wait before a retry, in ms and at most `WAIT_MAX_MS`. None if no header gives a wait over 0.

    A date is compared with the provider's clock in `Date` and with `now_s`, by default this machine's clock. If these
    are far apart, one of them is wrong, and the shorter wait is used: a cache may give an old `Date`.
    """
    now = time.time() if now_s is None else now_s
    remote = _date_s(headers.get("date", ""))
    if remote is None or abs(remote - now) <= CLOCKS_APART_MAX_S:
        wait_ms = _first_wait_ms(headers, now if remote is None else remote)
    else:
        waits = (_first_wait_ms(headers, clock) for clock in (remote, now))
        wait_ms = min((wait for wait in waits if wait > 0), default=0.0)
    return max(1, round(min(wait_ms, WAIT_MAX_MS))) if wait_ms > 0 else None


def _first_wait_ms(headers: Mapping[str, str], clock: float) -> float:
    """Return the wait that the first readable header gives, or 0. Dates are compared with `clock`."""
    return (
        _wait_ms(headers.get("retry-after-ms", ""), 1.0, clock)
        or _wait_ms(headers.get("x-ms-retry-after-ms", ""), 1.0, clock)
        or _wait_ms(headers.get("retry-after", ""), 1e3, clock)
        or max(
            (_wait_ms(headers.get(reset, ""), 1e3, clock) for left, reset in _RESETS if _is_zero(headers.get(left))),
            default=0.0,
        )
    )


def _is_zero(value: str | None) -> bool:
    return value is not None and value.strip() in ("0", "0.0")


def _wait_ms(value: str, unit_ms: float, clock_s: float) -> float:
    """Return the wait in ms that a header gives, by `unit_ms` if it names no unit, or 0 if it can't be read.

    Of a list, the longest wait that can be read is returned.
    """
    value = value[:VALUE_CHARS_MAX].strip().strip("\"'").lower()
    when = _date_s(value)
    if when is not None:
        return max(0.0, (when - clock_s) * 1e3)
    return max(
        (_one_wait_ms(item.strip(), unit_ms, clock_s) for item in value.replace(";", ",").split(",")), default=0.0
    )


def _one_wait_ms(item: str, unit_ms: float, clock_s: float) -> float:
    if _NUMBER.fullmatch(item):
        number = float(item)
        seconds = number * unit_ms / 1e3
        if EPOCH_S_MIN <= seconds < EPOCH_S_MIN * 10:
            return max(0.0, (seconds - clock_s) * 1e3)
        if unit_ms > 1 and EPOCH_S_MIN * 1e3 <= number < EPOCH_S_MIN * 1e4:
            return max(0.0, number - clock_s * 1e3)
        return number * unit_ms
    if _SPAN.fullmatch(item):
        return sum(float(piece[1]) * _UNITS_MS[piece[2]] for piece in _PIECE.finditer(item))
    when = _date_s(item)
    return 0.0 if when is None else max(0.0, (when - clock_s) * 1e3)


def _date_s(value: str) -> float | None:
    """Return an HTTP date, or an RFC 3339 date, in seconds since 1970. None if `value` isn't a date."""
    if len(value) > VALUE_CHARS_MAX or ":" not in value:
        return None
    try:
        when = datetime.fromisoformat(value.upper()) if value[:1].isdigit() else parsedate_to_datetime(value)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
