"""Tests of the translation of Anthropic's Messages API: requests to starts, whole answers, errors and models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import ModelInfo as AnthropicModelInfo

from gateway.dialects.anthropic_errors import refuse
from gateway.dialects.anthropic_messages import count_of, start_of
from gateway.dialects.anthropic_messages_object import message_answer
from gateway.dialects.anthropic_models import models_page
from gateway.dialects.base import Start
from gateway.protocol.errors import CODES, ApiError
from gateway.protocol.events import Message, TurnPart
from gateway.protocol.requests import InputMessage
from gateway.protocol.results import Models, TurnView
from providers.base import (
    CitationPart,
    FilePart,
    ImagePart,
    Params,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolName,
    ToolResultPart,
    Usage,
)
from providers.model_info import ModelInfo

USER = {"role": "user", "content": "Hi"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
CALL = {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}
ADD: dict[str, Any] = {"name": "add", "input_schema": {"type": "object", "properties": {}}}


def started(headers: dict[str, str] | None = None, **body: Any) -> Start:
    return start_of(json.dumps({"messages": [USER], "max_tokens": 9, **body}).encode(), headers or {})


def refused(**body: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        started(**body)
    return error.value


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def result(content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "c1", "content": content, **fields}


def test_messages_and_their_paths() -> None:
    """Results of tools are before the rest of their message; thinking keeps its signature."""
    start = started(
        system=[
            {"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Two."},
        ],
        messages=[
            user({"type": "text", "text": "See", "cache_control": {"type": "ephemeral"}}, IMAGE),
            {"role": "assistant", "content": ""},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm", "signature": "s1"},
                    {"type": "redacted_thinking", "data": "s2"},
                    {"type": "text", "text": " "},
                    CALL,
                    {**CALL, "id": "c2"},
                ],
            },
            user(
                result([{"type": "text", "text": "3"}, IMAGE]),
                {**result("Oh", is_error=True), "tool_use_id": "c2"},
                {"type": "text", "text": "And?"},
            ),
        ],
    )
    assert start.request.system == "One.\n\nTwo."
    assert start.request.messages == [
        InputMessage(role="user", parts=[TextPart("See"), ImagePart("image/png", data="aGk=")]),
        InputMessage(
            role="assistant",
            parts=[
                ReasoningPart("Hm", signature="s1"),
                ReasoningPart("", redacted=True, signature="s2"),
                ToolCallPart("c1", "add", '{"a":1}'),
                ToolCallPart("c2", "add", '{"a":1}'),
            ],
        ),
        InputMessage(
            role="tool",
            parts=[ToolResultPart("c1", "3\n[Image: see the next message.]"), ToolResultPart("c2", "Oh", error=True)],
        ),
        InputMessage(role="user", parts=[ImagePart("image/png", data="aGk="), TextPart("And?")]),
    ]
    assert start.path("messages[3].parts[1].text") == "messages[3].content[2].text"
    assert start.path("messages[1].parts[2].call") == "messages[2].content[3].call"
    assert start.path("tools[3].parameters.type") == "tools[3].input_schema.type"
    assert start.path("params.stop[0]") == "stop[0]"
    assert start.path("params.stop") == "stop_sequences"
    assert start.path("messages[99].parts[0]") == "messages"


def test_documents_and_search_results() -> None:
    text = {"type": "text", "media_type": "text/plain", "data": "Body"}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
    blocks = {"type": "content", "content": [{"type": "text", "text": "Inner"}, IMAGE]}
    start = started(
        messages=[
            user(
                {"type": "document", "source": text, "title": "T", "context": "C"},
                {"type": "document", "source": pdf, "title": "T"},
                {"type": "document", "source": blocks},
                {"type": "document", "source": {"type": "url", "url": "https://a.example/x.pdf"}},
                {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}},
                {
                    "type": "search_result",
                    "source": "https://s",
                    "title": "S",
                    "content": [{"type": "text", "text": "R"}],
                },
            )
        ]
    )
    assert start.request.messages is not None
    assert start.request.messages[0].parts == [
        TextPart("T\nC"),
        TextPart("Body"),
        FilePart("application/pdf", data="aGk=", name="T"),
        TextPart("Inner"),
        ImagePart("image/png", data="aGk="),
        FilePart("application/pdf", url="https://a.example/x.pdf"),
        ImagePart("image/png", url="https://a.example/x.png"),
        TextPart("S\nhttps://s\nR"),
    ]


def test_parameters_and_tools() -> None:
    start = started(
        temperature=1,
        stop_sequences=["x"],
        top_k=5,
        tools=[{**ADD, "description": "Adds.", "cache_control": {"type": "ephemeral"}, "strict": True}],
        tool_choice={"type": "tool", "name": "add", "disable_parallel_tool_use": True},
        output_config={"effort": "xhigh", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        metadata={"user_id": "u"},
        service_tier="auto",
        context_management={"edits": [{"type": "clear_thinking_20251015"}]},
        unknown_field_of_next_year=1,
        n=1,
    )
    request = start.request
    assert request.params == Params(
        temperature=1,
        max_tokens=9,
        stop=["x"],
        reasoning="max",
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
    )
    assert (request.tools, request.tool_choice) == ([Tool("add", "Adds.", ADD["input_schema"])], ToolName("add"))
    assert (request.on_disconnect, start.translator, request.metadata) == ("cancel", None, {"user_id": "u"})
    assert request.turn is not None
    assert request.turn.startswith("msg_")


@pytest.mark.parametrize(
    ("body", "effort"),
    [
        ({}, None),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, "none"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 31_999}}, "max"),
        ({"thinking": {"type": "adaptive"}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, "medium"),
        ({"output_config": {"format": None}}, None),
    ],
)
def test_thinking_is_an_effort(body: dict[str, Any], effort: str | None) -> None:
    assert started(**body).request.params.reasoning == effort


@pytest.mark.parametrize(("sent", "ours"), [("auto", "auto"), ("any", "required"), ("none", "none")])
def test_tool_choices(sent: str, ours: str) -> None:
    assert started(tools=[ADD], tool_choice={"type": sent}).request.tool_choice == ours


ATTRIBUTION = "x-anthropic-billing-header: cc_version=2.1.117.48f; cc_entrypoint=cli; cch=71fea;"


@pytest.mark.parametrize(
    "system",
    [
        f"{ATTRIBUTION}\nBe brief.",
        [{"type": "text", "text": ATTRIBUTION}, {"type": "text", "text": "Be brief."}],
    ],
)
def test_the_attribution_of_claude_code_is_left_out(system: Any) -> None:
    """It differs in each request, so that a provider could never use its prompt cache."""
    assert started(system=system).request.system == "Be brief."


def test_long_names_of_tools_are_shortened_for_other_providers() -> None:
    """The client sees only its own name. The same name is shortened in the same way each time."""
    name = "mcp__" + "server" * 15
    body: dict[str, Any] = {
        "tools": [{**ADD, "name": name}],
        "tool_choice": {"type": "tool", "name": name},
        "messages": [USER, {"role": "assistant", "content": [{**CALL, "name": name}]}, user(result("3"))],
    }
    start = started(**body)
    assert start.request.tools is not None
    assert start.request.messages is not None
    short = start.request.tools[0].name
    assert len(short) == 64
    assert short.startswith("mcp__serverserver")
    assert start.request.tool_choice == ToolName(short)
    assert start.request.messages[1].parts == [ToolCallPart("c1", short, '{"a":1}')]
    parts: list[Part] = [ToolCallPart("c1", short, "{}"), ToolCallPart("c2", "add", "{}")]
    message = Message(id="a", role="assistant", parts=parts, parent=None, created_at="2026-01-31T00:00:00.000Z")
    view = TurnView("t", None, "completed", 1, 9, "m", message, finish_reason="tool_calls")
    assert [block["name"] for block in json.loads(start.answer(view).body)["content"]] == [name, "add"]
    make_stream = started(**body, stream=True).translator
    assert make_stream is not None
    assert name.encode() in make_stream().encode(
        TurnPart(turn="t", seq=2, part=0, kind="tool_call", call="c", name=short)
    )
    assert refused(tools=[{**ADD, "name": "x" * 129}]).body.path == "tools[0].name"


def test_system_messages() -> None:
    later = {"role": "system", "content": "Later."}
    request = started(system="One.", messages=[later, USER, later, USER]).request
    assert request.system == "One.\n\nLater."
    assert [message.role for message in request.messages or ()] == ["user", "system", "user"]


def test_a_conversation_gets_what_follows_the_last_answer() -> None:
    body: dict[str, Any] = {
        "system": "Be brief.",
        "messages": [
            USER,
            {"role": "assistant", "content": [CALL]},
            user(result("3"), {"type": "text", "text": "And?"}),
        ],
    }
    start = started({"x-conversation-id": "c", "turnwire-turn": "t"}, **body)
    request = start.request
    assert (request.conversation, request.create, request.turn, request.messages) == ("c", True, "t", None)
    assert request.input == [ToolResultPart("c1", "3"), TextPart("And?")]
    assert (request.system, request.on_disconnect) == ("Be brief.", "continue")
    assert start.path("input[1].text") == "messages[2].content[1].text"
    with pytest.raises(ApiError):
        started({"x-conversation-id": "c"}, messages=[USER, {"role": "assistant", "content": "x"}])


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"n": 2}, "n"),
        ({"n": [1]}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"input": "Hi"}, "input"),
        ({"functions": [{}]}, "functions"),
        ({"thread": {"type": "create"}}, "thread"),
        ({"compaction": {"type": "x"}}, "compaction"),
        ({"mcp_servers": [{"url": "https://m"}]}, "mcp_servers"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "wizard"}}, "tool_choice.type"),
        ({"messages": "x"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
        ({"messages": [user({"type": "image_url"})]}, "messages[0].content[0].type"),
        ({"messages": [user({"type": "image"})]}, "messages[0].content[0].source"),
        ({"messages": [user({"type": "image", "source": {"type": "file"}})]}, "messages[0].content[0].source.type"),
        ({"messages": [user({"type": "document", "source": {"type": "file"}})]}, "messages[0].content[0].source.type"),
        ({"messages": [user({"type": "tool_result"})]}, "messages[0].content[0].tool_use_id"),
        ({"messages": [user(result([CALL]))]}, "messages[0].content[0].content[0].type"),
        ({"messages": [{"role": "assistant", "content": [result("x")]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use"}]}]}, "messages[0].content[0].id"),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_field(body: dict[str, Any], path: str) -> None:
    assert refused(**body).body.path == path


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages":[]', b"\xff", b"[" * 2000])
def test_broken_bodies(body: bytes) -> None:
    for decode in (start_of, count_of):
        with pytest.raises(ApiError):
            decode(body, {})


def test_a_request_to_count_tokens() -> None:
    body = {"messages": [USER], "system": "Be brief.", "tools": [ADD], "thinking": {"type": "adaptive"}}
    request = count_of(json.dumps(body).encode(), {"x-conversation-id": "c"}).request
    assert (request.system, request.conversation, request.params.reasoning) == ("Be brief.", None, "high")
    assert request.messages == [InputMessage(role="user", parts=[TextPart("Hi")])]


def answer(*parts: Part, one_call: bool = False, **fields: Any) -> dict[str, Any]:
    by = fields.pop("by", None)
    message = Message(
        id="a", role="assistant", parts=list(parts), parent=None, created_at="2026-01-31T00:00:00.000Z", by=by
    )
    view = TurnView("t", None, "completed", 1, 9, "m", message, **fields)
    found: dict[str, Any] = json.loads(message_answer(view, one_call=one_call).body)
    if all(block["type"] != "image" for block in found["content"]):
        AnthropicMessage.model_validate(found, strict=True)
    return found


def test_a_whole_answer() -> None:
    found = answer(
        ReasoningPart("Hm", signature="s"),
        ReasoningPart("", redacted=True, signature="r"),
        ReasoningPart(""),
        TextPart("Hi"),
        CitationPart("https://a.example", "A", "cited"),
        TextPart(""),
        ToolCallPart("c1", "add", '{"a": 1}'),
        ToolCallPart("c2", "add", ""),
        ToolCallPart("c3", "add", '{"a"'),
        finish_reason="tool_calls",
        usage=Usage(10, 5, 2, cache_read_tokens=3, cache_write_tokens=4),
    )
    cited = {
        "type": "web_search_result_location",
        "url": "https://a.example",
        "title": "A",
        "cited_text": "cited",
        "encrypted_index": "",
    }
    assert found["content"] == [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "r"},
        {"type": "text", "text": "Hi", "citations": [cited]},
        {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
        {"type": "tool_use", "id": "c2", "name": "add", "input": {}},
        {"type": "tool_use", "id": "c3", "name": "add", "input": {"arguments": '{"a"'}},
    ]
    assert (found["id"], found["model"], found["stop_reason"]) == ("t", "m", "tool_use")
    assert found["usage"] == {
        "input_tokens": 3,
        "cache_creation_input_tokens": 4,
        "cache_read_input_tokens": 3,
        "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 2},
    }


def test_the_first_call_alone_and_images() -> None:
    calls = (ToolCallPart("c1", "add", "{}"), ToolCallPart("c2", "add", "{}"))
    assert len(answer(*calls, one_call=True)["content"]) == 1
    images = answer(ImagePart("image/png", url="/v1/x"), ImagePart("image/png", data="aGk="))["content"]
    assert [image["source"] for image in images] == [{"type": "url", "url": "/v1/x"}, IMAGE["source"]]


@pytest.mark.parametrize(
    ("reason", "by", "shown"),
    [
        ("stop", None, "end_turn"),
        ("length", None, "max_tokens"),
        ("refusal", None, "refusal"),
        ("content_filter", None, "refusal"),
        (None, "client", "end_turn"),
        (None, "limit", "max_tokens"),
    ],
)
def test_stop_reasons(reason: Any, by: Any, shown: str) -> None:
    fields = {} if reason is None else {"finish_reason": reason}
    found = answer(RefusalPart("No."), by=by, **fields)
    assert (found["stop_reason"], found["content"]) == (shown, [{"type": "text", "text": "No."}])
    assert (found["stop_details"] is not None) == (shown == "refusal")


def test_a_stop_sequence() -> None:
    message = Message(
        id="a",
        role="assistant",
        parts=[TextPart("Hi")],
        parent=None,
        created_at="2026-01-31T00:00:00.000Z",
        stop_sequence="END",
    )
    view = TurnView("t", None, "completed", 1, 9, "m", message, finish_reason="stop")
    found = json.loads(message_answer(view).body)
    assert (found["stop_reason"], found["stop_sequence"]) == ("stop_sequence", "END")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("invalid_request", 400, "invalid_request_error"),
        ("unauthenticated", 401, "authentication_error"),
        ("forbidden", 403, "permission_error"),
        ("not_found", 404, "not_found_error"),
        ("conflict", 409, "invalid_request_error"),
        ("too_large", 413, "request_too_large"),
        ("rate_limited", 429, "rate_limit_error"),
        ("internal", 500, "api_error"),
        ("upstream_auth", 502, "api_error"),
        ("shutting_down", 503, "overloaded_error"),
        ("upstream_timeout", 504, "timeout_error"),
        ("upstream_overloaded", 529, "overloaded_error"),
    ],
)
def test_errors(code: Any, status: int, kind: str) -> None:
    shaped = refuse(ApiError(code, "Oh.", path="a.b").body, CODES[code].http_status)
    assert shaped.status == status
    assert json.loads(shaped.body) == {"type": "error", "error": {"type": kind, "message": "a.b: Oh."}}


def test_a_context_that_is_too_long_is_named_as_at_anthropic() -> None:
    """Claude Code compacts its context when it reads these words."""
    error = json.loads(refuse(ApiError("context_length_exceeded").body, 400).body)["error"]
    assert error["message"].startswith("prompt is too long: ")


def model(name: str, **fields: Any) -> ModelInfo:
    values = {"key": None, "features": (), "context_window": 9, "max_output": 5, "available": True}
    return ModelInfo(**{"id": name, "name": name.upper(), "type": "demo", **values, **fields})


def test_pages_of_models() -> None:
    found = Models([model("a"), model("b", available=False), model("c", legacy=True), model("d")], "a")

    def page(limit: int, after: str | None = None, before: str | None = None) -> tuple[list[str], bool]:
        page = models_page(found, limit, after, before)
        ids = [each.id for each in page.data]
        assert (page.first_id, page.last_id) == ((ids[0], ids[-1]) if ids else (None, None))
        return ids, page.has_more

    assert page(20) == (["a", "c", "d"], False)
    assert page(2) == (["a", "c"], True)
    assert page(2, after="c") == (["d"], False)
    assert page(1, before="d") == (["c"], True)
    assert page(2, before="a") == ([], False)
    with pytest.raises(ApiError):
        page(2, after="b")
    shown = models_page(found, 20, None, None).data[1]
    data = json.dumps({name: getattr(shown, name) for name in shown.__struct_fields__})
    assert AnthropicModelInfo.model_validate_json(data).lifecycle == "deprecated"
