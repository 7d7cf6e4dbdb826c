"""Requests are converted to bodies of the Messages API."""

from typing import Any

import pytest

from providers.anthropic.request import messages_body
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
from tests.provider_requests import chat_request, route


def body(request: ChatRequest, **quirks: Any) -> dict[str, Any]:
    return messages_body(request, route("anthropic", **({"reasoning": "adaptive"} | quirks)))


def blocks(role: Role, *parts: Part) -> list[dict[str, Any]]:
    """Return the content blocks for one message with these parts."""
    messages = body(ChatRequest(model="m", messages=(ChatMessage(role, parts),)))["messages"]
    return [block for message in messages for block in message["content"]]


def test_plain_request() -> None:
    """A request always has `max_tokens`, either the given value or a default."""
    assert body(chat_request("Hi", system="Be kind.")) == {
        "model": "m",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "stream": True,
        "system": "Be kind.",
    }
    assert body(chat_request(max_tokens=5))["max_tokens"] == 5


def test_system_messages_join_the_system_prompt() -> None:
    """System messages inside the conversation are appended to the system prompt."""
    messages = (ChatMessage("system", (TextPart("B"),)), ChatMessage("user", (TextPart("Hi"),)))
    sent = body(ChatRequest(model="m", messages=messages, system="A"))
    assert sent["system"] == "A\n\nB"
    assert len(sent["messages"]) == 1


def test_parameters() -> None:
    """Parameters are sent, `temperature` and `top_p` in `extra_body`. The seed and what the model rejects are left out."""
    sent = body(chat_request(temperature=0.0, top_p=0.9, seed=1, stop=["x"]), drops=frozenset({"temperature", "top_p"}))
    assert sent["stop_sequences"] == ["x"]
    assert not {"temperature", "top_p", "seed", "extra_body"} & sent.keys()
    assert body(chat_request(temperature=0.0, top_p=0.9))["extra_body"] == {"temperature": 0.0, "top_p": 0.9}


def test_response_format() -> None:
    """A JSON schema is sent along with the effort. Plain text needs no field."""
    schema = {"type": "object"}
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    sent = body(chat_request(response_format=response_format, reasoning="low"))
    assert sent["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}
    assert "output_config" not in body(chat_request(response_format={"type": "text"}))


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        (ToolName("f"), {"type": "tool", "name": "f"}),
        (None, None),
    ],
)
def test_tools(choice: Any, sent: object) -> None:
    """Tools and the tool choice are sent in the API's format."""
    request_body = body(chat_request(tools=(Tool("f", "Does it.", {"type": "object"}), Tool("g")), tool_choice=choice))
    assert request_body["tools"][0] == {"name": "f", "description": "Does it.", "input_schema": {"type": "object"}}
    assert request_body["tools"][1]["input_schema"] == {"type": "object", "properties": {}}
    assert request_body.get("tool_choice") == sent


def test_thinking_is_sent_back_unchanged() -> None:
    """Thinking is sent back unchanged with its signature. Thinking without a signature is left out."""
    assert blocks(
        "assistant",
        ReasoningPart("why", signature="s"),
        ReasoningPart("", redacted=True, signature="d"),
        ReasoningPart("unsigned"),
        TextPart("so"),
    ) == [
        {"type": "thinking", "thinking": "why", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "so"},
    ]


def test_tool_calls_and_results() -> None:
    """A tool call's arguments are sent back as an object even if they aren't one. A failed result has its error flag."""
    assert [
        block["input"]
        for block in blocks("assistant", *(ToolCallPart("c", "f", text) for text in ('{"a": 1}', "", "[1]", '{"a')))
    ] == [{"a": 1}, {}, {"arguments": "[1]"}, {"arguments": '{"a'}]
    assert blocks("tool", ToolResultPart("c", "rain"), ToolResultPart("d", "no", error=True)) == [
        {"type": "tool_result", "tool_use_id": "c", "content": "rain"},
        {"type": "tool_result", "tool_use_id": "d", "content": "no", "is_error": True},
    ]


def test_images_and_other_parts() -> None:
    """Images are sent as data or URL, a refusal as text. Blank text and citations are left out."""
    assert blocks("user", ImagePart("image/png", data="AAA"), ImagePart("image/png", url="https://x")) == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://x"}},
    ]
    assert blocks("user", TextPart(" "), CitationPart()) == []
    assert blocks("assistant", RefusalPart("No.")) == [{"type": "text", "text": "No."}]


def test_documents() -> None:
    """A document is a PDF as data or URL, or plain text, which isn't sent in base64."""
    assert blocks(
        "user",
        FilePart("application/pdf", data="AAA", name="a.pdf"),
        FilePart("application/pdf", url="https://x/b.pdf"),
        FilePart("text/markdown", data="IyBIaQ=="),
    ) == [
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "AAA"},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "url", "url": "https://x/b.pdf"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "# Hi"}},
    ]


def test_data_urls() -> None:
    """A data URL is sent as data, because this API only accepts web URLs."""
    assert blocks("user", ImagePart("image/png", url="data:image/webp;base64,AAA=")) == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "AAA="}}
    ]


def test_trailing_thinking_is_left_out() -> None:
    """Thinking at the end of an answer that was stopped is left out because the API rejects it."""
    thought = ReasoningPart("why", signature="s")
    assert [block["type"] for block in blocks("assistant", thought, TextPart("a"), thought)] == ["thinking", "text"]
