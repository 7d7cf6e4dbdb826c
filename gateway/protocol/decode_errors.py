"""The API errors for frames and bodies that can't be decoded, made from the errors of msgspec."""

from __future__ import annotations

import re

import msgspec

from gateway.protocol.errors import ApiError
from gateway.protocol.plain_text import PLAIN_PATTERN
from gateway.protocol.requests import DEPTH_MAX, OWN_ID_PATTERN

_REASON_CHARS_MAX = 500
"""How many characters of a long error message of msgspec are kept at its beginning, and how many at its end.

The message may quote a whole frame. Its beginning and its end are enough to explain the error.
"""
# Values that only MessagePack has, keys that aren't strings, and JSON numbers that are too large for a float.
_UNSUPPORTED_VALUE = re.compile(r"got `(bytes|ext|datetime)`|got `\w+` - at `key` in |^Number out of range")
_LONE_SURROGATE = re.compile(r"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])")
_NOT_PLAIN = f"Expected `str` matching regex {PLAIN_PATTERN!r}"
_NOT_AN_OWN_ID = f"Expected `str` matching regex {OWN_ID_PATTERN!r}"
_MISSING_FIELD = re.compile(r"Object missing required field `(\w{1,64})`")


def decode_error(error: Exception, *, is_body: bool = False) -> ApiError:
    """Return the API error for an exception that decoding a frame, or with `is_body` that of an HTTP request, has raised.

    Its code is "invalid_frame" if the frame is unreadable or nested too deeply, or has an unknown type, an unknown field
    or a value that no frame may have. It is "invalid_request", with the path, if a field has a wrong value.
    """
    if isinstance(error, ApiError):
        return error
    unit, advice = ("body", "Send one JSON object") if is_body else ("frame", "Send one map per frame")
    if isinstance(error, RecursionError):
        return ApiError("invalid_frame", f"The {unit} is nested deeper than {DEPTH_MAX} levels. Flatten it.")
    text = str(error).replace(_NOT_PLAIN, "Control and format characters aren't allowed in a name")
    text = text.replace(_NOT_AN_OWN_ID, "An id that a client makes has 1 to 64 of the characters A-Z a-z 0-9 _ . -")
    if len(text) > 2 * _REASON_CHARS_MAX:
        text = f"{text[:_REASON_CHARS_MAX]}…{text[-_REASON_CHARS_MAX:]}"
    if not isinstance(error, msgspec.ValidationError):
        return ApiError("invalid_frame", f"The {unit} can't be decoded: {_shorten(text)}. {advice}.")
    reason, path = _split_message(text)
    missing = _MISSING_FIELD.match(text)
    if missing is not None:
        path = f"{path}.{missing.group(1)}" if path else missing.group(1)
    if text.startswith("Object contains unknown field") or path in {"", "type"} or _UNSUPPORTED_VALUE.search(text):
        return ApiError(
            "invalid_frame", f"{reason}. Check the type and the field names against the protocol.", path=path or None
        )
    return ApiError("invalid_request", f"{reason}. Correct the field.", path=path)


def _split_message(text: str) -> tuple[str, str]:
    """Return msgspec's reason and the path, from a message like "Expected `int`, got `str` - at `$.a.b`".

    The path is empty if there is none. A name that msgspec quotes may look like a path.
    """
    reason, _, location = text.rpartition(" - at `")
    location = location.removeprefix("key` in `")
    if not reason or not location.startswith("$") or not location.endswith("`"):
        return _shorten(text), ""
    return _shorten(reason), location[1:-1].removeprefix(".")


def is_lone_surrogate(reason: str, data: str) -> bool:
    """Return whether half of a surrogate pair is why a JSON text was refused.

    If the half is right before the closing quote, msgspec reports a truncated text.
    """
    return "surrogate" in reason or (reason == "Input data was truncated" and _LONE_SURROGATE.search(data) is not None)


def _shorten(reason: str) -> str:
    return reason if len(reason) <= 160 else reason[:160] + "…"
