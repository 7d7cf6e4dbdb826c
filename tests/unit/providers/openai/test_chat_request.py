"""Requests as Chat Completions bodies."""

from typing import Any

import pytest

from providers.base import (
    ChatMessage,
    ChatRequest,
    CitationPart,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolName,
    ToolResultPart,
)
from providers.openai.chat_request import chat_arguments, chat_body
from tests.answers import chat_request, route

TOOL = Tool("weather", "Tells it.", {"type": "object", "properties": {"city": {"type": "string"}}})


def convert(role: Role, *parts: Part, **quirks: Any) -> list[dict[str, Any]]:
    """The messages that one of ours becomes."""
    request = ChatRequest(model="m", messages=(ChatMessage(role, parts),))
    messages: list[dict[str, Any]] = chat_body(request, route(**quirks))["messages"]
    return messages


def test_plain_question() -> None:
    """A question is a system message, a user message, and a wish for usage."""
    assert chat_body(chat_request("Hi", system="Be kind."), route()) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_images() -> None:
    """An image goes as a data URL, or as the address that the provider fetches."""
    content = convert(
        "user", TextPart("Look"), ImagePart("image/png", data="AAA"), ImagePart("image/png", url="https://x")
    )
    assert content == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAA"}},
                {"type": "image_url", "image_url": {"url": "https://x"}},
            ],
        }
    ]


def test_tool_turn() -> None:
    """A call goes back with the assistant's message, and its result is a message of its own."""
    assert convert("assistant", TextPart("Wait."), ToolCallPart("c", "f", "")) == [
        {
            "role": "assistant",
            "content": "Wait.",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        }
    ]
    assert convert("tool", ToolResultPart("c", "rain"), ToolResultPart("d", "sun")) == [
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
        {"role": "tool", "tool_call_id": "d", "content": "sun"},
    ]
    assert convert("user", ToolResultPart("c", "rain"), TextPart("And now?")) == [
        {"role": "tool", "tool_call_id": "c", "content": "rain"},
        {"role": "user", "content": "And now?"},
    ]
    assert convert("assistant", ToolCallPart("c", "f", "{}"), ToolResultPart("c", "rain"))[1]["role"] == "tool"


def test_reasoning_goes_back_where_it_is_wanted() -> None:
    """Reasoning is left out, but for the models that want it back, and then even with a bare tool call."""
    thought = (ReasoningPart("why"), TextPart("so"))
    assert convert("assistant", *thought) == [{"role": "assistant", "content": "so"}]
    assert convert("assistant", *thought, reasoning_back=True)[0]["reasoning_content"] == "why"
    assert convert("assistant", ToolCallPart("c", "f", "{}"), reasoning_back=True)[0]["reasoning_content"] == ""
    assert "reasoning_content" not in convert("assistant", TextPart("so"), reasoning_back=True)[0]


def test_what_cannot_be_said() -> None:
    """A refusal goes back as words, and an empty message of the assistant doesn't go at all."""
    assert convert("assistant", RefusalPart("No.")) == [{"role": "assistant", "content": "No."}]
    assert convert("assistant") == []
    assert convert("assistant", ReasoningPart("why")) == []
    assert convert("user", CitationPart(url="u", title="t"), CitationPart()) == [{"role": "user", "content": "t u"}]
    assert convert("user", ToolCallPart("c", "f", "{}")) == [
        {"role": "user", "content": '{"tool": "f", "arguments": "{}"}'}
    ]


def test_tuning() -> None:
    """Parameters go under the provider's names, and what is not given is not sent."""
    request = chat_request(
        temperature=0.5, top_p=0.9, max_tokens=7, stop=["x"], seed=3, response_format={"type": "json_object"}
    )
    body = chat_body(request, route(max_tokens_field="max_completion_tokens", stream_options={"a": 1}, body={"b": 2}))
    assert {name: body[name] for name in body if name not in ("model", "messages", "stream")} == {
        "stream_options": {"include_usage": True, "a": 1},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 7,
        "stop": ["x"],
        "seed": 3,
        "response_format": {"type": "json_object"},
        "b": 2,
    }


def test_refused_parameters_are_left_out() -> None:
    """What a model refuses is dropped: always, or unless it doesn't think."""
    quirks: dict[str, Any] = {"drops": frozenset({"seed"}), "drops_thinking": frozenset({"top_p"})}
    body = chat_body(chat_request(seed=1, top_p=0.5), route(**quirks))
    assert "seed" not in body
    assert "top_p" not in body
    assert chat_body(chat_request(top_p=0.5, reasoning="none"), route(**quirks))["top_p"] == 0.5


@pytest.mark.parametrize(
    ("quirks", "effort", "expected"),
    [
        ({}, "high", {"reasoning_effort": "high"}),
        ({"efforts": {"max": "xhigh"}}, "max", {"reasoning_effort": "xhigh"}),
        ({"reasoning": "thinking"}, "low", {"thinking": {"type": "enabled"}}),
        ({"reasoning": "thinking"}, "none", {"thinking": {"type": "disabled"}}),
        ({"reasoning": "fixed"}, "high", {}),
        ({}, None, {}),
    ],
)
def test_reasoning_styles(quirks: dict[str, Any], effort: Any, expected: dict[str, Any]) -> None:
    """How hard to think is said in each provider's way."""
    body = chat_body(chat_request(reasoning=effort), route(**quirks))
    assert {name: body[name] for name in ("reasoning_effort", "thinking") if name in body} == expected


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("required", "required"),
        ("none", "none"),
        (ToolName("weather"), {"type": "function", "function": {"name": "weather"}}),
        (None, None),
    ],
)
def test_tools(choice: Any, sent: object) -> None:
    """Tools and the choice among them go in the provider's shape, with what its quirks add."""
    body = chat_body(
        chat_request(tools=(TOOL, Tool("now")), tool_choice=choice), route(tools_body={"tool_stream": True})
    )
    assert body["tools"][0] == {
        "type": "function",
        "function": {"name": "weather", "description": "Tells it.", "parameters": TOOL.parameters},
    }
    assert body["tools"][1]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert body.get("tool_choice") == sent
    assert body["tool_stream"] is True


def test_tools_may_forbid_reasoning() -> None:
    """A model that takes tools only without reasoning is told not to reason when it gets tools."""
    reasoning_route = route(tools_without_reasoning=True)
    assert chat_body(chat_request(tools=(TOOL,), reasoning="high"), reasoning_route)["reasoning_effort"] == "none"
    assert chat_body(chat_request(reasoning="high"), reasoning_route)["reasoning_effort"] == "high"


def test_unknown_fields_go_around_the_sdk() -> None:
    """What the SDK has no argument for goes into its extra body."""
    arguments = chat_arguments(chat_request(reasoning="low"), route(reasoning="thinking"))
    assert arguments["extra_body"] == {"thinking": {"type": "enabled"}}
    assert "extra_body" not in chat_arguments(chat_request(), route())


def test_files() -> None:
    """A file goes with its name, as a data URL."""
    content = convert("user", FilePart("application/pdf", data="AAA", name="a.pdf"))[0]["content"]
    assert content == [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAA"}}]


def test_signed_calls_go_back() -> None:
    """Google's thought signature goes back with its call, and to nobody else."""
    call = ToolCallPart("c", "f", "{}", signature="s")
    sent = convert("assistant", call, signed_calls=True)[0]["tool_calls"][0]
    assert sent["extra_content"] == {"google": {"thought_signature": "s"}}
    assert "extra_content" not in convert("assistant", call)[0]["tool_calls"][0]


def test_reasoning_details_go_back() -> None:
    """OpenRouter's details go back as they came: signed text, and a summary with what is encrypted behind it."""
    parts = (
        ReasoningPart("why", signature='{"type": "reasoning.text", "signature": "s", "format": "x", "index": 0}'),
        ReasoningPart("sum", signature='{"type": "reasoning.encrypted", "data": "d"}'),
        ReasoningPart("", redacted=True, signature='{"type": "reasoning.encrypted", "data": "e"}'),
        ReasoningPart("other", signature="no JSON"),
        ReasoningPart("none"),
        TextPart("so"),
    )
    assert convert("assistant", *parts, reasoning_details=True)[0]["reasoning_details"] == [
        {"type": "reasoning.text", "signature": "s", "format": "x", "index": 0, "text": "why"},
        {"type": "reasoning.summary", "summary": "sum"},
        {"type": "reasoning.encrypted", "data": "d"},
        {"type": "reasoning.encrypted", "data": "e"},
    ]
    assert "reasoning_details" not in convert("assistant", *parts)[0]
