"""How many values a JSON text has, counted as its pieces come: before it is decoded, which holds the loop for all of it."""

from __future__ import annotations

import re
from typing import Final

from gateway.protocol.errors import ApiError

SLICE_BYTES: Final = 8 * 1024
STEPS_PER_SLICE: Final = 500
COUNTED_PER_ITEM: Final = 32
"""A message with its parts, as history returns it, has about as many texts, commas and opening brackets."""

_INSIDE: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


class ValueCount:
    """What was counted of one text: its strings, commas and opening brackets, whether it is JSON or not."""

    def __init__(self, items_max: int) -> None:
        self._items_max = items_max
        self._left = items_max * COUNTED_PER_ITEM
        self._in_string = False
        self._escaped = False

    def feed(self, piece: bytes) -> bool:
        """Count on; whether it was much work, so that others should come first. Raises `ApiError` "too_large"."""
        at, end, before = 0, len(piece), self._left
        if self._escaped:
            at, self._escaped = 1, False
        while at < end:
            if self._in_string:
                inside = _INSIDE.match(piece, at)
                assert inside is not None, "it matches nothing, too"
                at = inside.end()
                if at < end:
                    self._in_string = piece[at] != b'"'[0]
                    self._escaped = self._in_string
                    at += 1
                continue
            quote = piece.find(b'"', at)
            stop = end if quote < 0 else quote
            self._left -= sum(piece.count(one, at, stop) for one in (b",", b"{", b"[")) + (quote >= 0)
            self._in_string = quote >= 0
            at = stop + 1
            if self._left < 0:
                raise ApiError("too_large", too_many(self._items_max))
        return before - self._left > STEPS_PER_SLICE


def too_many(items_max: int) -> str:
    """What is said of a request of too many parts."""
    return f"A request may have {items_max} messages, parts and tools in all. Send fewer, or longer ones."
