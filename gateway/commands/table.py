"""Tables for a terminal, whose columns are aligned by the width at which characters are shown."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import accumulate

WIDE = frozenset({"W", "F"})
ZERO_WIDTH = frozenset({"Mn", "Me", "Cf"})


def format_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one line per row, in aligned columns."""
    widths = [max(map(shown_width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell + " " * (width - shown_width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def shown_width(text: str) -> int:
    """Return how many columns of a terminal a line takes: Chinese characters and emoji take two (UAX 11)."""
    return len(text) if text.isascii() else sum(map(_width, text))


def shortened(text: str, width_max: int) -> str:
    """Return a line, or as much of its beginning as fits in `width_max` columns with an ellipsis."""
    if shown_width(text) <= width_max:
        return text
    fitting = sum(width < width_max for width in accumulate(map(_width, text)))
    return f"{text[:fitting]}…"


def _width(character: str) -> int:
    if unicodedata.category(character) in ZERO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in WIDE else 1
