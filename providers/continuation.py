"""The rules for an answer that broke off: what can be continued, and the request that asks a model to continue it.

A model gets the partial answer as a prefix, the start of its own answer. One that takes no prefix is instructed to
continue, where the operator allows that. This module does no I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import structs

from providers.base import (
    ChatMessage,
    ChatRequest,
    CitationPart,
    ErrorCode,
    Part,
    ReasoningPart,
    TextPart,
)
from providers.route import Route

CONTINUED_CODES: Final[frozenset[ErrorCode]] = frozenset(
    {
        "upstream_auth",
        "upstream_error",
        "upstream_incomplete",
        "upstream_overloaded",
        "upstream_rate_limited",
        "upstream_timeout",
    }
)
"""The failures in the middle of an answer after which a model is asked to continue it."""
REPEATED_CHARS: Final = 60
"""About how many of the last characters an instruction asks the model to repeat, so that the seam can be found."""
_INSTRUCTION: Final = (
    "Your answer above was cut off by a network failure. Continue exactly where this answer broke off, in the same "
    "language and format. Begin by repeating its last words, which are between the marks, without the marks: "
    "<<<{words}>>> Then go on at once. Write no introduction, no apology and no comment about the interruption."
)
_NO_THINKING: Final = ("thinking", "toggle", "budget")
"""The reasoning styles (`Quirks.reasoning`) with which thinking can be turned off for one request."""

Way = Literal["continue", "restart"]


def way_to_continue(parts: Sequence[Part], response_format: dict[str, Any] | None) -> Way | None:
    """Return how to complete an answer that broke off after `parts`, or None if that isn't possible.

    `response_format` is that of the request. An answer that has text is continued, and one that has only reasoning
    starts again. An answer with a tool call is never continued, because the call may be complete. Text in a format that
    the provider enforces can't be continued, because the provider would begin the format again.
    """
    if any(not isinstance(part, TextPart | ReasoningPart | CitationPart) for part in parts):
        return None
    if not said_text(parts).strip():
        return "restart"
    if response_format is not None and response_format.get("type") != "text":
        return None
    return "continue"


def said_text(parts: Sequence[Part]) -> str:
    """Return all text of the text parts, without reasoning."""
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def continuing_request(request: ChatRequest, route: Route) -> ChatRequest:
    """Return `request`, which has a partial answer, as the dialect of `route` is to send it.

    If the model is instructed, the partial answer and the instruction become two more messages. Otherwise the dialect
    sends the partial answer as a prefix. Then thinking is turned off where possible, because it can't follow a prefix.
    """
    if route.continuation == "instruct":
        text = said_text(request.partial_answer).rstrip()
        messages = (
            *request.messages,
            ChatMessage("assistant", (TextPart(text),)),
            ChatMessage("user", (TextPart(_INSTRUCTION.format(words=_last_words(text))),)),
        )
        return structs.replace(request, messages=messages, partial_answer=(), is_continuation=True)
    if route.quirks.reasoning in _NO_THINKING and "thinking" in route.features:
        return structs.replace(request, params=structs.replace(request.params, reasoning="none"))
    return request


def _last_words(text: str) -> str:
    """Return about `REPEATED_CHARS` of the end of `text`, beginning with a whole word if there is one."""
    end = text[-REPEATED_CHARS:]
    if len(end) == len(text):
        return end
    _, blank, words = end.partition(" ")
    return words if blank and words else end
