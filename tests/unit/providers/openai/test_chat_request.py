"""Requests are converted to bodies of Chat Completions."""

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
from tests.provider_requests import chat_request, route

TOOL = Tool("weather", "Tells it.", {"type": "object", "properties": {"city": {"type": "string"}}})


def convert(role: Role, *parts: Part, **quirks: Any) -> list[dict[str, Any]]:
    """Return the messages that one message with these parts is converted to."""
    request = ChatRequest(model="m", messages=(ChatMessage(role, parts),))
    messages: list[dict[str, Any]] = chat_body(request, route(**quirks))["messages"]
    return messages


def test_plain_request() -> None:
    """A request has a system message and a user message, and asks for usage."""
    assert chat_body(chat_request("Hi", system="Be kind."), route()) == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_images() -> None:
    """An image is sent as a data URL, or as the URL that the provider fetches."""
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


def test_tool_calls_and_results() -> None:
    """A call is sent in the assistant's message, and its result as a message of its own."""
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


def test_reasoning_is_sent_back_where_required() -> None:
    """Reasoning is sent back only to models that require it. For them, a tool call without reasoning gets a blank."""
    thought = (ReasoningPart("why"), TextPart("so"))
    assert convert("assistant", *thought) == [{"role": "assistant", "content": "so"}]
    assert convert("assistant", *thought, reasoning_back=True)[0]["reasoning_content"] == "why"
    assert convert("assistant", ToolCallPart("c", "f", "{}"), reasoning_back=True)[0]["reasoning_content"] == " "
    assert "reasoning_content" not in convert("assistant", TextPart("so"), reasoning_back=True)[0]


def test_parts_without_an_equivalent() -> None:
    """A refusal is sent back as text, a citation as title and URL, and an empty assistant message is left out."""
    assert convert("assistant", RefusalPart("No.")) == [{"role": "assistant", "content": "No."}]
    assert convert("assistant") == []
    assert convert("assistant", ReasoningPart("why")) == []
    assert convert("user", CitationPart(url="u", title="t"), CitationPart()) == [{"role": "user", "content": "t u"}]
    assert convert("user", ToolCallPart("c", "f", "{}")) == [
        {"role": "user", "content": '{"tool": "f", "arguments": "{}"}'}
    ]


def test_parameters() -> None:
    """Parameters are sent under the provider's names, and parameters that aren't set are left out."""
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


def test_rejected_parameters_are_dropped() -> None:
    """Rejected parameters are dropped: some always, others unless reasoning is turned off."""
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
    """The reasoning effort is sent in each provider's format."""
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
    """Tools and the tool choice are sent in the provider's format, with the fields that its quirks add."""
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
    """If a model only takes tools without reasoning, reasoning is turned off in a request with tools."""
    reasoning_route = route(tools_without_reasoning=True)
    assert chat_body(chat_request(tools=(TOOL,), reasoning="high"), reasoning_route)["reasoning_effort"] == "none"
    assert chat_body(chat_request(reasoning="high"), reasoning_route)["reasoning_effort"] == "high"


def test_unknown_fields_are_sent_as_extra_body() -> None:
    """Fields that the SDK has no argument for are sent through its `extra_body`."""
    arguments = chat_arguments(chat_request(reasoning="low"), route(reasoning="thinking"))
    assert arguments["extra_body"] == {"thinking": {"type": "enabled"}}
    assert "extra_body" not in chat_arguments(chat_request(), route())


def test_files() -> None:
    """A file is sent with its name, as a data URL."""
    content = convert("user", FilePart("application/pdf", data="AAA", name="a.pdf"))[0]["content"]
    assert content == [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAA"}}]


def test_signed_calls_are_sent_back() -> None:
    """With this quirk, Google's thought signature is sent back with its call. Otherwise the signature is left out."""
    call = ToolCallPart("c", "f", "{}", signature="s")
    sent = convert("assistant", call, signed_calls=True)[0]["tool_calls"][0]
    assert sent["extra_content"] == {"google": {"thought_signature": "s"}}
    assert "extra_content" not in convert("assistant", call)[0]["tool_calls"][0]


def test_reasoning_details_are_sent_back() -> None:
    """OpenRouter's details are sent back: signed text unchanged, and a summary before its encrypted content.

    Reasoning without a detail is left out. Without the quirk, no details are sent.
    """
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
