"""Whole messages in a stream of chunks: they add what the deltas before them lack, and repeat nothing."""

from __future__ import annotations

from typing import Any

from tests.unit.providers.test_endings import call, chat, delta


def test_a_whole_message() -> None:
    """A message that is sent as a whole is decoded. If its text was streamed before, it isn't repeated."""
    whole = {"message": {"content": "Hello"}, "finish_reason": "stop"}
    assert chat(whole).parts == [("text", "Hello")]
    assert chat(delta(content="Hel"), delta(content="lo"), whole).parts == [("text", "Hello")]


def test_a_whole_message_in_a_chunk() -> None:
    """A whole message fills up what the deltas before it lack, and repeats nothing."""

    def message(**fields: Any) -> dict[str, Any]:
        return {"message": fields, "finish_reason": "stop"}

    said = [delta(content="Hel"), delta(content="lo")]
    assert chat(*said, message(content="Hello, you.")).parts == [("text", "Hello, you.")]
    assert chat(*said, message(content=[{"type": "text", "text": "Hello!"}])).parts == [("text", "Hello!")]
    for repeated in ("Hello", "Hel", "", None, "Something else"):
        assert chat(*said, message(content=repeated)).parts == [("text", "Hello")]
    assert chat(*said, message(content="Hello", **call('{"a":1}'))).parts == [
        ("text", "Hello"),
        ("tool_call", '{"a":1}'),
    ]
    begun = [delta(**call("")), delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}])]
    assert chat(*begun, message(**call('{"a":1}'))).parts == [("tool_call", '{"a":1}')]
    growing = [message(content="Hello"[:size]) for size in range(1, 6)]
    assert chat(*growing).parts == [("text", "Hello")]
    assert chat(delta(reasoning_content="why"), message(reasoning_content="why", content="so")).parts == [
        ("reasoning", "why"),
        ("text", "so"),
    ]


def test_a_whole_message_after_lists() -> None:
    """A whole message fills up a text that arrived in lists of pieces."""
    piece = {"delta": {"content": [{"type": "text", "text": "ab"}]}}
    whole = {"message": {"content": "abc"}, "finish_reason": "stop"}
    assert chat(piece, whole).parts == [("text", "abc")]
