"""Whole messages in a stream of chunks: each adds what the deltas before it don't have, and nothing is repeated."""

from __future__ import annotations

from typing import Any

from tests.unit.providers.test_endings import call, chat, delta


def test_a_whole_message_is_decoded_once() -> None:
    """A message that is sent as a whole is decoded. If its text was streamed before, it isn't repeated."""
    whole = {"message": {"content": "Hello"}, "finish_reason": "stop"}
    assert chat(whole).parts == [("text", "Hello")]
    assert chat(delta(content="Hel"), delta(content="lo"), whole).parts == [("text", "Hello")]


def test_a_whole_message_completes_the_deltas_before_it() -> None:
    """The rest of the text, the calls and the reasoning are added. A text that doesn't begin like the deltas adds nothing."""

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


def test_a_whole_message_completes_lists_of_pieces() -> None:
    """The text before it may have arrived in lists of pieces."""
    piece = {"delta": {"content": [{"type": "text", "text": "ab"}]}}
    whole = {"message": {"content": "abc"}, "finish_reason": "stop"}
    assert chat(piece, whole).parts == [("text", "abc")]
