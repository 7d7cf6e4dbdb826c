"""Recognize reasoning in content of any shape, and read its text. This module does no I/O."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

DEPTH_MAX: Final = 8
_KIND_WORDS: Final = ("reason", "think", "thought", "summary", "analysis")
"""Words in the types of pieces that are reasoning, as in `reasoning_text`, `thinking` and `redacted_thinking`."""
_FIELDS: Final = (
    "thinking",
    "reasoning",
    "reasoning_text",
    "reasoning_content",
    "thought",
    "thoughts",
    "summary",
    "text",
    "content",
)
"""The fields of an object that may hold its text. The first that isn't empty is used: the others repeat it."""


def thought_text(value: object, depth: int = 0) -> str:
    """Return the text of a thought. It may be a string, an object that has the text in one of `_FIELDS`, or a list.

    Several summaries in one list are separated by an empty line. `depth` is the number of values around `value`.
    """
    if isinstance(value, str):
        return value
    if depth == DEPTH_MAX:
        return ""
    if isinstance(value, list):
        texts = [text for each in value if (text := thought_text(each, depth + 1))]
        return ("\n\n" if _has_summaries(value) else "").join(texts)
    if isinstance(value, dict):
        for name in _FIELDS:
            if (inner := value.get(name)) and (text := thought_text(inner, depth + 1)):
                return text
    return ""


def _has_summaries(pieces: list[Any]) -> bool:
    return (
        bool(pieces)
        and isinstance(pieces[0], dict)
        and str(pieces[0].get("type")).endswith(("summary_text", "summary"))
    )


def is_thought(kind: str, fields: Any) -> bool:
    """Return whether a piece of list content of this type is reasoning. `fields` is the piece, as a struct."""
    if kind == "text" or not kind:
        return fields.thought is True or (
            not kind and bool(fields.thinking or fields.reasoning or fields.reasoning_text or fields.reasoning_content)
        )
    return is_thought_type(kind)


@lru_cache(100)
def is_thought_type(kind: str) -> bool:
    """Return whether content of the type `kind` is reasoning."""
    lower = kind[:100].lower()
    return any(word in lower for word in _KIND_WORDS)
