"""The mapping of a host's finish reason to one of ours, or to a failure: data and one lookup.

The words are those of the public documentation of providers and inference engines. A word that isn't known doesn't end
an answer.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

from providers.base import FinishReason

Finish = FinishReason | Literal["failed"]
"""A finish reason, or "failed" for one that reports a failure."""

_EXACT: Final[dict[str, Finish]] = {
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
    # Google's reason for an unsupported language.
    "language": "content_filter",
    "blacklist": "content_filter",
    # The model has paused and would continue if asked to, so the answer isn't complete.
    "pause_turn": "length",
    "pause_run": "length",
    "compaction": "length",
}
_PREFIX: Final = re.compile(r"(?:finish_?reason|stop_reason|reason|alternative_status)[._:]")
"""The prefix that some hosts put before the word: `FINISH_REASON_STOP`."""
_STOP: Final = re.compile(
    r"(?:stop|stopped_eos|stopped_word|eos|eot)(?:$|[_-]|found|string|sequence|word|token)|end[_-]?(?:of[_-]?)?(?:turn|text|sequence|id|token)"
    r"|(?:complete|completed|done|end|ended|final|finish|finished|normal|success|succeeded|stopped)$"
)
# Some hosts pass on the finish reasons of their engines ("abort", "SAFETY", "eos"). The first row that matches is used.
_PATTERNS: Final[tuple[tuple[str, Finish], ...]] = (
    (r"malformed|unexpected|too_many_tool|missing_thought|^(?:image_)?other$|^no_image$", "failed"),
    (
        r"filter|safety|sensitive|moderat|block|prohibit|recitation|spii|unsafe|policy|violat|censor|risk|inspect"
        r"|copyright|guardrail|harm",
        "content_filter",
    ),
    (r"refus|declin", "refusal"),
    (
        r"error|fail|abort|cancel|time_?d?_?out|interrupt|overload|insufficient|unavailable|invalid|network|disconnect"
        r"|exception|preempt|kill|crash|rate_?limit|quota|lost",
        "failed",
    ),
    (r"length|max|limit|window|truncat|context|budget|repet", "length"),
    (r"(?<![a-z])(?:tool|function)", "tool_calls"),
)

REASON_CHARS_MAX: Final = 200
"""The maximum number of characters to read from a reason."""


def map_finish_reason(reason: str) -> Finish | None:
    """Map a provider's finish reason to ours, or to "failed". Return None for an unknown one: it ends nothing."""
    return _EXACT.get(reason) or _map(reason[:REASON_CHARS_MAX])


@lru_cache(256)
def _map(reason: str) -> Finish | None:
    """Map a reason that isn't exactly one of the common words. Some hosts repeat one in every chunk, so cache it."""
    word = reason.strip().lower()
    if prefix := _PREFIX.match(word):
        word = word[prefix.end() :]
    if found := _EXACT.get(word):
        return found
    if _STOP.match(word):
        return "stop"
    return next((finish for pattern, finish in _PATTERNS if re.search(pattern, word)), None)
