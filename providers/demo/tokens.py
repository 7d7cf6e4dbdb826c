"""The demo model's tokens: words with the white space around them, told again as often as is asked for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Final

COUNTED_CHARS_MAX: Final = 10_000
"""What follows in a text is only estimated."""
TOLD_CHARS_MAX: Final = 8 * 1024 * 1024
"""A text that is as long isn't told again."""

_TOKEN: Final = re.compile(r"\S++\s*+")


def split(text: str) -> list[str]:
    """The tokens of a text: joined they are the text again."""
    blanks = len(text) - len(text.lstrip())
    tokens: list[str] = _TOKEN.findall(text, blanks)
    if not tokens:
        return [text] if text else []
    return [text[:blanks] + tokens[0], *tokens[1:]]


def count_tokens(text: str) -> int:
    """How many tokens a text has; where it is long, as many as there would be if it went on as it begins."""
    counted = len(split(text[:COUNTED_CHARS_MAX]))
    return counted if len(text) <= COUNTED_CHARS_MAX else counted * len(text) // COUNTED_CHARS_MAX


class Tokens:
    """A text's tokens, one after the other; with `count` so many of them, cut or told again."""

    def __init__(self, text: str, count: int | None = None) -> None:
        tokens = split(text)
        if count is not None:
            tokens = tokens or ["…"]
        if count is not None and count > len(tokens):
            tokens = [*tokens[:-1], tokens[-1].rstrip() + "\n\n"]
            times = TOLD_CHARS_MAX // sum(map(len, tokens)) + 1
            count = min(count, times * len(tokens))
        self._tokens = tokens
        self._count = len(tokens) if count is None else count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return islice(cycle(self._tokens), self._count)
