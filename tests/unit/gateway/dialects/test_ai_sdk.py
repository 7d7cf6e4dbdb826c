"""Tests of the AI SDK's requests: what each starts, given the history that the gateway has, and the history as UI messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.ai_sdk import Submission, check_repeated, refuse
from gateway.dialects.ai_sdk_history import METADATA, ChatHistory, Origin, origin_of
from gateway.dialects.ai_sdk_request import frame_of, is_ui_body, request_id_in, request_of, request_of_frame, stop_of
from gateway.dialects.ids import conversation_id
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Message
from gateway.protocol.requests import TurnStart
from providers.base import (
    CitationPart,
    FilePart,
    ImagePart,
    Params,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolName,
    ToolResultPart,
)

NEW = ChatHistory(exists=False)


def user(text: str, message_id: str = "u1", *more: dict[str, Any]) -> dict[str, Any]:
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}, *more]}


def assistant(message_id: str, *parts: Any) -> dict[str, Any]:
    shown = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"id": message_id, "role": "assistant", "parts": [{"type": "step-start"}, *shown]}


def tool(call: str, state: str = "output-available", **fields: Any) -> dict[str, Any]:
    return {"type": "tool-add", "toolCallId": call, "state": state, "input": {}, **fields}


def ask(*messages: dict[str, Any], headers: dict[str, str] | None = None, **body: Any) -> Submission:
    whole = {"id": "chat", "messages": list(messages), **body}
    return Submission(request_of(json.dumps(whole).encode()), headers or {})


def refused(*messages: dict[str, Any], history: ChatHistory = NEW, **body: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        made = ask(*messages, **body)
        made.start(history) if made.needs_history else made.stateless()
    return error.value


def message(message_id: str, role: Role, parent: str | None, turn: str, *parts: Part, ui: str | None = None) -> Message:
    metadata = None if ui is None else {METADATA: {"message": ui, "digest": ""}}
    return Message(
        id=message_id, role=role, parts=list(parts), parent=parent, created_at="", turn=turn, metadata=metadata
    )


CALL = ToolCallPart("c1", "add", "{}")
HISTORY = ChatHistory(
    [
        message("m1", "user", None, "t1", TextPart("One"), ui="u1"),
        message("m2", "assistant", "m1", "t1", TextPart("First."), CALL),
        message("m3", "tool", "m2", "t2", ToolResultPart("c1", "3"), ui="t1"),
        message("m4", "assistant", "m3", "t2", TextPart("It is 3.")),
        message("m5", "user", "m4", "t3", TextPart("Two"), ui="u2"),
        message("m6", "assistant", "m5", "t3", TextPart("Second.")),
    ]
)
FIRST = assistant("t1", "First.", tool("c1", output=3), {"type": "step-start"}, {"type": "text", "text": "It is 3."})


def test_the_first_message_of_a_chat() -> None:
    start = ask(user("Hi")).start(NEW)
    assert (start.conversation, start.create, start.parent, start.input) == ("chat", True, None, [TextPart("Hi")])
    assert (start.on_busy, start.on_disconnect) == ("interrupt", "continue")
    assert start.turn == ask(user("Hi"), unknown=1).start(NEW).turn
    assert start.turn != ask(user("Hi"), id="other").start(NEW).turn
    assert (start.turn or "").startswith("ui_")
    assert ask(user("Hi"), headers={"idempotency-key": "mine"}).start(NEW).turn == "mine"


def test_where_a_message_is_added() -> None:
    """Below the last step of the answer that the client shows before it, or else at the newest answer."""
    assert ask(user("One"), FIRST, user("Two", "u9")).start(HISTORY).parent == "m4"
    assert ask(user("One"), FIRST, user("Two"), assistant("t3", "x"), user("3", "u9")).start(HISTORY).parent == "m6"
    assert ask(user("One"), assistant("who", "?"), user("Two", "u9")).start(HISTORY).parent is None
    single = ask(messages=None, message=user("Three", "u9"))
    assert (single.start(HISTORY).parent, single.begins_again) == (None, False)
    fresh = ask(user("Fresh", "u9"))
    assert (fresh.start(HISTORY).parent, fresh.begins_again) == (None, True)


def test_edits() -> None:
    """An edit is another version of the message. It is the same edit until it has an answer."""
    edit = ask(user("One"), FIRST, user("Two!", "u2"), messageId="u2")
    start = edit.start(HISTORY)
    assert (start.parent, start.input, edit.begins_again) == ("m4", [TextPart("Two!")], False)
    assert start.turn == edit.start(HISTORY).turn
    assert start.turn != ask(user("One"), FIRST, user("Two?", "u2"), messageId="u2").start(HISTORY).turn
    answered = ChatHistory([*HISTORY.messages, message("m7", "assistant", "m5", "t9", TextPart("x"))])
    assert start.turn != edit.start(answered).turn
    first = ask(user("One!"), messageId="u1")
    assert (first.start(HISTORY).parent, first.begins_again) == (None, True)
    assert ask(messages=None, message=user("Two!", "u2"), messageId="u2").start(HISTORY).parent == "m4"


def test_regenerations() -> None:
    again = ask(user("One"), FIRST, user("Two", "u2"), trigger="regenerate-message")
    start = again.start(HISTORY)
    assert (start.parent, start.input, start.metadata, start.create) == ("m5", None, None, False)
    assert start.turn == again.start(HISTORY).turn
    answered = ChatHistory([*HISTORY.messages, message("m7", "assistant", "m5", "t9", TextPart("x"))])
    assert start.turn != again.start(answered).turn
    only_id = ask(messages=None, trigger="regenerate-message", messageId="t1")
    assert only_id.start(HISTORY).parent == "m1"
    assert ask(messages=None, trigger="regenerate-message").start(HISTORY).parent == "m5"
    shown = ask(user("One"), FIRST, user("Two", "u2"), assistant("t3", "x"), trigger="regenerate-message")
    assert shown.start(HISTORY).parent == "m5"
    never_accepted = ask(user("One"), FIRST, user("Three", "u3"), trigger="regenerate-message").start(HISTORY)
    assert (never_accepted.parent, never_accepted.input) == ("m4", [TextPart("Three")])


def test_results_of_tools() -> None:
    history = ChatHistory(HISTORY.messages[:2])
    answer = ask(user("One"), assistant("t1", "First.", tool("c1", output={"sum": 3})), messageId="t1")
    start = answer.start(history)
    assert (start.parent, start.input, start.on_busy) == ("m2", [ToolResultPart("c1", '{"sum":3}')], "parallel")
    assert answer.message_id == "t1"
    assert start.turn == answer.start(HISTORY).turn
    wrong = [
        tool("c1", "output-error", errorText="No."),
        tool("c1", "output-denied"),
        tool("c1", "approval-responded", approval={"id": "a", "approved": False, "reason": "Never."}),
    ]
    outputs: list[Any] = [ask(user("One"), assistant("t1", part)).start(history).input for part in wrong]
    assert [part.output for (part,) in outputs] == ["No.", "The user denied this tool call.", "Never."]
    assert all(part.error for (part,) in outputs)
    late = ask(user("One"), assistant("t1", "First.", tool("c1", output="3")), user("And?", "u2")).start(history)
    assert (late.parent, late.input) == ("m2", [ToolResultPart("c1", "3"), TextPart("And?")])
    unanswered = ask(user("One"), assistant("t1", tool("c1", "input-available")), user("And?", "u2")).start(history)
    assert unanswered.input == [TextPart("And?")]
    assert refused(user("One"), assistant("t1", tool("c9", output=1)), history=history).body.path == "messages[1].parts"


def test_a_repeated_message() -> None:
    """Law 6: its content must be the same."""
    start = ask(user("Hi")).start(NEW)
    stored = origin_of(message("m", "user", None, "t", TextPart("Hi"), ui="u1"))
    same = Origin("u1", (start.metadata or {})[METADATA]["digest"])
    check_repeated(same, start)
    check_repeated(None, start)
    with pytest.raises(ApiError, match="other content"):
        check_repeated(stored, start)


def test_messages_that_the_gateway_does_not_have() -> None:
    start = ask(assistant("g", "Welcome."), user("Before", "u0"), user("Hi"), system="Be kind.").start(NEW)
    assert (
        start.system == "Be kind.\n\nThe conversation began with these messages:\n\nassistant: Welcome.\n\nuser: Before"
    )
    assert ask(user("Hi")).start(NEW).system is None
    long = ask(user("x" * 70_000, "u0"), assistant("g", "Welcome."), user("Hi")).start(NEW)
    assert (long.system or "").endswith("\n\nassistant: Welcome.")


def test_a_request_without_a_chat_is_stateless() -> None:
    files = (
        {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"},
        {"type": "data-x", "data": 1},
    )
    made = ask(
        {"id": "s", "role": "system", "parts": [{"type": "text", "text": "Be kind."}]},
        user("Look", "u1", *files),
        assistant("a", {"type": "reasoning", "text": "Hm"}, "Let me see.", tool("c1", output="x")),
        id=None,
    )
    start = made.stateless()
    assert (start.system, start.conversation) == ("Be kind.", None)
    assert [(one.role, one.parts) for one in start.messages or ()] == [
        ("user", [TextPart("Look"), ImagePart("image/png", data="AAAA")]),
        ("assistant", [TextPart("Let me see."), ToolCallPart("c1", "add", "{}")]),
        ("tool", [ToolResultPart("c1", "x")]),
    ]


def test_files() -> None:
    def of(**fields: Any) -> Any:
        return ask(user("", "u1", {"type": "file", **fields})).start(NEW).input

    assert of(mediaType="image", url="https://a.example/b.webp") == [
        ImagePart("image/webp", url="https://a.example/b.webp")
    ]
    assert of(mediaType="application/pdf", url="https://a.example/b", filename="b.pdf") == [
        FilePart("application/pdf", url="https://a.example/b", name="b.pdf")
    ]
    assert refused(user("", "u1", {"type": "file", "mediaType": "image/png", "url": "data:x"})).body.path == (
        "messages[0].parts[1].url"
    )


def test_options() -> None:
    schema = {"type": "object", "properties": {}}
    start = ask(
        user("Hi"),
        model="m",
        temperature=0.5,
        topP=0.9,
        maxOutputTokens=10,
        stopSequences=["x"],
        seed=1,
        reasoning="low",
        tools={"add": {"description": "Add", "parameters": schema}},
        toolChoice={"type": "tool", "toolName": "add"},
    ).start(NEW)
    assert start.params == Params(temperature=0.5, top_p=0.9, max_tokens=10, stop=["x"], seed=1, reasoning="low")
    assert (start.model, start.tools, start.tool_choice) == ("m", [Tool("add", "Add", schema)], ToolName("add"))
    listed = ask(
        user("Hi"), tools=[{"name": "a", "inputSchema": schema}, {"type": "function", "function": {"name": "b"}}]
    )
    assert [one.name for one in listed.start(NEW).tools or ()] == ["a", "b"]
    # What the SDK's own `tool({inputSchema: jsonSchema(schema)})` is as JSON.
    made = ask(user("Hi"), tools={"add": {"description": "Add", "inputSchema": {"jsonSchema": schema}}})
    assert made.start(NEW).tools == [Tool("add", "Add", schema)]
    assert refused(user("Hi"), topP=7).body.path == "topP"
    assert refused(user("Hi"), maxOutputTokens=0).body.path == "maxOutputTokens"
    assert refused(user("Hi"), toolChoice="sometimes").body.path == "toolChoice"
    assert refused(user("Hi"), tools=[{"type": "computer"}]).body.path == "tools[0].type"
    assert refused(user("Hi"), tools=[{"name": "a b"}]).body.path == "tools[0].name"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"messages": []}', True),
        (b'{"message": {"parts": []}}', True),
        (b'{"trigger": "regenerate-message"}', True),
        (b'{"message": "Hi"}', False),
        (b"{}", False),
        (b"{", False),
        (b"\xff", False),
    ],
)
def test_which_bodies_are_the_sdks(body: bytes, expected: bool) -> None:
    assert is_ui_body(body, {}) is expected
    assert is_ui_body(body, {"x-vercel-ai-ui-message-stream": "v1"})


def test_frames_of_a_socket() -> None:
    frame = frame_of(
        json.dumps(
            {
                "type": "send",
                "requestId": "r",
                "id": "chat",
                "messages": [user("Hi")],
                "headers": {"a": "b"},
                "body": {"model": "m", "unknown": 1},
                "metadata": None,
            }
        ).encode()
    )
    request = request_of_frame(frame)
    assert (request.id, request.model, frame.headers) == ("chat", "m", {"a": "b"})
    assert request_id_in(b'{"requestId": "r", "type": 3}') == "r"
    assert request_id_in(b"[]") is request_id_in(b"{") is None
    with pytest.raises(ApiError):
        frame_of(b'{"type": "send"}')
    assert stop_of(b"").active_stream_id is None
    assert stop_of(b'{"activeStreamId": "t", "assistantMessage": {}}').active_stream_id == "t"


def test_ids_and_errors() -> None:
    assert conversation_id("a-b") == "a-b"
    assert conversation_id("a/b").startswith("c_")
    assert conversation_id("..").startswith("c_")
    error = ApiError("invalid_request", "Wrong.", path="topP").body
    shaped = refuse(error, 400)
    assert (shaped.body, shaped.headers) == (b"Wrong. (topP)", {"turnwire-error": "invalid_request"})


def test_the_history_as_ui_messages() -> None:
    shown = json.loads(json.dumps(HISTORY.ui_messages("m6"), default=lambda raw: json.loads(bytes(raw))))
    assert [(one["id"], one["role"]) for one in shown] == [
        ("u1", "user"),
        ("t1", "assistant"),
        ("u2", "user"),
        ("t3", "assistant"),
    ]
    assert [part["type"] for part in shown[1]["parts"]] == ["step-start", "text", "tool-add", "step-start", "text"]
    assert shown[1]["parts"][2]["output"] == "3"
    assert [part["type"] for part in HISTORY.ui_messages("m2")[1]["parts"]] == ["step-start", "text", "tool-add"]
    assert HISTORY.ui_messages(None) == []
    parts = (ReasoningPart("Hm"), CitationPart("https://a.example"), ImagePart("image/png", data="AA"), CitationPart())
    other = ChatHistory([message("m1", "user", None, "t1", *parts)]).ui_messages("m1")
    assert [(one["id"], [part["type"] for part in one["parts"]]) for one in other] == [
        ("m1", ["reasoning", "source-url", "file"])
    ]


def test_the_steps_before_a_continuation() -> None:
    chunks = HISTORY.earlier_chunks("m3")
    assert [chunk["type"] for chunk in chunks] == [
        *("start-step", "text-start", "text-delta", "text-end"),
        *("tool-input-available", "tool-output-available", "finish-step"),
    ]
    assert HISTORY.earlier_chunks("m5") == HISTORY.earlier_chunks(None) == []
    failed = ChatHistory(
        [*HISTORY.messages[:2], message("m3", "tool", "m2", "t2", ToolResultPart("c1", "No.", error=True))]
    )
    assert failed.earlier_chunks("m3")[-2] == {"type": "tool-output-error", "toolCallId": "c1", "errorText": "No."}


def test_only_needed_pages_are_read() -> None:
    part = ChatHistory(HISTORY.messages[4:], is_complete=False)
    assert ask(user("One"), FIRST, user("Two"), assistant("t3", "x"), user("3", "u9")).is_settled(part)
    assert not ask(user("One"), FIRST, user("Two", "u9")).is_settled(part)
    assert ask(messages=None, message=user("Three", "u9")).is_settled(part)
    assert not ask(user("One"), assistant("t1", tool("c1", output=1))).is_settled(part)
    assert not ask(user("One"), trigger="regenerate-message").is_settled(part)


def test_every_start_is_valid() -> None:
    assert isinstance(ask(user("Hi")).start(NEW), TurnStart)
    bodies: tuple[dict[str, Any], ...] = (
        {"messages": None},
        {"messages": []},
        {"messages": [user("Hi", "u1"), {"id": "", "role": "x", "parts": []}]},
    )
    for body in bodies:
        assert refused(**body).code == "invalid_request"
