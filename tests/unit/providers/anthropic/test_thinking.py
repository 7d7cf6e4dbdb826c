"""The thinking of a request, for each effort, and in an answer whose calls are answered."""

from typing import Any

import pytest
from msgspec import structs

from providers.base import (
    ChatMessage,
    ChatRequest,
    Params,
    Part,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from tests.provider_requests import chat_request
from tests.unit.providers.anthropic.test_request import body

ADAPTIVE = {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize(
    ("effort", "quirks", "expected"),
    [
        (None, {}, {}),
        (None, {"thinking_shown": True}, {"thinking": ADAPTIVE}),
        ("high", {}, {"thinking": ADAPTIVE, "output_config": {"effort": "high"}}),
        ("none", {}, {"thinking": {"type": "disabled"}}),
        ("none", {"thinking_off": "between_tools"}, {"thinking": {"type": "between_tools"}}),
        ("none", {"thinking_off": ""}, {"output_config": {"effort": "low"}}),
        ("low", {"reasoning": "budget"}, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("max", {"reasoning": "budget"}, {"thinking": {"type": "enabled", "budget_tokens": 7168}}),
        ("none", {"reasoning": "budget"}, {"thinking": {"type": "disabled"}}),
        (None, {"reasoning": "budget"}, {}),
        ("high", {"reasoning": "fixed"}, {}),
    ],
)
def test_reasoning(effort: Any, quirks: dict[str, Any], expected: dict[str, Any]) -> None:
    """The reasoning effort is sent in the form that the model takes. Adaptive thinking is requested with a summary."""
    sent = body(chat_request(reasoning=effort), **quirks)
    assert {name: sent[name] for name in ("thinking", "output_config") if name in sent} == expected


def test_no_room_for_thinking() -> None:
    """A token limit that leaves no room for thinking turns thinking off."""
    sent = body(chat_request(reasoning="high", max_tokens=1500), reasoning="budget")
    assert sent["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(
    ("style", "effort", "thought", "thinking", "kinds"),
    [
        ("budget", "high", True, "enabled", ["thinking", "tool_use"]),
        ("budget", "high", False, "disabled", ["tool_use"]),
        ("budget", None, True, None, ["tool_use"]),
        ("budget", "none", True, "disabled", ["tool_use"]),
        ("adaptive", "high", False, "adaptive", ["tool_use"]),
        ("adaptive", "none", True, "disabled", ["tool_use"]),
        ("adaptive", None, True, None, ["thinking", "tool_use"]),
    ],
)
def test_thinking_agrees_with_the_calls_that_are_answered(
    style: str, effort: Any, thought: bool, thinking: str | None, kinds: list[str]
) -> None:
    """With a budget, thinking is turned off if the answer with the calls doesn't begin with a thinking block. If thinking
    is off, thinking blocks are left out. After the user's next message, thinking can be on again."""
    call = ToolCallPart("c", "f", "{}")
    parts: tuple[Part, ...] = (ReasoningPart("why", signature="c2ln"), call) if thought else (call,)
    messages = (
        ChatMessage("user", (TextPart("Hi"),)),
        ChatMessage("assistant", parts),
        ChatMessage("user", (ToolResultPart("c", "ok"),)),
    )
    request = ChatRequest(model="m", messages=messages, params=Params(reasoning=effort), tools=(Tool("f"),))
    sent = body(request, reasoning=style)
    assert sent.get("thinking", {}).get("type") == thinking
    assert [block["type"] for block in sent["messages"][1]["content"]] == kinds
    later = (*messages, ChatMessage("assistant", (TextPart("So."),)), ChatMessage("user", (TextPart("And?"),)))
    sent = body(structs.replace(request, messages=later, params=Params(reasoning="high")), reasoning="budget")
    assert sent["thinking"]["type"] == "enabled"
