"""Tests of the requests of OpenAI Responses, and of the ids of responses."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from gateway.dialects.base import encode_json
from gateway.dialects.responses import (
    Create,
    Previous,
    create_of,
    create_of_frame,
    frame_of,
    refuse,
    turn_start,
)
from gateway.dialects.responses_ids import conversation_of, is_response_id, new_response_id
from gateway.dialects.responses_input_page import input_page
from gateway.dialects.responses_object import response_object
from gateway.protocol.errors import ApiError, not_found
from gateway.protocol.requests import OWN_ID_PATTERN, InputMessage
from providers.base import (
    FilePart,
    ImagePart,
    Params,
    ReasoningPart,
    RefusalPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolName,
    ToolResultPart,
)
from tests.open_responses import check_response

ADD: Any = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}, "strict": True}
CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "3"}


def created(headers: dict[str, str] | None = None, **body: Any) -> Create:
    return create_of(json.dumps({"input": "Hi", **body}).encode(), headers or {})


def start_of(previous: Previous | None = None, **body: Any) -> Any:
    return turn_start(created(**body), previous or Previous(messages=[]))


def test_items_become_messages() -> None:
    start = start_of(
        model="demo",
        instructions="Be brief.",
        input=[
            {"role": "system", "content": "One."},
            {"role": "developer", "content": [{"type": "input_text", "text": "Two."}]},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "See"},
                    {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"},
                    {"type": "input_file", "file_data": "aGk=", "filename": "a.pdf"},
                    {"type": "input_file", "file_url": "https://a.example/b.txt"},
                ],
            },
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "Hm"}],
                "encrypted_content": "s",
            },
            {"type": "reasoning", "summary": []},
            {
                "role": "assistant",
                "content": [{"type": "output_text", "text": "I"}, {"type": "refusal", "refusal": "No"}],
            },
            CALL,
            {
                "type": "image_generation_call",
                "id": "ig_1",
                "status": "completed",
                "result": "",
                "url": "/v1/messages/a/parts/0",
            },
            {"type": "image_generation_call", "result": "aGk=", "output_format": "webp"},
            {"type": "image_generation_call", "result": None},
            {**RESULT, "output": [{"type": "input_text", "text": "3"}]},
            {"role": "user", "content": ""},
            {"role": "user", "content": "Go on"},
            {"role": "system", "content": "Later."},
        ],
    )
    assert start.system == "Be brief.\n\nOne.\n\nTwo."
    assert start.messages == [
        InputMessage(
            role="user",
            parts=[
                TextPart("See"),
                ImagePart("image/png", data="aGk="),
                FilePart("application/pdf", data="aGk=", name="a.pdf"),
                FilePart("text/plain", url="https://a.example/b.txt"),
            ],
        ),
        InputMessage(
            role="assistant",
            parts=[
                ReasoningPart("Hm", signature="s"),
                TextPart("I"),
                RefusalPart("No"),
                ToolCallPart("c1", "add", "{}"),
                ImagePart("image/png", url="/v1/messages/a/parts/0"),
                ImagePart("image/webp", data="aGk="),
            ],
        ),
        InputMessage(role="tool", parts=[ToolResultPart("c1", "3")]),
        InputMessage(role="user", parts=[TextPart("Go on")]),
        InputMessage(role="system", parts=[TextPart("Later.")]),
    ]


def test_images_in_the_outputs_of_functions_follow_in_a_message_of_the_user() -> None:
    """All results come first, because providers accept them only directly after their calls."""
    image = {"type": "input_image", "image_url": "data:image/png;base64,aGk="}
    file = {"type": "input_file", "file_data": "aGk=", "filename": "a.pdf"}
    made = created(
        input=[
            {"role": "user", "content": "See"},
            CALL,
            {**CALL, "call_id": "c2"},
            {**RESULT, "output": [{"type": "input_text", "text": "Here:"}, image]},
            {**RESULT, "call_id": "c2", "output": [file]},
            {"role": "user", "content": "And?"},
            {**CALL, "call_id": "c3"},
            {**RESULT, "call_id": "c3", "output": [image]},
        ]
    )
    start = turn_start(made, Previous(messages=[]))
    assert start.messages is not None
    assert start.messages[2:] == [
        InputMessage(
            role="tool",
            parts=[
                ToolResultPart("c1", "Here:[Image: see the next message.]"),
                ToolResultPart("c2", "[File: see the next message.]"),
            ],
        ),
        InputMessage(
            role="user",
            parts=[ImagePart("image/png", data="aGk="), FilePart("application/pdf", data="aGk=", name="a.pdf")],
        ),
        InputMessage(role="user", parts=[TextPart("And?")]),
        InputMessage(role="assistant", parts=[ToolCallPart("c3", "add", "{}")]),
        InputMessage(role="tool", parts=[ToolResultPart("c3", "[Image: see the next message.]")]),
        InputMessage(role="user", parts=[ImagePart("image/png", data="aGk=")]),
    ]
    assert made.path("messages[3].parts[1].data") == "input[4]"


def test_new_input_in_a_conversation() -> None:
    """An empty system prompt stands for none, where the conversation's would be the default."""
    start = start_of(Previous("conv_1", "m_1", is_new=False), input=[RESULT, {"role": "user", "content": "And?"}])
    assert (start.conversation, start.parent, start.create, start.system) == ("conv_1", "m_1", False, "")
    assert start.input == [ToolResultPart("c1", "3"), TextPart("And?")]
    system = {"role": "system", "content": "X"}
    items = [system, {"role": "user", "content": "Hi"}]
    first = start_of(Previous("conv_1", system="Old."), instructions="New.", input=items)
    assert (first.create, first.system, first.input) == (True, "New.\n\nOld.\n\nX", [TextPart("Hi")])


def test_the_last_of_messages_that_are_all_of_the_system_is_answered() -> None:
    """As at OpenAI, where an application may send its whole prompt as one message. A warm-up leaves it with the system."""
    brief = {"role": "system", "content": "Be brief."}
    prompt = {
        "role": "developer",
        "content": [{"type": "input_text", "text": "One"}, {"type": "input_text", "text": "Two"}],
    }
    start = start_of(input=[brief, prompt])
    assert (start.system, start.messages) == (
        "Be brief.",
        [InputMessage(role="user", parts=[TextPart("One"), TextPart("Two")])],
    )
    assert created(input=[brief, prompt]).path("messages[0].parts[1].text") == "input[1].text"
    stored = start_of(Previous("conv_1", "m_1", is_new=False), input=[prompt])
    assert (stored.system, stored.input) == ("", [TextPart("One"), TextPart("Two")])
    frame = {"type": "response.create", "input": [brief, prompt], "generate": False}
    warm_up = create_of_frame(frame_of(json.dumps(frame)), {})
    assert (warm_up.system, warm_up.converted.messages) == (["Be brief.", "One", "Two"], [])


def test_parameters_tools_and_formats() -> None:
    start = start_of(
        temperature=1,
        max_output_tokens=50,
        reasoning={"effort": "minimal", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}},
        tools=[ADD],
        tool_choice={"type": "function", "name": "add"},
        metadata={"a": "b"},
        unknown_field_of_next_year=1,
    )
    schema = {"name": "x", "schema": {"type": "object"}, "strict": True}
    assert start.params == Params(
        temperature=1,
        max_tokens=50,
        reasoning="low",
        response_format={"type": "json_schema", "json_schema": schema},
    )
    assert (start.tools, start.tool_choice) == ([Tool("add", "", ADD["parameters"])], ToolName("add"))
    assert (start.metadata, start.on_disconnect) == ({"a": "b"}, "cancel")
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "add"}]}
    chosen = start_of(tools=[ADD, {**ADD, "name": "sub"}], tool_choice=allowed)
    assert ([tool.name for tool in chosen.tools], chosen.tool_choice) == (["add"], "required")
    assert start_of(text={"format": {"type": "text"}}).params.response_format is None
    assert start_of(background=True).on_disconnect == "continue"


def test_a_response_repeats_its_request() -> None:
    made = created(
        instructions="Be brief.",
        store=False,
        temperature=0.5,
        tools=[ADD],
        tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [ADD]},
        text={"verbosity": "low"},
        reasoning={"effort": "high"},
        prompt_cache_key="k",
        truncation="auto",
        user="x" * 600,
        service_tier=3,
    )
    found = response_object("resp_1", "m", 1, made.settings, status="completed", output=[])
    response = check_response(json.loads(encode_json(found)))
    assert (response.instructions, response.store, response.temperature) == ("Be brief.", False, 0.5)
    assert (response.tools[0].name, response.tools[0].strict, response.prompt_cache_key) == ("add", True, "k")
    assert (found["truncation"], found["service_tier"], found["user"]) == ("auto", "default", None)
    assert found["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert created(store=True, temperature=1, tool_choice="auto").settings == {}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"previous_response_id": "resp_1", "conversation": "c"}, "previous_response_id"),
        ({"background": True, "store": False}, "background"),
        ({"conversation": {"id": "c"}, "store": False}, "store"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "computer_call_output", "output": {}}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "name": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "call_id": "x", "name": "x", "arguments": {}}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "x", "output": {}}]}, "input[0].output"),
        ({"input": [{**RESULT, "output": [{"type": "input_image"}]}]}, "input[0].output[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        ({"input": 5}, "input"),
        ({"messages": [{"role": "user", "content": "x"}], "input": None}, "messages"),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_field(body: dict[str, Any], path: str) -> None:
    with pytest.raises(ApiError) as refused:
        start_of(**body)
    assert refused.value.body.path == path


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"input":[]', b"\xff", b"[" * 2000])
def test_broken_bodies(body: bytes) -> None:
    with pytest.raises(ApiError):
        create_of(body, {})
    with pytest.raises(ApiError):
        frame_of(body)


def test_paths_of_errors_name_the_items() -> None:
    made = created(input=[{"role": "system", "content": "S"}, {"role": "user", "content": "A"}, CALL, CALL, RESULT])
    assert made.path("messages[1].parts[1].call") == "input[3].call"
    assert made.path("input[3].call") == "input[4].call"
    assert made.path("input[9]") == "input"
    assert made.path("messages") == "input"
    assert made.path("params.max_tokens") == "max_output_tokens"


def test_ids() -> None:
    first = new_response_id()
    following = new_response_id(first)
    assert first != following
    for name in (first, following):
        assert is_response_id(name)
        assert re.fullmatch(OWN_ID_PATTERN, name)
    assert conversation_of(first) == conversation_of(following) != conversation_of(new_response_id("resp_x"))
    assert re.fullmatch(OWN_ID_PATTERN, conversation_of("mine"))
    assert created({"turnwire-turn": "mine"}).turn == "mine"
    assert created({"idempotency-key": "a b"}).turn.startswith("resp_")


def test_frames_of_a_socket() -> None:
    """A socket always streams, and the id of a response isn't that of the opening's headers."""
    frame = frame_of(
        b'{"type":"response.create","stream_id":"a","stream":true,"background":true,"generate":false,"input":"Hi"}'
    )
    assert (frame.type, frame.stream_id, frame.generate) == ("response.create", "a", False)
    made = create_of_frame(frame, {"turnwire-turn": "mine"})
    assert is_response_id(made.turn)
    assert made.start.on_disconnect == "cancel"
    assert made.settings == {}


def test_a_missing_previous_response_has_its_own_code() -> None:
    error = ApiError("not_found", "No.", path="previous_response_id").body
    shaped = refuse(error, 404)
    assert shaped.status == 400
    assert json.loads(shaped.body)["error"] == {
        "message": "No.",
        "type": "invalid_request_error",
        "param": "previous_response_id",
        "code": "previous_response_not_found",
    }
    assert refuse(not_found("response").body, 404).status == 404


def test_pages_of_input_items() -> None:
    messages = [
        InputMessage(
            role="user", parts=[TextPart("A"), ImagePart("image/png", data="aGk="), FilePart("x/y", url="https://b")]
        ),
        InputMessage(role="assistant", parts=[TextPart("B"), ToolCallPart("c1", "add", "{}")]),
        InputMessage(role="tool", parts=[ToolResultPart("c1", "3")]),
    ]
    whole = input_page("resp_1", messages, 20, None, newest_first=False)
    assert [item["type"] for item in whole["data"]] == ["message", "message", "function_call", "function_call_output"]
    assert (whole["has_more"], whole["first_id"]) == (False, whole["data"][0]["id"])
    ids = [item["id"] for item in whole["data"]]
    assert len(set(ids)) == 4
    page = input_page("resp_1", messages, 2, ids[3], newest_first=True)
    assert ([item["id"] for item in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)
    with pytest.raises(ApiError):
        input_page("resp_1", messages, 2, "nothing", newest_first=True)
    assert input_page("resp_1", [], 2, None, newest_first=True)["first_id"] is None
