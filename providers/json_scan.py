"""Find the end of a JSON value that arrives in pieces. Each character is read once. This module does no I/O."""

from __future__ import annotations

import re
from typing import Final

SLICE_CHARS: Final = 64 * 1024
"""How many characters one search reads at most, so that other threads may run between two searches."""

_MARK: Final = re.compile(r'[{}\[\]"]')
_IN_STRING: Final = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


class JsonScan:
    """A scan for the end of one object, list or string. It balances brackets and quotes; it doesn't validate."""

    __slots__ = ("_depth", "_escaped", "_quoted", "closed", "opener")

    def __init__(self) -> None:
        self.opener = ""
        """The first character that isn't white space. Only `{`, `[` and `"` begin a value that has an end."""
        self.closed = False
        """Whether the value has ended."""
        self._depth = 0
        self._quoted = self._escaped = False

    @property
    def is_open(self) -> bool:
        """Whether a value has begun that hasn't ended."""
        return not self.closed and self.opener in ("{", "[", '"')

    def feed(self, piece: str) -> int:
        """Read the next piece of the value. Return the offset of the value's end in `piece`, or -1 if it goes on."""
        if not self.opener:
            stripped = piece.lstrip()
            if not stripped:
                return -1
            self.opener = stripped[0]
        if not self.is_open or not piece:
            return -1
        at, size = int(self._escaped), len(piece)
        self._escaped = False
        while at < size:
            limit = min(at + SLICE_CHARS, size)
            at = self._skip_string(piece, at, limit) if self._quoted else self._next_mark(piece, at, limit)
            if self.closed:
                return at
        return -1

    def _skip_string(self, piece: str, at: int, limit: int) -> int:
        match = _IN_STRING.match(piece, at, limit)
        assert match is not None
        at = match.end()
        if at == limit:
            return at
        if piece[at] == "\\":  # the escaped character is after the limit, or in the next piece
            self._escaped = at + 1 == len(piece)
            return at + 2
        self._quoted = False
        self.closed = not self._depth
        return at + 1

    def _next_mark(self, piece: str, at: int, limit: int) -> int:
        mark = _MARK.search(piece, at, limit)
        if mark is None:
            return limit
        if (found := mark.group()) == '"':
            self._quoted = True
        elif found in "{[":
            self._depth += 1
        else:
            self._depth -= 1
            self.closed = self._depth <= 0
        return mark.end()
