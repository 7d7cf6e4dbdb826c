"""The content blocks of a message are decoded to parts: what they begin with, and what their deltas add."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.providers.anthropic.test_events import STOP, block, decode, delta, stopping


def test_tool_input_at_the_start() -> None:
    """Input at the start of a tool call is its arguments, unless later deltas replace it."""
    start = block(0, "tool_use", id="t", name="f", input={"a": 1})
    end = {"type": "content_block_stop", "index": 0}
    assert decode(start, end, *STOP).parts == [("tool_call", '{"a": 1}')]
    piece = delta(0, "input_json_delta", partial_json="{}")
    assert decode(start, piece, end, *STOP).parts == [("tool_call", "{}")]


def test_thinking_without_text() -> None:
    """Hidden thinking is a part with a signature. An empty thinking block isn't a part.

    The start of a block may already have thinking and its signature.
    """
    answer = decode(block(0, "thinking", thinking=""), delta(0, "signature_delta", signature="s"), *STOP)
    assert (answer.parts, answer.signatures) == ([("reasoning", "")], {0: "s"})
    start = block(0, "thinking", thinking="a", signature="s")
    answer = decode(start, delta(0, "thinking_delta", thinking="b"), *STOP)
    assert (answer.parts, answer.signatures) == ([("reasoning", "ab")], {0: "s"})
    nothing = [delta(0, "thinking_delta", thinking=""), delta(0, "signature_delta", signature="")]
    assert decode(block(0, "thinking", thinking=""), *nothing, *STOP).parts == []


@pytest.mark.parametrize(
    ("start", "pieces"),
    [
        ("", ["I th", "ink"]),
        ("I th", ["ink"]),
        ("I think", ["I th", "ink"]),
        ("I think", ["I think"]),
        ("I th", ["I think"]),
        ("I th", ["I t", "hink"]),
        ("I", ["I", " think"]),
        ("I think", []),
        ("I ", ["", "think"]),
        ("I th", [{"text": "ink"}]),
    ],
)
def test_thinking_is_said_once(start: str, pieces: list[Any]) -> None:
    """Some hosts repeat the thinking at the start of a block in its deltas, or send it in another field."""
    answer = decode(
        block(0, "thinking", thinking=start),
        *(delta(0, "thinking_delta", **(p if isinstance(p, dict) else {"thinking": p})) for p in pieces),
        block(1, "text", text="So"),
        *stopping("end_turn"),
    )
    assert answer.parts == [("reasoning", "I think"), ("text", "So")]


@given(st.text("ab", min_size=1, max_size=8), st.lists(st.integers(1, 3), min_size=1, max_size=5))
def test_repeated_thinking_in_any_pieces(thought: str, sizes: list[int]) -> None:
    """Thinking that the deltas repeat as a whole is said once, whatever its pieces."""
    pieces = [thought[at : at + sizes[0]] for at in range(0, len(thought), sizes[0])]
    answer = decode(
        block(0, "thinking", thinking=thought),
        *(delta(0, "thinking_delta", thinking=piece) for piece in pieces),
        *stopping("end_turn"),
    )
    assert answer.text("reasoning") == thought


def test_other_thinking_after_the_start_is_kept() -> None:
    """Thinking that only begins like the start of its block isn't a repetition."""
    answer = decode(
        block(0, "thinking", thinking="I see. "),
        *(delta(0, "thinking_delta", thinking=piece) for piece in ("I", " think.")),
        *stopping("end_turn"),
    )
    assert answer.text("reasoning") == "I see. I think."


def test_thinking_of_another_block_with_the_same_index_is_kept() -> None:
    """The thinking at the start of a block isn't removed from a later block, even if a host gives both one index."""
    answer = decode(
        block(0, "thinking", thinking="Wait. "),
        {"type": "content_block_stop", "index": 0},
        block(0, "thinking", thinking=""),
        delta(0, "thinking_delta", thinking="Wait. I see."),
        *STOP,
    )
    assert answer.parts == [("reasoning", "Wait. "), ("reasoning", "Wait. I see.")]
