"""Read the reason of a provider's failure from a body of any shape, and clean it for a log. This module does no I/O.

A provider may quote any amount of a client's text, so everything here reads only the beginning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Final, NamedTuple

from providers.errors.table import STATUS_OF_TYPE

LOGGED_CHARS_MAX: Final = 300
TEXT_CHARS_MAX: Final = 2048
"""The maximum number of characters to read from an error text."""
NAME_CHARS_MAX: Final = 200
"""The maximum number of characters to read from a type, a code or a parameter."""
DEPTH_MAX: Final = 32
DETAILS_MAX: Final = 32
PARTIAL_CHARS_MIN: Final = 4
"""How many characters of a key reveal something about it. Fewer aren't masked at the end of a text."""

# An apostrophe inside a word doesn't begin or end a quotation.
_QUOTED: Final = re.compile(r"(?<!\w)'[^'\n]{1,200}'(?!\w)|\"[^\"\n]{1,200}\"|`[^`\n]{1,200}`|“[^”\n]{1,200}”")
_KEYLIKE: Final = re.compile(r"(?i)(bearer\s+|\b(?:sk|pk|rk|gsk|xai|key|ant|aiza|req)[-_])[\w.*-]{4,}")
_ADDRESS: Final = re.compile(
    r"(?i)\b\w+://\S+|\b(?:[a-z0-9-]{1,63}+\.){1,40}[a-z]{2,63}(?::\d{1,5})?\b"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b|localhost(:\d{1,5})?"
)
_LONG: Final = re.compile(r"[\w+/=-]{24,}")
_WORD: Final = re.compile(r"[\w.\[\]-]+|…")
_PATH_SEPARATORS: Final = re.compile(r"[.\[\]\d]+")
_FIELD_NAMES: Final = frozenset(
    """model messages message role content input system instructions stream stream_options include_usage
    include_obfuscation temperature top_p top_k max_tokens max_completion_tokens max_output_tokens stop stop_sequences
    seed random_seed response_format json_schema schema strict reasoning reasoning_effort reasoning_content effort
    thinking budget_tokens enable_thinking thinking_budget summary tools tool tool_choice tool_calls tool_call_id tool_use
    tool_result tool_stream parallel_tool_calls functions function function_call name description parameters properties
    required additionalproperties type text image image_url url file file_data document source media_type
    store include background extra_body logprobs n user assistant developer input_schema output_config format""".split()
)
"""The names and values of a request's fields."""
_PLAIN_WORDS: Final = frozenset(
    """a an and any are argument array as at be both but by can cannot contain contains contents conversation
    could did do does doesn't don't each empty enabled end error exactly exceed exceeded exceeds expected extra failed
    field fields first following follow followed for from given got greater has have immediately in inputs integer
    invalid is it items key last least length less like limit list long longer malformed many maximum may minimum
    missing models more must no not null number object of on one only or order other parameter parse permitted preceding
    previous property provided range rather request requests required response roles same second set short should
    specified string supplied support supported supports than that the there these this to together too turn turns
    undefined unexpected unknown unrecognized unsupported use used using valid value values was were when which with
    without you your disabled allowed higher lower between default exist exists found token tokens window context number
    responding block blocks non-empty call calls output outputs download base64 mime encoded decode mode""".split()
)
"""The plain words that providers use in messages about fields."""
_RETRY_TEXT: Final = re.compile(r"(?i)(?:try again|retry) (?:in|after) (\d{1,9}(?:\.\d{1,9})?)\s{0,9}(ms|m(?:in|\b)|s)")
_RETRY_DELAY: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000}


class Reason(NamedTuple):
    """The reason of a failure, read from a body of any shape."""

    type: str = ""
    code: str = ""
    text: str = ""
    param: str = ""
    retry_ms: int | None = None
    """The wait before a retry that the body gives, or None."""

    @classmethod
    def parse(cls, body: object) -> Reason:
        """Return the reason in `body`: an object or text under `error` or `errors`, or fields at the top level.

        Of a list, only the first item is read.
        """
        for _ in range(DEPTH_MAX):
            if not (isinstance(body, list) and body):
                break
            body = body[0]
        if not isinstance(body, Mapping):
            return cls(text=_text_of(body or ""))
        inner = body.get("error", body.get("errors"))
        if isinstance(inner, list) and inner:
            inner = inner[0]
        if isinstance(inner, str):
            inner = {"message": inner}
        fields = inner if isinstance(inner, Mapping) else body
        text = _text_of(next((fields[name] for name in _TEXT_FIELDS if fields.get(name)), ""))
        return cls(
            type=_name(fields.get("type") or fields.get("status")),
            code=_name(next((fields[name] for name in ("code", "error_code") if fields.get(name)), "")),
            text=text,
            param=_name(fields.get("param")),
            retry_ms=_retry_ms(fields, text),
        )

    def status(self) -> int:
        """Return the HTTP status that the code or the type gives, or 0."""
        for name in (self.code, self.type):
            if name.isdecimal() and 400 <= int(name) <= 599:
                return int(name)
            if name.lower() in STATUS_OF_TYPE:
                return STATUS_OF_TYPE[name.lower()]
        return 0

    def words(self) -> str:
        """Return the text that the table is matched against: type, code and text in lower case, without quotations."""
        return _QUOTED.sub("''", " ".join(filter(None, (self.type, self.code, self.text)))).strip().lower()


_TEXT_FIELDS: Final = ("message", "msg", "error_msg", "detail", "raw")


def _text_of(value: object) -> str:
    """Return the beginning of a text, or of the JSON of any other value."""
    if isinstance(value, str):
        return value[:TEXT_CHARS_MAX]
    pieces: list[str] = []
    size = 0
    try:
        for piece in _encode_pieces(value):
            pieces.append(piece)
            size += len(piece)
            if size > TEXT_CHARS_MAX:
                break
    except (RecursionError, ValueError):
        pass  # the value is nested too deep or has too long a number: the pieces so far are enough
    return "".join(pieces)[:TEXT_CHARS_MAX]


_encode_pieces: Final = json.JSONEncoder().iterencode


def _name(value: object) -> str:
    """Return the beginning of a name or a number as text, or "" for any other value."""
    return str(value)[:NAME_CHARS_MAX] if isinstance(value, str | int | float) and value else ""


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """Return `text` for a log or the operator: truncated, and without `secrets`, keys, addresses and quotations.

    Any run of 24 or more characters that could be a key is masked too.
    """
    text = text[:TEXT_CHARS_MAX]
    for secret in secrets:
        text = text.replace(secret, "***")
    for secret in secrets:
        text = _mask_partial(text, secret)
    text = _KEYLIKE.sub(r"\1***", text)
    return _LONG.sub("***", _ADDRESS.sub("***", _QUOTED.sub("'…'", text)))[:LOGGED_CHARS_MAX]


def _mask_partial(text: str, secret: str) -> str:
    """Return `text`; if it ends with a beginning of `secret`, mask that, because truncation may have split a key."""
    size_max = min(len(secret) - 1, len(text))
    size = next((size for size in range(size_max, PARTIAL_CHARS_MIN - 1, -1) if text.endswith(secret[:size])), 0)
    return text[: len(text) - size] + "***" if size else text


def loggable_words(text: str) -> str:
    """Return what a log may show of a text about a request: field names, short numbers, and unquoted plain words.

    Everything else may come from the request and is replaced by "…".
    """
    fields_only = _QUOTED.sub(lambda quoted: _replace_unknown(quoted.group(), _FIELD_NAMES), text[:LOGGED_CHARS_MAX])
    loggable = _replace_unknown(fields_only, _FIELD_NAMES | _PLAIN_WORDS)
    return loggable if loggable != "…" else ""


def _replace_unknown(text: str, known: frozenset[str]) -> str:
    words: list[str] = []
    for word in _WORD.findall(text.replace("'", "")):
        plain = word.strip(".").lower()
        is_known = (
            plain in known
            or (plain.isdecimal() and len(plain) < 8)
            or (set(_PATH_SEPARATORS.split(plain)) - {""} or {plain}) <= _FIELD_NAMES
        )
        if is_known or words[-1:] != ["…"]:
            words.append(word.strip(".") if is_known else "…")
    return " ".join(words)


def _retry_ms(fields: Mapping[str, object], text: str) -> int | None:
    """Return the wait in ms from Google's `retryDelay` in the details, or from the text. None if there is none."""
    details = fields.get("details")
    for detail in islice(details, DETAILS_MAX) if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, Mapping) else None
        if isinstance(delay, str) and (seconds := _RETRY_DELAY.fullmatch(delay)):
            return round(float(seconds[1]) * 1000) or None
    found = _RETRY_TEXT.search(text)
    return round(float(found[1]) * _UNITS_MS[found[2].lower()]) or None if found else None
