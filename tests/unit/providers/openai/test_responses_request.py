"""Requests are converted to bodies of the Responses API."""

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
    TextPart,
    Tool,
    ToolCallPart,
    ToolName,
    ToolResultPart,
)
from providers.openai.responses_request import responses_arguments, responses_body
from tests.provider_requests import chat_request, route

ROUTE = route("openai_responses")


def items(*messages: tuple[Any, list[Part]], **quirks: Any) -> Any:
    """Return the input items for these messages."""
    received = ChatRequest(model="m", messages=tuple(ChatMessage(role, tuple(parts)) for role, parts in messages))
    return responses_body(received, route("openai_responses", **quirks))["input"]


def test_tool_calls_and_results() -> None:
    """Reasoning with its id and content, the call and its result are sent back unchanged and in order."""
    call = ToolCallPart("c1", "tool", '{"a":1}')
    assert items(
        ("user", [TextPart("Hi")]),
        ("assistant", [ReasoningPart("Why", signature="rs_1:gA=="), TextPart("Let me see."), call]),
        ("tool", [ToolResultPart("c1", "42")]),
        ("assistant", [ReasoningPart("", redacted=True, signature="gB"), TextPart("It is 42.")]),
    ) == [
        {"role": "user", "content": "Hi"},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "Why"}],
            "encrypted_content": "gA==",
        },
        {"role": "assistant", "content": "Let me see."},
        {"type": "function_call", "call_id": "c1", "name": "tool", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
        {"type": "reasoning", "summary": [], "encrypted_content": "gB"},
        {"role": "assistant", "content": "It is 42."},
    ]


def test_trailing_reasoning_is_left_out() -> None:
    """Reasoning at the end, from an answer that was stopped before its text, is left out because the API rejects it."""
    assert items(("assistant", [TextPart("a"), ReasoningPart("b", signature="rs:c")])) == [
        {"role": "assistant", "content": "a"}
    ]


def test_reasoning_without_a_signature() -> None:
    """Reasoning without a signature is left out, or sent as text to providers that require it."""
    parts: list[Part] = [ReasoningPart("Why"), ToolCallPart("c", "t", "")]
    call = {"type": "function_call", "call_id": "c", "name": "t", "arguments": "{}"}
    assert items(("assistant", parts)) == [call]
    thought = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Why"}]}
    assert items(("assistant", parts), reasoning_back=True) == [thought, call]


def test_content() -> None:
    """Images and files are sent as data or as a URL. A citation is sent as text: its title and URL."""
    assert items(
        (
            "user",
            [
                TextPart("See"),
                ImagePart("image/png", data="aGk="),
                ImagePart("image/png", url="https://a.example/b.png"),
                FilePart("application/pdf", data="aGk=", name="a.pdf"),
                FilePart("application/pdf", url="https://a.example/b.pdf"),
                CitationPart("https://c.example", "C"),
            ],
        )
    ) == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "See"},
                {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aGk="},
                {"type": "input_image", "detail": "auto", "image_url": "https://a.example/b.png"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="},
                {"type": "input_file", "file_url": "https://a.example/b.pdf"},
                {"type": "input_text", "text": "C https://c.example"},
            ],
        }
    ]


def test_results_with_images() -> None:
    """An image next to a tool result is sent after it, in a user message."""
    found = items(("tool", [ToolResultPart("c", "a picture"), ImagePart("image/png", data="aGk=")]))
    assert [(item.get("type"), item.get("role")) for item in found] == [("function_call_output", None), (None, "user")]


def test_refusal_is_sent_back() -> None:
    """A refusal is sent back as the assistant's text."""
    assert items(("assistant", [RefusalPart("No.")])) == [{"role": "assistant", "content": "No."}]


def test_parameters() -> None:
    """Supported parameters are sent under the API's names. Those that the API or the model rejects are left out."""
    schema = {"type": "object", "properties": {}}
    received = chat_request(
        "Hi",
        system="Be brief.",
        temperature=0.5,
        top_p=0.5,
        max_tokens=9,
        stop=["x"],
        seed=1,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}},
    )
    body = responses_body(received, ROUTE)
    assert body == {
        "model": "m",
        "input": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "store": False,
        "instructions": "Be brief.",
        "temperature": 0.5,
        "top_p": 0.5,
        "max_output_tokens": 9,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}},
    }
    refusing = route("openai_responses", drops_thinking=frozenset({"temperature", "top_p"}))
    assert "temperature" not in responses_body(received, refusing)
    assert "temperature" in responses_body(chat_request(temperature=1, reasoning="none"), refusing)


def test_json_object() -> None:
    """A response format without a schema is sent unchanged."""
    received = chat_request(response_format={"type": "json_object"})
    assert responses_body(received, ROUTE)["text"] == {"format": {"type": "json_object"}}


@pytest.mark.parametrize(
    ("effort", "quirks", "sent"),
    [
        (None, {}, None),
        (None, {"thinking_shown": True}, {"summary": "auto"}),
        ("none", {}, {"effort": "none"}),
        ("low", {}, {"effort": "low", "summary": "auto"}),
        ("max", {"efforts": {"max": "xhigh"}}, {"effort": "xhigh", "summary": "auto"}),
        ("low", {"reasoning": "fixed"}, None),
    ],
)
def test_reasoning(effort: Any, quirks: dict[str, Any], sent: Any) -> None:
    """A requested effort is sent in the model's terms, and a summary of the reasoning is requested."""
    body = responses_body(chat_request(reasoning=effort), route("openai_responses", **quirks))
    assert body.get("reasoning") == sent


def test_tools() -> None:
    """Tools and the tool choice are sent. The schema isn't declared strict, because most schemas don't allow that."""
    received = chat_request(tools=(Tool("t", "Does it"),), tool_choice=ToolName("t"))
    body = responses_body(received, ROUTE)
    assert body["tools"] == [
        {
            "type": "function",
            "name": "t",
            "description": "Does it",
            "parameters": {"type": "object", "properties": {}},
            "strict": False,
        }
    ]
    assert body["tool_choice"] == {"type": "function", "name": "t"}
    assert responses_body(chat_request(tools=(Tool("t"),), tool_choice="required"), ROUTE)["tool_choice"] == "required"


def test_encrypted_reasoning_is_requested() -> None:
    """Encrypted reasoning is requested only from a model that thinks, because other models reject the request."""
    assert "include" not in responses_body(chat_request(), ROUTE)
    thinking = route("openai_responses", features=("chat", "thinking"))
    assert responses_body(chat_request(), thinking)["include"] == ["reasoning.encrypted_content"]


def test_more_fields() -> None:
    """The quirk `body` adds fields. Those that the SDK has no argument for are sent through its `extra_body`."""
    arguments = responses_arguments(chat_request(), route("openai_responses", body={"search": True, "store": True}))
    assert arguments["extra_body"] == {"search": True}
    assert arguments["store"] is True


def test_background() -> None:
    """A background answer is stored by the provider, unlike other answers."""
    body = responses_body(chat_request(), route("openai_responses", background=True))
    assert (body["background"], body["store"]) == (True, True)
