"""What a provider says of its failure: read out of a body of any shape, and made fit for a log. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from providers.failure_table import STATUS_OF_TYPE

LOGGED_CHARS_MAX: Final = 300

# An apostrophe inside a word quotes nothing.
_QUOTED: Final = re.compile(r"(?<!\w)'[^'\n]{1,200}'(?!\w)|\"[^\"\n]{1,200}\"|`[^`\n]{1,200}`|“[^”\n]{1,200}”")
_KEYLIKE: Final = re.compile(r"(?i)(bearer\s+|\b(?:sk|pk|rk|gsk|xai|key|ant|aiza|req)[-_])[\w.*-]{4,}")
_ADDRESS: Final = re.compile(
    r"(?i)\w+://\S+|\b(?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?\b|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|localhost(:\d+)?"
)
_LONG: Final = re.compile(r"[\w+/=-]{24,}")
_AGAIN: Final = re.compile(r"(?i)(?:try again|retry) (?:in|after) (\d{1,9}(?:\.\d+)?)\s*(ms|m(?:in|\b)|s)")
_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000}


class Reason(NamedTuple):
    """What a body says of its failure, in whatever shape."""

    type: str = ""
    code: str = ""
    text: str = ""
    param: str = ""
    retry_ms: int | None = None
    """When to try again, as the body says it."""

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
        text = text if isinstance(text, str) else json.dumps(text)
        return cls(
            type=str(said.get("type") or said.get("status") or ""),
            code=str(next((said[name] for name in ("code", "error_code") if said.get(name)), "")),
            text=text,
            param=str(said.get("param") or ""),
            retry_ms=_retry_ms(said, text),
        )

    def status(self) -> int:
        """The HTTP status that the body itself names, or 0."""
        for name in (self.code, self.type):
            if name.isdecimal() and 400 <= int(name) <= 599:
                return int(name)
            if name.lower() in STATUS_OF_TYPE:
                return STATUS_OF_TYPE[name.lower()]
        return 0

    def words(self) -> str:
        """What the table looks at: type, code and text in small letters, without what the text only quotes."""
        return _QUOTED.sub("''", " ".join(filter(None, (self.type, self.code, self.text)))).strip().lower()


_TEXT_FIELDS: Final = ("message", "msg", "error_msg", "detail", "raw")


def quiet(text: str, secrets: tuple[str, ...]) -> str:
    """The text for a log: no key, no address, nothing that it quotes, and not much of it."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _KEYLIKE.sub(r"\1***", text)
    return _LONG.sub("***", _ADDRESS.sub("***", _QUOTED.sub("'…'", text)))[:LOGGED_CHARS_MAX]


def _retry_ms(said: Mapping[str, object], text: str) -> int | None:
    """Google's `retryDelay` among the details, or what the sentence says."""
    details = said.get("details")
    for detail in details if isinstance(details, list) else ():
        delay = str(detail.get("retryDelay", "")) if isinstance(detail, Mapping) else ""
        if re.fullmatch(r"\d{1,9}(\.\d+)?s", delay):
            return round(float(delay[:-1]) * 1000) or None
    found = _AGAIN.search(text)
    return round(float(found[1]) * _UNITS_MS[found[2].lower()]) or None if found else None
