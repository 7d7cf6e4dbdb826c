"""Requests as Messages bodies."""

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
from tests.answers import chat_request, route

ADAPTIVE = {"type": "adaptive", "display": "summarized"}


def body(request: ChatRequest, **quirks: Any) -> dict[str, Any]:
    return messages_body(request, route("anthropic", **({"reasoning": "adaptive"} | quirks)))


def blocks(role: Role, *parts: Part) -> list[dict[str, Any]]:
    """The blocks that one of our messages becomes."""
    messages = body(ChatRequest(model="m", messages=(ChatMessage(role, parts),)))["messages"]
    return [block for message in messages for block in message["content"]]


def test_plain_question() -> None:
    """A question has a limit of tokens, whether or not one was given."""
    assert body(chat_request("Hi", system="Be kind.")) == {
        "model": "m",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "stream": True,
        "system": "Be kind.",
    }
    assert body(chat_request(max_tokens=5))["max_tokens"] == 5


def test_system_messages_are_the_system() -> None:
    """System messages inside the conversation join the system prompt."""
    messages = (ChatMessage("system", (TextPart("B"),)), ChatMessage("user", (TextPart("Hi"),)))
    sent = body(ChatRequest(model="m", messages=messages, system="A"))
    assert sent["system"] == "A\n\nB"
    assert len(sent["messages"]) == 1


def test_tuning() -> None:
    """Parameters that the API has are sent; what it refuses is dropped, as is a seed."""
    sent = body(chat_request(temperature=0.0, top_p=0.9, seed=1, stop=["x"]), drops=frozenset({"temperature", "top_p"}))
    assert sent["stop_sequences"] == ["x"]
    assert not {"temperature", "top_p", "seed", "extra_body"} & sent.keys()
    assert body(chat_request(temperature=0.0, top_p=0.9))["extra_body"] == {"temperature": 0.0, "top_p": 0.9}


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
    """How hard to think is said as each model takes it, and its thoughts are asked to be shown."""
    sent = body(chat_request(reasoning=effort), **quirks)
    assert {name: sent[name] for name in ("thinking", "output_config") if name in sent} == expected


def test_no_room_to_think() -> None:
    """A limit that leaves no room for thinking turns it off."""
    sent = body(chat_request(reasoning="high", max_tokens=1500), reasoning="budget")
    assert sent["thinking"] == {"type": "disabled"}


def test_response_format() -> None:
    """A JSON schema goes along with the effort; plain text needs no word."""
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
    """Tools and the choice among them go in the API's shape."""
    request_body = body(chat_request(tools=(Tool("f", "Does it.", {"type": "object"}), Tool("g")), tool_choice=choice))
    assert request_body["tools"][0] == {"name": "f", "description": "Does it.", "input_schema": {"type": "object"}}
    assert request_body["tools"][1]["input_schema"] == {"type": "object", "properties": {}}
    assert request_body.get("tool_choice") == sent


def test_thinking_goes_back_unchanged() -> None:
    """Thinking and its signature go back as they came; without a signature they can't."""
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


def test_tool_turn() -> None:
    """A call goes back as an object, whatever the model wrote, and its result with what went wrong."""
    assert [
        block["input"]
        for block in blocks("assistant", *(ToolCallPart("c", "f", text) for text in ('{"a": 1}', "", "[1]", '{"a')))
    ] == [{"a": 1}, {}, {"arguments": "[1]"}, {"arguments": '{"a'}]
    assert blocks("tool", ToolResultPart("c", "rain"), ToolResultPart("d", "no", error=True)) == [
        {"type": "tool_result", "tool_use_id": "c", "content": "rain"},
        {"type": "tool_result", "tool_use_id": "d", "content": "no", "is_error": True},
    ]


def test_images_and_the_rest() -> None:
    """Images go as data or address; empty text and what the API doesn't take is left out."""
    assert blocks("user", ImagePart("image/png", data="AAA"), ImagePart("image/png", url="https://x")) == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://x"}},
    ]
    assert blocks("user", TextPart(" "), CitationPart()) == []
    assert blocks("assistant", RefusalPart("No.")) == [{"type": "text", "text": "No."}]


def test_documents() -> None:
    """A document is a PDF, by its data or address, or plain text, which isn't sent in base64."""
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


def test_an_address_that_holds_its_data() -> None:
    """A data URL is taken apart: this API knows addresses of the web only."""
    assert blocks("user", ImagePart("image/png", url="data:image/webp;base64,AAA=")) == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "AAA="}}
    ]


def test_a_thought_alone_stays() -> None:
    """The thought of an answer that was stopped before its first word would be refused: it is left out."""
    thought = ReasoningPart("why", signature="s")
    assert [block["type"] for block in blocks("assistant", thought, TextPart("a"), thought)] == ["thinking", "text"]
