"""Events that hold no chunk of an answer: signs of life such as `null` or `ping`, lists of chunks, and failures in plain text.

This module does no I/O.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from providers.http.sse import is_end_mark

SIGN_CHARS_MAX: Final = 100
"""The maximum length of a text that is taken for a sign of life or a failure."""

_COMMON_SIGNS: Final = frozenset(
    (
        b"null",
        b"[]",
        b"true",
        b"false",
        b"0",
        b"1",
        b'""',
        b'"ping"',
        b"ping",
        b"keepalive",
        b"keep-alive",
        b"heartbeat",
    )
)
_OBJECT: Final = re.compile(rb"\s*+\{")
_BROKEN: Final = ("[", '"', "<", "}", "]")
"""A text that isn't JSON but begins with one of these is a page or truncated JSON."""
_FAILURE_WORDS: Final = re.compile(
    r"(?i)error|fail|exception|overload|unavailable|time[d ]*out|refused|denied|unauthori[sz]ed|forbidden|invalid"
    r"|limit|too many|exceed|quota|not found|bad gateway|disconnect|reset|abort|crash|unhealthy|no healthy|unable"
    r"|cannot|can't|terminated|insufficient|busy"
)


class NoChunk(NamedTuple):
    """The content of an event that isn't a chunk: a list of `chunks`, or a `failure` in plain text, or nothing of use."""

    chunks: tuple[bytes, ...] = ()
    failure: str | None = None


_SIGN_OF_LIFE: Final = NoChunk()


def read_no_chunk(name: str | None, data: bytes) -> NoChunk | None:
    """Return what an event without a chunk holds. Return None if the event is for the decoder, which checks its form.

    An object, an end mark and anything that looks like a page or like broken JSON is for the decoder.
    """
    if name != "error" and data in _COMMON_SIGNS:
        return _SIGN_OF_LIFE
    if _OBJECT.match(data) or is_end_mark(data):
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _read_text(name, data.decode("utf-8", "replace").strip())
    if isinstance(value, list):
        return NoChunk(chunks=tuple(_encode(item) for item in value if isinstance(item, dict)))
    if isinstance(value, str) or name == "error":
        return _read_text(name, value.strip() if isinstance(value, str) else "", is_json=True)
    return _SIGN_OF_LIFE


def _read_text(name: str | None, text: str, *, is_json: bool = False) -> NoChunk | None:
    if not is_json and text.startswith(_BROKEN):
        return None
    if name == "error":
        return NoChunk(failure=text)
    if len(text) > SIGN_CHARS_MAX:
        return None
    return NoChunk(failure=text) if _FAILURE_WORDS.search(text) else _SIGN_OF_LIFE


def _encode(item: dict[str, Any]) -> bytes:
    return json.dumps(item).encode()
