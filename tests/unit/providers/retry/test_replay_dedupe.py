"""Filtering an answer that is replayed from its start."""

import random

import pytest

from providers.base import (
    CitationPart,
    Delta,
    Finished,
    Part,
    PartDelta,
    PartStarted,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    Usage,
    UsageReported,
)
from providers.retry.replay_dedupe import ReplayFilter, ReplayMismatch
from tests.answers import fold

ANSWER: list[Delta] = [
    PartStarted(0, "reasoning"),
    PartDelta(0, "Let me thi"),
    PartDelta(0, "nk 🙂"),
    PartDelta(0, signature="sig"),
    PartDelta(0, signature="ned"),
    PartStarted(1, "text"),
    PartDelta(1, "Hello "),
    PartStarted(2, "citation", url="u", text="quoted"),
    PartDelta(1, "world."),
    PartStarted(3, "tool_call", call="c", name="t"),
    PartDelta(3, '{"a":1}'),
    UsageReported(Usage(1, 2)),
    Finished("tool_calls"),
]


def parts_of(deltas: list[Delta]) -> list[Part]:
    """Return the parts that these deltas make up, as the log has them."""
    answer = fold([deltas])
    parts: list[Part] = []
    for number, (kind, text) in enumerate(answer.parts):
        signature = answer.signatures.get(number)
        match kind:
            case "reasoning":
                parts.append(ReasoningPart(text, signature=signature))
            case "text":
                parts.append(TextPart(text, signature))
            case "tool_call":
                parts.append(ToolCallPart("c", "t", text))
            case _:
                parts.append(CitationPart("u", text="quoted"))
    return parts


def test_replay_after_any_delta_duplicates_and_loses_nothing() -> None:
    """Wherever the answer broke off, the received deltas and the filtered replay together make up the whole answer.

    The pieces of the replay differ from those of the first stream.
    """
    whole = fold([ANSWER])
    rng = random.Random(5)
    for at in range(len(ANSWER) + 1):
        received: list[Delta] = [delta for delta in ANSWER[:at] if isinstance(delta, PartStarted | PartDelta)]
        replayed: list[Delta] = []
        for delta in ANSWER:
            if isinstance(delta, PartDelta) and delta.text:
                cut = rng.randint(0, len(delta.text))
                replayed += [PartDelta(delta.part, delta.text[:cut]), PartDelta(delta.part, delta.text[cut:])]
            else:
                replayed.append(delta)
        rest = ReplayFilter(parts_of(received)).filter(replayed)
        answer = fold([received, rest])
        assert (answer.parts, answer.signatures) == (whole.parts, whole.signatures), at
        assert (answer.usage, answer.finish) == (Usage(1, 2), "tool_calls")


def test_replay_of_another_answer_is_a_mismatch() -> None:
    """A replay whose part is of another kind is a mismatch."""
    with pytest.raises(ReplayMismatch):
        ReplayFilter([TextPart("Hello")]).filter([PartStarted(0, "reasoning")])
