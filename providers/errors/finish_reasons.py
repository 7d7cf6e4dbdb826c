"""The mapping of a host's finish reason to one of ours, or to a failure: data and one lookup."""

from __future__ import annotations

import re
from typing import Final

from providers.base import FinishReason

_EXACT: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
    "refusal": "refusal",
    # The model has paused and would continue if asked to, so the answer isn't complete.
    "pause_turn": "length",
}
# Some hosts pass on the finish reasons of their engines ("abort", "SAFETY", "eos"). The first row that matches is used.
_PATTERNS: Final[tuple[tuple[str, FinishReason | None], ...]] = (
    (r"malformed|unexpected|^other$", None),
    (
        r"filter|safety|sensitive|moderat|block|prohibit|recitation|spii|unsafe|policy|violat|censor|risk|inspect"
        r"|copyright|guardrail|harm",
        "content_filter",
    ),
    (r"refus|declin", "refusal"),
    (
        r"error|fail|abort|cancel|time_?d?_?out|interrupt|overload|insufficient|unavailable|invalid|network|disconnect"
        r"|exception|preempt|kill|crash|rate_?limit|quota|lost",
        None,
    ),
    (r"length|max|limit|window|truncat|context|budget|repet", "length"),
    (r"tool|function", "tool_calls"),
)


REASON_CHARS_MAX: Final = 200
"""The maximum number of characters to read from a reason."""


def map_finish_reason(reason: str) -> FinishReason | None:
    """Map a provider's finish reason to ours: "stop" for an unknown one, None for one that means a failure."""
    word = reason.strip()[:REASON_CHARS_MAX].lower()
    return _EXACT.get(word) or next((finish for pattern, finish in _PATTERNS if re.search(pattern, word)), "stop")
