"""Count the values in a JSON text as its pieces arrive, before it is decoded.

Decoding holds the interpreter lock until the whole text is decoded, even in another thread, so a text with too many
values must be refused first.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.protocol.errors import ApiError

SLICE_BYTES: Final = 8 * 1024
STEPS_PER_SLICE: Final = 500
COUNTED_PER_ITEM: Final = 32
"""How many strings, commas and opening brackets are allowed for each item.

A message with its parts, as `conversation.messages` returns it, has about this many.
"""

_INSIDE: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


class ValueCount:
    """Counts the strings, commas and opening brackets of one text, which need not be valid JSON.

    `items_max` is the number of items that the text may have.
    """

    def __init__(self, items_max: int) -> None:
        self._items_max = items_max
        self._remaining = items_max * COUNTED_PER_ITEM
        self._in_string = False
        self._escaped = False

    def feed(self, piece: bytes) -> bool:
        """Count the next piece. Return whether it took so long that the caller should let other tasks run.

        Raise `ApiError` "too_large" if the text has too many values.
        """
        at, end, before = 0, len(piece), self._remaining
        if self._escaped:
            at, self._escaped = 1, False
        while at < end:
            if self._in_string:
                inside = _INSIDE.match(piece, at)
                assert inside is not None, "the pattern matches the empty string too"
                at = inside.end()
                if at < end:
                    self._in_string = piece[at] != b'"'[0]
                    self._escaped = self._in_string
                    at += 1
                continue
            quote = piece.find(b'"', at)
            stop = end if quote < 0 else quote
            self._remaining -= sum(piece.count(one, at, stop) for one in (b",", b"{", b"[")) + (quote >= 0)
            self._in_string = quote >= 0
            at = stop + 1
            if self._remaining < 0:
                raise too_many_items(self._items_max)
        return before - self._remaining > STEPS_PER_SLICE


def too_many_items(items_max: int) -> ApiError:
    """Return the error for a request with too many messages, parts and tools."""
    return ApiError(
        "too_large",
        f"The request has more than {items_max} messages, parts and tools in total. Send fewer, or longer ones.",
    )
