"""English prose of any length: parts of the documentation, for measurements whose result depends on the text."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

CHARS_PER_TOKEN = 4.5
"""The usual length of a token in English."""


@cache
def _prose() -> str:
    files = sorted(Path(__file__).parent.parent.glob("docs/*.md"))
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return re.sub(r"[^A-Za-z0-9 ,.;:?!'()\n-]", "", "\n".join(line for line in lines if not line.startswith("|")))


def prose(tokens: int) -> str:
    """Return the text of about `tokens` tokens, from a random place."""
    text, wanted = _prose(), int(tokens * CHARS_PER_TOKEN)
    start = random.randrange(len(text) - wanted)
    return text[start : start + wanted]


def pieces(tokens: int) -> list[str]:
    """Return prose cut into `tokens` pieces."""
    text = prose(tokens)
    return [text[int(n * CHARS_PER_TOKEN) : int((n + 1) * CHARS_PER_TOKEN)] for n in range(tokens)]
