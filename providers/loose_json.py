"""JSON as providers send it when they err: halves of characters, or several documents in one event. Pure."""

from __future__ import annotations

import json
from typing import Any


def documents(data: bytes) -> list[Any]:
    """The JSON documents in `data`, each on lines of its own. A lone surrogate stays one, to be joined later.

    Raises `ValueError` if what stands there is no JSON.
    """
    text = data.decode("utf-8", "replace")
    try:
        return [json.loads(text)]
    except ValueError:
        lines = [line for line in text.split("\n") if line.strip() not in ("", "[DONE]")]
        if len(lines) < 2:
            raise
        return [json.loads(line) for line in lines]
