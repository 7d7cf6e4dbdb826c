"""The estimated tokens of requests and answers."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gateway.turns.token_estimate import estimate_tokens, estimate_usage
from providers.base import (
    ChatMessage,
    ChatRequest,
    ImagePart,
    Part,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    Usage,
)


def test_a_usage_is_estimated() -> None:
    """The input estimate has messages, system prompt, tools and images. The output estimate lists reasoning tokens
    separately."""
    messages = (ChatMessage("user", (TextPart("x" * 40), ImagePart("image/png", data="A"))),)
    question = ChatRequest(model="m", messages=messages, system="y" * 40)
    answer: list[Part] = [ReasoningPart("z" * 40), TextPart("z" * 20)]
    assert estimate_usage(question, answer) == Usage(20 + 1600, 15, reasoning_tokens=10, estimated=True)
    assert estimate_usage(question, []) == Usage(1620, 0, estimated=True)
    tools = estimate_usage(replace(question, tools=(Tool("f", "x" * 400),)), [])
    assert tools.input_tokens > 1720


@pytest.mark.parametrize(
    ("parts", "tokens"),
    [
        ([], 0),
        ([TextPart("abcd")], 1),
        ([TextPart("abcde")], 2),
        ([TextPart("ééé"), ToolCallPart("c", "n", "{}"), ToolResultPart("c", "x" * 8)], 4),
        ([ImagePart("image/png", data="x" * 1000)], 0),
    ],
    ids=["nothing", "four", "five", "several", "image"],
)
def test_tokens_are_estimated_by_bytes(parts: list[Part], tokens: int) -> None:
    """Text, arguments and outputs have one token for every four bytes, rounded up."""
    assert estimate_tokens(parts) == tokens
    assert estimate_tokens(tuple(parts)) == tokens
