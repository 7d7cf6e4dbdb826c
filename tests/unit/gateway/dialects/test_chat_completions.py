"""Tests of the translation of OpenAI Chat Completions, in both directions."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.dialects.base import Start
from gateway.dialects.chat_completions import start_of
from gateway.dialects.chat_completions_object import completion
from gateway.dialects.chat_completions_stream import ChatStream
from gateway.protocol.errors import ApiError
from gateway.protocol.events import (
    Heartbeat,
    Message,
    ServerEvent,
    Timing,
    TurnReset,
)
from gateway.protocol.requests import InputMessage
from gateway.protocol.results import TurnView
from providers.base import (
    ImagePart,
    Params,
    ReasoningPart,
    RefusalPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolName,
    ToolResultPart,
    Usage,
)
from tests import dialect_events
from tests.dialect_events import cancelled, delta, failed, part

USER = {"role": "user", "content": "Hi"}
TIMING = Timing(0, 1, 1)
STARTED = dialect_events.started(conversation=None)


def started(**body: Any) -> Start:
    return start_of(json.dumps({"messages": [USER], **body}).encode(), {})


def refused(**body: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        started(**body)
    return error.value


def chunks(*events: ServerEvent, with_usage: bool = False) -> list[dict[str, Any]]:
    """Return the chunks of a stream with these events after its first."""
    stream = ChatStream(with_usage=with_usage)
    text = b"".join(map(stream.encode, (STARTED, *events))).decode()
    assert stream.ended
    *frames, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    found = [json.loads(frame.removeprefix("data: ")) for frame in frames if not frame.startswith(":")]
    for chunk in found:
        if "error" not in chunk:
            ChatCompletionChunk.model_validate(chunk, strict=True)
    return found


completed = partial(dialect_events.completed, usage=Usage(3, 4, 1, 2))


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
FILE = {"type": "file", "file": {"file_id": "f"}}


def test_messages_and_their_origins() -> None:
    start = started(
        model="demo",
        messages=[
            {"role": "system", "content": "One."},
            {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
            {"role": "user", "content": [{"type": "text", "text": "See"}, IMAGE]},
            {"role": "assistant", "content": ""},
            {"role": "assistant", "content": None, "reasoning_content": "Hm", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "3"}]},
        ],
    )
    assert start.request.system == "One.\n\nTwo."
    assert start.request.messages == [
        InputMessage(role="user", parts=[TextPart("See"), ImagePart("image/png", data="aGk=")]),
        InputMessage(role="assistant", parts=[ReasoningPart("Hm"), ToolCallPart("c1", "add", "{}")]),
        InputMessage(role="tool", parts=[ToolResultPart("c1", "3")]),
    ]
    assert start.path("messages[1].parts[0].call") == "messages[4].content[0].call"
    assert start.path("params.max_tokens") == "max_tokens"
    assert start.path("tools[3].parameters.type") == "tools[3].function.parameters.type"


def test_the_last_of_messages_that_are_all_of_the_system_is_answered() -> None:
    """As at OpenAI, where an application may send its whole prompt as one system message."""
    request = started(
        messages=[{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Hi"}]
    ).request
    assert request.system == "Be brief."
    assert request.messages == [InputMessage(role="user", parts=[TextPart("Hi")])]
    silent = started(messages=[{"role": "system", "content": "Hi"}, {"role": "assistant", "content": ""}]).request
    assert (silent.system, len(silent.messages or ())) == (None, 1)


def test_parameters_and_tools() -> None:
    start = started(
        temperature=1,
        max_completion_tokens=5,
        stop="x",
        reasoning_effort="minimal",
        response_format={"type": "json_object"},
        tools=[{"type": "function", "function": {"name": "add", "strict": True}}],
        tool_choice={"type": "function", "function": {"name": "add"}},
        unknown_field_of_next_year=1,
    )
    request = start.request
    assert request.params == Params(
        temperature=1, max_tokens=5, stop=["x"], reasoning="low", response_format={"type": "json_object"}
    )
    assert (request.tools, request.tool_choice) == ([Tool("add")], ToolName("add"))
    assert (request.on_disconnect, start.translator) == ("cancel", None)
    assert request.turn is not None
    assert request.turn.startswith("chatcmpl-")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"functions": [{}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"system": "Be brief."}, "system"),
        ({"input": "Hi"}, "input"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [FILE]}]}, "messages[0].content[0].file.file_id"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": "x"}, "messages"),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_field(body: dict[str, Any], path: str) -> None:
    assert refused(**body).body.path == path


def test_paths_of_errors_name_the_messages() -> None:
    """Also in a conversation, where only some of the messages are the input."""
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "A"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "user", "content": [{"type": "text", "text": "See"}, IMAGE]},
    ]
    body = json.dumps({"messages": messages}).encode()
    path = start_of(body, {"x-conversation-id": "c"}).path
    assert path("input[0].call") == "messages[3].call"
    assert path("input[2].data") == "messages[4].content[1]"
    assert path("input") == path("input[9]") == "messages"
    assert start_of(body, {}).path("messages[3].parts[1].data") == "messages[4].content[1]"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages":[]', b"\xff", b"[" * 2000])
def test_broken_bodies(body: bytes) -> None:
    with pytest.raises(ApiError):
        start_of(body, {})


CITED = {"url": "https://a.example", "title": "", "start_index": 0, "end_index": 0}


def test_a_stream_of_text_reasoning_and_calls() -> None:
    found = chunks(
        part(0, "reasoning"),
        delta(0, "Hm"),
        delta(0, signature="sig"),
        part(1, "citation", url="https://a.example"),
        part(2, "text"),
        Heartbeat(1),
        delta(2, 'é"\n'),
        part(3, "tool_call", call="c1", name="add"),
        part(4, "tool_call", call="c2", name="sub"),
        delta(4, '{"b":1}'),
        delta(3, '{"a":1}'),
        completed("tool_calls"),
        with_usage=True,
    )
    deltas = [chunk["choices"][0]["delta"] for chunk in found[:-1]]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm"},
        {"annotations": [{"type": "url_citation", "url_citation": CITED}]},
        {"content": 'é"\n'},
        {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "id": "c2", "type": "function", "function": {"name": "sub", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": '{"b":1}'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in found[:-1]] == [None] * 8 + ["tool_calls"]
    assert {(chunk["id"], chunk["model"]) for chunk in found} == {("t", "m")}
    assert [chunk["usage"] for chunk in found[:-1]] == [None] * 9
    assert (found[-1]["choices"], found[-1]["usage"]["total_tokens"]) == ([], 7)
    assert found[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert found[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 1}


def test_without_parallel_calls_only_the_first_is_sent() -> None:
    """As other OpenAI-compatible servers do it: the model may still have made several."""
    assert started(parallel_tool_calls=True, stream=True).translator is not None
    stream = ChatStream(with_usage=False, one_call=True)
    stream.encode(STARTED)
    first, second = (stream.encode(part(n, "tool_call", call=f"c{n}", name="add")) for n in range(2))
    assert b'"c0"' in first
    assert second == stream.encode(delta(1, "{}")) == b""
    parts: list[Any] = [ToolCallPart("c0", "add", "{}"), ToolCallPart("c1", "add", "{}")]
    message = Message(id="a", role="assistant", parts=parts, parent=None, created_at="2026-01-31T00:00:00.000Z")
    view = TurnView("t", None, "completed", 1, 9, "m", message, finish_reason="tool_calls")
    assert len(json.loads(completion(view, one_call=True).body)["choices"][0]["message"]["tool_calls"]) == 1
    assert len(json.loads(completion(view).body)["choices"][0]["message"]["tool_calls"]) == 2


def test_a_replay_leaves_out_what_was_withdrawn_and_can_be_resumed() -> None:
    """A stream from the beginning of a turn that was reset has the last answer only. Its ids have the epoch after the reset."""
    events: tuple[ServerEvent, ...] = (
        STARTED,
        part(0, "text"),
        delta(0, "Old"),
        TurnReset("t", 6, 7, "the owner was lost"),
        part(0, "text", seq=7),
        delta(0, "New", seq=10),
    )
    stream = ChatStream(with_usage=False, with_ids=True)
    stream.skip_until(6)
    sent = b"".join(map(stream.encode, events)).decode()
    assert "Old" not in sent
    assert "New" in sent
    assert sent.split("id: ")[-1].startswith("7-10\n")
    with_all = ChatStream(with_usage=False)
    assert b"error" in b"".join(map(with_all.encode, events))


def test_images_of_an_answer() -> None:
    found = chunks(part(0, "image", url="/v1/x", media_type="image/png"), completed())
    assert found[0]["choices"][0]["delta"] == {
        "role": "assistant",
        "images": [{"type": "image_url", "image_url": {"url": "/v1/x"}}],
    }
    image = ImagePart("image/png", data="aGk=")
    message = Message(id="a", role="assistant", parts=[image], parent=None, created_at="2026-01-31T00:00:00.000Z")
    body = json.loads(completion(TurnView("t", None, "completed", 1, 9, "m", message, finish_reason="stop")).body)
    assert body["choices"][0]["message"]["images"][0]["image_url"]["url"] == "data:image/png;base64,aGk="


@pytest.mark.parametrize(("by", "reason"), [("client", "stop"), ("limit", "length"), ("disconnect", "length")])
def test_a_cancelled_stream_ends_normally(by: Any, reason: str) -> None:
    ending = cancelled(by)
    (chunk,) = chunks(ending)
    assert chunk["choices"][0] == {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "logprobs": None,
        "finish_reason": reason,
    }
    assert "usage" not in chunk
    message = Message(
        id="a", role="assistant", parts=[TextPart("H")], parent=None, created_at="2026-01-31T00:00:00.000Z", by=by
    )
    body = json.loads(completion(TurnView("t", None, "cancelled", 1, 9, "m", message)).body)
    assert body["choices"][0]["finish_reason"] == reason


def test_a_failed_stream_ends_with_an_error() -> None:
    error = ApiError("upstream_overloaded").body
    ending = failed(error)
    (chunk,) = chunks(ending)
    assert chunk == {
        "error": {"message": error.message, "type": "server_error", "param": None, "code": "upstream_overloaded"}
    }


def test_a_whole_answer() -> None:
    message = Message(
        id="a",
        role="assistant",
        parts=[ReasoningPart("Hm"), TextPart("Hel"), TextPart("lo"), ToolCallPart("c1", "add", "{}")],
        parent=None,
        created_at="2026-01-31T00:00:00.000Z",
    )
    view = TurnView("t", None, "completed", 1, 9, "m", message, finish_reason="tool_calls", usage=Usage(3, 4))
    found = ChatCompletion.model_validate(json.loads(completion(view).body), strict=True)
    choice = found.choices[0]
    assert (found.id, found.created, choice.finish_reason) == ("t", 1769817600, "tool_calls")
    assert choice.message.content == "Hello"
    assert choice.message.model_extra == {"reasoning_content": "Hm"}
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].id == "c1"
    assert found.usage is not None
    assert found.usage.total_tokens == 7
    refused = msgspec.structs.replace(message, parts=[RefusalPart("No.")])
    refusal = TurnView("t", None, "completed", 1, 9, "m", refused, finish_reason="refusal")
    body = json.loads(completion(refusal).body)
    assert (body["choices"][0]["message"]["content"], body["choices"][0]["message"]["refusal"]) == (None, "No.")
