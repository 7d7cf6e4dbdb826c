"""The types of the archive's columns: text and bytes that a database can't hold as they are, and times in ms.

PostgreSQL has no U+0000 in its text, and no database has a lone surrogate. `escape` writes both with U+001A (SUBSTITUTE)
before them, so every text comes back exactly as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import DateTime, Dialect, Text, TypeDecorator
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

MARK = "\x1a"
MS_MIN = -62_135_596_799_999
"""The second ms of the year 1: the first is `-infinity` in asyncpg."""
MS_MAX = 253_402_300_799_999
"""The last ms of the year 9999."""
INTEGER_MAX = 2**63 - 1

_UNSTORABLE = re.compile("[\x00\x1a\ud800-\udfff]")
_ESCAPED = re.compile("\x1a([0-9a-f]{4})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def escape(text: str) -> str:
    """Return `text` with each character that a database can't hold, and each U+001A, as U+001A and four hex digits."""
    if text.isascii() and "\x00" not in text and MARK not in text:
        return text
    if _UNSTORABLE.search(text) is None:
        return text
    return _UNSTORABLE.sub(lambda found: f"{MARK}{ord(found[0]):04x}", text)


def unescape(text: str) -> str:
    """Return the text that `escape` has escaped."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if MARK in text else text


def escape_bytes(value: bytes) -> str:
    """Return bytes as text. Those that aren't UTF-8 become escaped surrogates."""
    return escape(value.decode("utf-8", "surrogateescape"))


def unescape_bytes(text: str) -> bytes:
    """Return the bytes that `escape_bytes` has made text of."""
    return unescape(text).encode("utf-8", "surrogateescape")


def _escape_some(text: str | None) -> str | None:
    return None if text is None else escape(text)


class LosslessText(TypeDecorator[str]):
    """Any text. It is compared by its code points, in every database and language."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the database's own type."""
        return dialect.type_descriptor(Text(collation="C" if dialect.name == "postgresql" else None))

    def bind_processor(self, dialect: Dialect) -> Callable[[str | None], str | None]:
        """Return the function that converts values for storage. It is called for most values that are written."""
        return _escape_some

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what is stored."""
        return _escape_some(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what was stored."""
        return None if value is None else unescape(value)


class LosslessBytes(TypeDecorator[bytes]):
    """Bytes that are JSON text, so that a person can read and query them. Other bytes come back exactly too."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> str | None:
        """Return what is stored."""
        return None if value is None else escape_bytes(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> bytes | None:
        """Return what was stored."""
        return None if value is None else unescape_bytes(value)


class Moment(TypeDecorator[int]):
    """A time in ms since 1970: with time zone in PostgreSQL, and text in SQLite's own format, in UTC."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the database's own type."""
        return dialect.type_descriptor(DateTime(timezone=True) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: int | None, dialect: Dialect) -> datetime | str | None:
        """Return what is stored for `value`. For a time that no database can hold, that is the nearest time that it can."""
        if value is None:
            return None
        time = _EPOCH + min(max(value, MS_MIN), MS_MAX) * _MS
        return time if dialect.name == "postgresql" else time.isoformat(" ", "milliseconds").replace("+00:00", "Z")

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """Return what was stored."""
        if value is None:
            return None
        time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return (time - _EPOCH) // _MS


class Terms(TypeDecorator[str]):
    """The terms of a text, separated by spaces: a `tsvector` in PostgreSQL, which no other database has."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the database's own type."""
        return dialect.type_descriptor(postgresql.TSVECTOR() if dialect.name == "postgresql" else Text())
