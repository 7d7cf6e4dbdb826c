"""Tests of what the chat says about a turn."""

from __future__ import annotations

from gateway.commands.terminal.turn_notes import ending_note, money
from turnwire.client import (
    Cost,
    Timing,
    TurnCancelled,
    TurnCompleted,
    Usage,
)


def test_the_ending_is_told() -> None:
    """The line after an answer has why it isn't complete, its tokens, its cost and its time."""
    usage, cost, timing = Usage(input_tokens=1200, output_tokens=3), Cost("0.001230000"), Timing(total_ms=1234)
    done = ending_note(TurnCompleted(finish_reason="stop", usage=usage, cost=cost, timing=timing))
    assert done == "1,200 tokens in, 3 out · $0.00123 · 1.2 s"
    assert ending_note(TurnCompleted(finish_reason="length")).startswith("The answer was cut off")
    assert ending_note(TurnCancelled(by="client")) == "Stopped."
    assert "(limit)" in ending_note(TurnCancelled(by="limit"))
    assert [money(Cost(amount)) for amount in ("0.000000", "2.50", "3")] == ["$0", "$2.5", "$3"]
