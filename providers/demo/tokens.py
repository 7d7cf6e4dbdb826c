"""The demo model's tokens: words with the white space after them, repeated as requested. This module does no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Final

COUNTED_CHARS_MAX: Final = 10_000
"""The number of characters whose tokens are counted. The rest of a longer text is estimated."""
REPEATED_CHARS_MAX: Final = 8 * 1024 * 1024
"""The length in characters from which a text isn't repeated any more."""

_TOKEN: Final = re.compile(r"\S++\s*+")


def split(text: str) -> list[str]:
    """Return the tokens of a text. Joined, they give the text."""
    blanks = len(text) - len(text.lstrip())
    tokens: list[str] = _TOKEN.findall(text, blanks)
    if not tokens:
        return [text] if text else []
    return [text[:blanks] + tokens[0], *tokens[1:]]


def count_tokens(text: str) -> int:
    """Return the number of tokens of a text. For a long text, extrapolate it from the beginning."""
    counted = len(split(text[:COUNTED_CHARS_MAX]))
    return counted if len(text) <= COUNTED_CHARS_MAX else counted * len(text) // COUNTED_CHARS_MAX


class Tokens:
    """The tokens of a text, in order. With `count`, they are truncated or repeated to that number."""

    def __init__(self, text: str, count: int | None = None) -> None:
        tokens = split(text)
        if count is not None:
            tokens = tokens or ["…"]
        if count is not None and count > len(tokens):
            tokens = [*tokens[:-1], tokens[-1].rstrip() + "\n\n"]
            times = REPEATED_CHARS_MAX // sum(map(len, tokens)) + 1
            count = min(count, times * len(tokens))
        self._tokens = tokens
        self._count = len(tokens) if count is None else count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return islice(cycle(self._tokens), self._count)
