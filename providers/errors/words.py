"""Read the reason of a provider's failure from a body of any shape, and clean it for a log. This module does no I/O.

A provider may quote any amount of a client's text, so everything here reads only the beginning.
"""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final, NamedTuple

from jiter import from_json

from providers.errors.minimax import is_failed_status, read_status
from providers.errors.table import STATUS_OF_TYPE

LOGGED_CHARS_MAX: Final = 300
TEXT_CHARS_MAX: Final = 2048
"""The maximum number of characters to read from an error text."""
NAME_CHARS_MAX: Final = 200
"""The maximum number of characters to read from a type, a code or a parameter."""
DEPTH_MAX: Final = 32
DETAILS_MAX: Final = 32
PARTIAL_CHARS_MIN: Final = 4
"""If a text ends with at least this many of a key's first characters, they are masked. Fewer reveal nothing."""

# An apostrophe inside a word doesn't begin or end a quotation.
_QUOTED: Final = re.compile(r"(?<!\w)'[^'\n]{1,200}'(?!\w)|\"[^\"\n]{1,200}\"|`[^`\n]{1,200}`|“[^”\n]{1,200}”")
_KEYLIKE: Final = re.compile(r"(?i)(bearer\s+|\b(?:sk|pk|rk|gsk|xai|key|ant|aiza|req)[-_])[\w.*-]{4,}")
_ADDRESS: Final = re.compile(
    r"(?i)\b\w+://\S+|\b(?:[a-z0-9-]{1,63}+\.){1,40}[a-z]{2,63}(?::\d{1,5})?\b"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b|localhost(:\d{1,5})?"
)
_LONG: Final = re.compile(r"[\w+/=-]{24,}")
_RETRY_TEXT: Final = re.compile(r"(?i)(?:try again|retry) (?:in|after) (\d{1,9}(?:\.\d{1,9})?)\s{0,9}(ms|m(?:in|\b)|s)")
_RETRY_DELAY: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_OBJECT: Final = re.compile(r"""(\S?)[\s'"]{0,9}\{(?=\s{0,9}["'])""")
_ERROR_FIELDS: Final = frozenset(("error", "errors", "message", "detail", "base_resp"))
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
        fields = _fields_of(body)
        text = _text_in(next((fields[name] for name in _TEXT_FIELDS if fields.get(name)), ""))
        reason = cls(
            type=_name(next((fields[name] for name in _TYPE_FIELDS if fields.get(name)), "")),
            code=_name(next((fields[name] for name in _CODE_FIELDS if fields.get(name)), "")),
            text=text,
            param=_name(fields.get("param")),
            retry_ms=_retry_ms(fields, text),
        )
        return reason._with_quoted(_quoted_body(fields, text))

    def _with_quoted(self, quoted: object) -> Reason:
        """Return this reason with the text of `quoted`: the error of another provider that this one passes on.

        If this reason has no type or no wait, it gets that of `quoted`. If `quoted` is None, nothing changes.
        """
        if quoted is None:
            return self
        inner = Reason.parse(quoted)
        text = " ".join(filter(None, (inner.type, inner.code, inner.text)))[:TEXT_CHARS_MAX]
        return self._replace(
            text=text or self.text, type=self.type or inner.type, retry_ms=self.retry_ms or inner.retry_ms
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


_TEXT_FIELDS: Final = ("message", "Message", "msg", "error_msg", "detail", "raw")
_TYPE_FIELDS: Final = ("type", "status", "error_type", "__type")
_CODE_FIELDS: Final = ("code", "error_code", "statusCode", "status_code")


def _fields_of(body: Mapping[str, object]) -> Mapping[str, object]:
    """Return the fields of the error in `body`: those under `error` or `errors`, MiniMax's, or those of `body`."""
    if is_failed_status(status := body.get("base_resp")):
        assert isinstance(status, Mapping)
        return read_status(status)
    inner: object = body.get("error", body.get("errors"))
    for _ in range(DEPTH_MAX):
        if isinstance(inner, list) and inner:
            inner = inner[0]
        elif (
            isinstance(inner, Mapping)
            and isinstance(deeper := inner.get("error"), Mapping)
            and not any(inner.get(name) for name in _TEXT_FIELDS)
        ):
            inner = deeper
        else:
            break
    if isinstance(inner, Mapping):
        return inner
    if not isinstance(inner, str):
        return body
    message = body.get("message")
    text = f"{inner}: {message}" if message and isinstance(message, str) else inner
    # The code beside a text is often a second text.
    return {name: value for name, value in body.items() if name != "code"} | {"message": text}


def _quoted_body(fields: Mapping[str, object], text: str) -> object:
    """Return the error of another provider that a router passes on as JSON in a text, or None."""
    metadata = fields.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    if isinstance(raw, Mapping):
        return raw
    for quoted in (raw, text):
        if isinstance(quoted, str) and (begin := _OBJECT.search(quoted, 0, TEXT_CHARS_MAX)) is not None:
            found = _parse_quoted(quoted[begin.end() - 1 : TEXT_CHARS_MAX])
            if found is not None and (not begin[1] or not _ERROR_FIELDS.isdisjoint(found)):
                return found
    return None


def _parse_quoted(text: str) -> Mapping[str, object] | None:
    """Return the object at the start of `text`, or None. It is JSON, which may be truncated, or in Python's notation."""
    parsers: tuple[Callable[[], object], ...] = (
        lambda: _parse_start(text)[0],
        lambda: from_json(text.encode("utf-8", "replace"), partial_mode="trailing-strings"),
        lambda: literal_eval(text[: text.rfind("}") + 1]),
    )
    for parse in parsers:
        try:
            found = parse()
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, Mapping) else None
    return None


_parse_start: Final = json.JSONDecoder().raw_decode


def _text_in(value: object) -> str:
    """Return the text of the first item of a list, such as FastAPI's `detail`, or of any other value."""
    item = value[0] if isinstance(value, list) and value else None
    if isinstance(item, Mapping):
        return _text_of(next((item[name] for name in _TEXT_FIELDS if item.get(name)), value))
    return _text_of(value)


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


def _retry_ms(fields: Mapping[str, object], text: str) -> int | None:
    """Return the wait in ms from Google's `retryDelay` in the details, or from the text. None if there is none."""
    details = fields.get("details")
    for detail in islice(details, DETAILS_MAX) if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, Mapping) else None
        if isinstance(delay, str) and (seconds := _RETRY_DELAY.fullmatch(delay)):
            return round(float(seconds[1]) * 1000) or None
    found = _RETRY_TEXT.search(text)
    return round(float(found[1]) * _UNITS_MS[found[2].lower()]) or None if found else None
