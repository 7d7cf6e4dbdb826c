"""Tests of AG-UI's runs: what each starts, given the history that the gateway has, and what its client is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.ag_ui import Run, refuse, run_of
from gateway.dialects.ag_ui_history import METADATA, ThreadHistory, origin_metadata, origin_of, snapshots
from gateway.dialects.ag_ui_messages import AgMessage, AgPart, AgSource, user_parts
from gateway.dialects.ag_ui_stored_messages import answer_messages, user_message
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Message, TurnStarted
from gateway.protocol.requests import TurnStart
from providers.base import (
    FilePart,
    ImagePart,
    Params,
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

NEW = ThreadHistory(exists=False)
CALL = ToolCallPart("c1", "add", "{}")


def user(text: Any, message_id: str = "u1") -> dict[str, Any]:
    return {"id": message_id, "role": "user", "content": text}


def assistant(message_id: str, text: str = "") -> dict[str, Any]:
    return {"id": message_id, "role": "assistant", "content": text}


def tool(call: str, text: Any, message_id: str = "x1", **fields: Any) -> dict[str, Any]:
    return {"id": message_id, "role": "tool", "toolCallId": call, "content": text, **fields}


def run(*messages: dict[str, Any], headers: dict[str, str] | None = None, **fields: Any) -> Run:
    whole = {"threadId": "thread", "runId": "run", "messages": list(messages), **fields}
    return run_of(json.dumps(whole).encode(), headers or {})


def refused(*messages: dict[str, Any], history: ThreadHistory = NEW, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        run(*messages, **fields).start(history)
    return error.value


def stored(message_id: str, role: Role, parent: str | None, turn: str, *parts: Part, ids: Any = ()) -> Message:
    """Return a stored message. `ids`: of the user's messages that it was made from, one for each part."""
    spoken = [part for part in parts if not isinstance(part, ToolResultPart)]
    metadata = origin_metadata([(one, [part]) for one, part in zip(ids, spoken, strict=True)], parts) if ids else None
    return Message(
        id=message_id, role=role, parts=list(parts), parent=parent, created_at="", turn=turn, metadata=metadata
    )


HISTORY = ThreadHistory(
    [
        stored("m1", "user", None, "t1", TextPart("One"), ids=["u1"]),
        stored("m2", "assistant", "m1", "t1", ReasoningPart("Hm"), TextPart("First."), CALL),
        stored("m3", "tool", "m2", "t2", ToolResultPart("c1", "3")),
        stored("m4", "assistant", "m3", "t2", TextPart("Three.")),
        stored("m5", "user", "m4", "t3", TextPart("Two"), TextPart("and"), ids=["u2", "u3"]),
        stored("m6", "assistant", "m5", "t3", TextPart("Second.")),
    ]
)
TALK = [user("One"), assistant("m2", "First."), tool("c1", "3"), assistant("m4"), user("Two", "u2"), user("and", "u3")]


def test_a_first_message() -> None:
    made = run(user("Hi"), forwardedProps={"model": "m", "temperature": 0.5, "own": {"a": [1]}}).start(NEW)
    assert made == TurnStart(
        turn="run",
        conversation="thread",
        create=True,
        model="m",
        input=[TextPart("Hi")],
        params=Params(temperature=0.5),
        on_busy="interrupt",
        metadata=made.metadata,
    )


def test_ids() -> None:
    odd = run_of(json.dumps({"threadId": "a/b", "runId": "x" * 9999, "messages": []}).encode(), {})
    assert (odd.conversation[:2], odd.turn[:5], len(odd.turn)) == ("c_", "agui_", 45)
    assert (odd.thread, odd.run) == ("a/b", "x" * 9999)
    assert run(headers={"turnwire-turn": "mine"}).turn == "mine"
    assert run(headers={"turnwire-on-disconnect": "cancel"})._options.on_disconnect == "cancel"


def test_where_a_message_is_added() -> None:
    """The parent is what precedes the new messages in the client's list; without any, the thread's newest answer."""

    def place(*messages: dict[str, Any]) -> tuple[str | None, list[Part] | None]:
        made = run(*messages).start(HISTORY)
        assert not made.create
        return made.parent, None if made.input is None else made.input_parts

    new = user("New", "u9")
    assert place(*TALK, assistant("m6"), new) == ("m6", [TextPart("New")])
    assert place(new) == (None, [TextPart("New")])
    assert place(*TALK[:2], new) == ("m2", [TextPart("New")])
    assert place(*TALK[:4], user("Other", "u2")) == ("m4", [TextPart("Other")])
    # The answer isn't shown, or another one was added by the application.
    assert place(*TALK, new) == ("m6", [TextPart("New")])
    assert place(*TALK, assistant("own"), new) == ("m6", [TextPart("New")])
    assert place(assistant("own"), new, user("More", "u8")) == (None, [TextPart("New"), TextPart("More")])
    running = ThreadHistory(HISTORY.messages[:5])
    interrupting = run(*TALK, assistant("m6", "Sec"), new).start(running)
    assert (interrupting.parent, interrupting.input_parts, interrupting.system) == (None, [TextPart("New")], "")
    assert run(user("One"), new).start(ThreadHistory([*HISTORY.messages[:1], *HISTORY.messages[4:]])).parent == "m1"
    # Nothing is new: another answer to the same message.
    assert place(*TALK) == ("m5", None)
    assert place(user("One")) == ("m1", None)
    assert place(*TALK[:3]) == ("m3", None)


def test_the_first_message_is_edited() -> None:
    edited = run(user("One!"))
    made = edited.start(HISTORY)
    assert (made.parent, made.input_parts, edited.begins_again) == (None, [TextPart("One!")], True)
    later = run(user("Two!", "u2"))
    assert (later.start(HISTORY).parent, later.begins_again) == ("m4", False)


def test_results_of_tools() -> None:
    before = ThreadHistory(HISTORY.messages[:2])
    made = run(*TALK[:2], tool("c1", [{"type": "text", "text": "3"}, {"type": "image"}])).start(before)
    assert (made.parent, made.input, made.on_busy) == ("m2", [ToolResultPart("c1", "3")], "parallel")
    both = run(*TALK[:2], tool("c1", "", error="Broken."), user("So?", "u9")).start(before)
    assert both.input == [ToolResultPart("c1", "Broken.", error=True), TextPart("So?")]
    assert both.on_busy == "interrupt"
    alone = run(tool("c1", "3")).start(before)
    assert (alone.parent, alone.input) == ("m2", [ToolResultPart("c1", "3")])
    changed = run(*TALK[:2], tool("c1", "4")).start(HISTORY)
    assert (changed.parent, changed.input) == ("m2", [ToolResultPart("c1", "4")])
    assert refused(user("Hi"), tool("c9", "3")).body.path == "messages[1].toolCallId"


def test_what_the_model_is_told_besides() -> None:
    system = {"id": "s", "role": "developer", "content": "Be brief."}
    context = [{"description": "Page", "value": "Cart"}]
    told = run(system, user("Hi"), context=context, state={"n": 1}, forwardedProps={"system": "Hello."}).start(NEW)
    assert told.system == (
        "Hello.\n\nBe brief.\n\nContext from the application:\n\nPage:\nCart"
        '\n\nState of the application, as JSON:\n{"n":1}'
    )
    assert run(user("Hi"), state={}, context=[]).start(NEW).system is None
    # The context of an earlier run isn't that of this one, unless another client made the thread.
    assert run(user("Hi", "u9")).start(HISTORY).system == ""
    other = ThreadHistory([stored("m1", "user", None, "t1", TextPart("One"))])
    assert run(user("Hi", "u9")).start(other).system is None
    begun = run(assistant("g", "Welcome."), user("Old", "o"), assistant("b", "Yes."), user("New", "n")).start(NEW)
    assert begun.input == [TextPart("New")]
    assert (begun.system or "").endswith("assistant: Welcome.\n\nuser: Old\n\nassistant: Yes.")


def test_messages_that_are_older_than_what_was_read() -> None:
    """They are stored, so the model isn't told of them again; what the application has added later is told."""
    newest = ThreadHistory(HISTORY.messages[4:], is_complete=False)
    talk = [*TALK, assistant("m6"), assistant("own", "Tip."), user("New", "u9")]
    made = run(*talk).start(newest)
    assert (made.parent, (made.system or "").count("\n\n"), "Tip." in (made.system or "")) == ("m6", 1, True)
    assert run(*talk[:1], user("New", "u9")).start(newest).system == ""


def test_tools_and_options() -> None:
    tools = [{"name": "add", "description": "Add", "parameters": {"type": "object"}}, {"name": "now", "parameters": 3}]
    props = {"toolChoice": {"type": "tool", "toolName": "add"}, "maxOutputTokens": 5, "reasoning": "low"}
    made = run(user("Hi"), tools=tools, forwardedProps=props).start(NEW)
    assert made.tools == [Tool("add", "Add", {"type": "object"}), Tool("now", "", {})]
    assert (made.tool_choice, made.params) == (ToolName("add"), Params(max_tokens=5, reasoning="low"))
    assert run(user("Hi"), tools=[]).start(NEW).tools is None
    others: list[Any] = [None, [], "text", {"model": None}]
    for own in others:
        assert run(user("Hi"), forwardedProps=own).start(NEW).model is None


def test_paths_of_errors() -> None:
    made = run({"id": "s", "role": "system", "content": "."}, assistant("g"), user([{"type": "text", "text": "a"}]))
    made.start(NEW)
    assert made.path("input[0].text") == "messages[2].content.text"
    assert made.path("input[7]") == "messages[0].content"
    assert made.path("params.max_tokens") == "forwardedProps.maxOutputTokens"
    assert made.path("params.response_format") == "forwardedProps.responseFormat"
    assert made.path("tool_choice") == "forwardedProps.toolChoice"
    assert (made.path("conversation"), made.path("turn"), made.path("system")) == ("threadId", "runId", "messages")
    assert refused(user("Hi"), forwardedProps={"seed": "x"}).body.path == "forwardedProps.seed"
    assert refused(user("Hi"), forwardedProps={"toolChoice": "x"}).body.path == "forwardedProps.toolChoice"
    assert refused(user("Hi"), resume=[{}]).body.code == "unsupported"
    assert refused(assistant("a")).body.path == "messages"
    assert json.loads(refuse(refused(threadId="").body, 400).body) == {
        "type": "RUN_ERROR",
        "message": "The id is empty. Send one. (threadId)",
        "code": "invalid_request",
    }


def test_a_repeated_run() -> None:
    """The content of a repeated run is what it would add to the history before it."""
    fresh: dict[str, Any] = {"runId": "t3"}
    question = HISTORY.input_of("t3")
    assert question is not None
    for messages in (TALK, [*TALK, assistant("m6", "Sec")], [], TALK[4:]):
        repeated = run(*messages, **fresh)
        repeated.check_repeated(question, HISTORY)
        assert repeated.new_messages == []
    for messages in (TALK[:5], [*TALK[:5], user("or", "u3")], [*TALK, user("more", "u9")]):
        with pytest.raises(ApiError) as error:
            run(*messages, **fresh).check_repeated(question, HISTORY)
        assert (error.value.body.code, error.value.body.path) == ("conflict", "runId")
    own = stored("m1", "user", None, "own", TextPart("Hi"))
    run(user("Hi")).check_repeated(own, ThreadHistory([own]))
    with pytest.raises(ApiError):
        run(user("Ho")).check_repeated(own, ThreadHistory([own]))


def test_how_much_history_is_read() -> None:
    newest = ThreadHistory(HISTORY.messages[4:], is_complete=False)
    assert run(*TALK, assistant("m6"), user("New", "u9")).is_settled(newest)
    assert run(runId="t3").is_settled(newest)
    assert not run(user("New", "u9")).is_settled(newest)
    assert not run(assistant("m6"), user("New", "u9")).is_settled(newest)


def test_parts_of_messages() -> None:
    data = {"type": "data", "value": "aGk=", "mimeType": "image/png"}
    address = {"type": "url", "value": "https://a.example/b.pdf", "mimeType": "application/pdf"}
    content = [
        {"type": "text", "text": "Look"},
        {"type": "image", "source": data},
        {"type": "document", "source": address},
        {"type": "image", "source": {"type": "url", "value": "https://a.example/c.webp"}},
        {"type": "image", "source": {"type": "file", "value": "file-1"}},
        {"type": "video", "source": address},
        {"type": "binary", "mimeType": "image/gif", "data": "aGk=", "filename": "g.gif"},
        {"type": "binary", "mimeType": "application/pdf", "url": "https://a.example/d"},
        {"type": "hologram"},
        {"type": "image", "source": {"type": "url", "value": "data:image/png;base64,aGk="}},
    ]
    made = run(user(content)).start(NEW)
    assert made.input == [
        TextPart("Look"),
        ImagePart("image/png", data="aGk="),
        FilePart("application/pdf", url="https://a.example/b.pdf"),
        ImagePart("image/webp", url="https://a.example/c.webp"),
        ImagePart("image/gif", data="aGk=", name="g.gif"),
        FilePart("application/pdf", url="https://a.example/d"),
        ImagePart("image/png", data="aGk="),
    ]
    for part in ({"type": "video", "source": address}, {"type": "text", "text": ""}):
        assert refused(user([part])).body.path == "messages[0].content"
    parts: list[Part] = [TextPart("Hi"), ImagePart("image/png", url="/v1/messages/m/parts/1"), FilePart("a/b", "aGk=")]
    assert user_parts(user_message("u", parts), "") == parts


def test_answers_as_messages() -> None:
    parts: list[Part] = [
        *(ReasoningPart("A"), ReasoningPart("", redacted=True), TextPart("One."), ReasoningPart("B"), CALL),
        *(RefusalPart(" No."), ImagePart("image/png", url="x")),
    ]
    reasoning, answer, more = answer_messages(stored("m", "assistant", None, "t", *parts))
    assert (reasoning.id, reasoning.content, more.id, more.content) == ("m.0", "A", "m.3", "B")
    assert (answer.id, answer.content) == ("m", "One. No.")
    assert [call.function.name for call in answer.tool_calls or ()] == ["add"]
    assert answer_messages(stored("m", "assistant", None, "t")) == []


def test_the_thread_as_messages() -> None:
    shown = HISTORY.shown("m6")
    assert [one.id for one in shown] == ["u1", "m2.0", "m2", "m3.0", "m4", "u2", "u3", "m6"]
    assert shown[3] == AgMessage("m3.0", "tool", "3", tool_call_id="c1")
    foreign = stored("m1", "user", None, "t", ToolResultPart("c", "no", error=True), TextPart("Hi"), TextPart("Ho"))
    assert ThreadHistory([foreign]).shown("m1") == [
        AgMessage("m1.0", "tool", "no", tool_call_id="c", error="no"),
        user_message("m1", [TextPart("Hi"), TextPart("Ho")]),
    ]


def started(answer: str, parent: str | None, question: Message | None) -> TurnStarted:
    return TurnStarted(
        turn="run",
        seq=1,
        epoch=1,
        status="running",
        conversation="thread",
        model="m",
        input=question,
        message=answer,
        parent=parent,
    )


def test_what_a_client_is_told() -> None:
    def told(*messages: dict[str, Any], parent: str | None = "m6") -> list[list[str]]:
        made = run(*messages)
        made.start(HISTORY)
        question = stored("m7", "user", parent, "run", TextPart("New")) if made.new_messages else None
        found = made.snapshots(HISTORY, started("m8", "m7" if question else parent, question))
        return [[one.id for one in messages] for messages in found]

    new, every = user("New", "u9"), ["u1", "m2.0", "m2", "m3.0", "m4", "u2", "u3", "m6"]
    assert told(*TALK, assistant("m6"), new) == []
    assert told(new) == [every, [*every, "u9"]]
    # Messages of tools have the client's ids; what only the client has stays at its place.
    own = {"id": "s", "role": "system", "content": "."}
    known = ["s", "u1", "m2.0", "m2", "x1", "m4", "u2", "u3", "m6"]
    assert told(own, *TALK[:3], *TALK[4:], assistant("m6"), assistant("own"), new) == [
        known[:3],
        [*known, "own", "u9"],
    ]
    assert told(*TALK, parent="m5") == []
    thoughts = [{"id": name, "role": "reasoning", "content": "H"} for name in ("m2.0", "m6.0")]
    repeated = run(TALK[0], thoughts[0], *TALK[1:], thoughts[1], assistant("m6", "Sec"), runId="t3")
    question = HISTORY.input_of("t3")
    assert question is not None
    repeated.check_repeated(question, HISTORY)
    (again,) = repeated.snapshots(HISTORY, started("m6", "m5", question))
    assert [one.id for one in again] == ["u1", "m2.0", "m2", "x1", "m4", "u2", "u3", "m6.0"]
    assert [one.content for one in again if one.role == "reasoning"] == ["Hm", ""]


def reconcile(shown: list[str], messages: list[AgMessage]) -> list[str]:
    """Return what a client shows after a snapshot, by the rules of the protocol."""
    ids = [one.id for one in messages]
    kept = [one for one in shown if one in ids]
    return [*kept, *(one for one in ids if one not in kept)]


@given(st.data())
def test_snapshots_bring_the_right_order(data: st.DataObject) -> None:
    """A client that shows any of a branch, and more, in that order, has the whole branch in order afterwards."""
    branch = [AgMessage(f"b{n}", "user") for n in range(data.draw(st.integers(0, 5)))]
    fresh = [AgMessage(f"f{n}", "user") for n in range(data.draw(st.integers(0, 2)))]
    shown: list[AgMessage] = []
    for n, one in enumerate(branch):
        shown += [one] * data.draw(st.integers(0, 1))
        shown += [AgMessage(f"own{n}", "system")] * data.draw(st.integers(0, 1))
    own = [AgMessage("a.0", "reasoning", "Hm"), AgMessage("a", "assistant")][: data.draw(st.integers(0, 2))]
    shown += [*fresh, *own]
    found = snapshots(branch, shown, fresh, "a")
    ids = [one.id for one in shown]
    for messages in found:
        ids = reconcile(ids, messages)
    assert [one for one in ids if one[0] in "bf"] == [one.id for one in (*branch, *fresh)]
    assert [one for one in ids if one.startswith("own")] == [one.id for one in shown if one.id.startswith("own")]
    missing = {one.id for one in branch} - {one.id for one in shown}
    assert len(found) <= 2
    assert bool(found) == bool(missing or own)
    assert [one for one in ids if one.startswith("a")] == [one.id for one in own[:1]]
    assert not own or found[-1][-1].content == ""


def test_large_messages_of_the_client_are_not_sent_back() -> None:
    for size in (1_000_000, 1_000_001):
        parts = [AgPart("image", source=AgSource("data", "A" * size)), AgPart("binary", data=None)]
        own = AgMessage("own", "user", parts)
        found = snapshots([AgMessage("b", "user")], [own], [], "a")
        assert bool(found) == (size == 1_000_000)
    assert snapshots([AgMessage("b", "user")], [own], [own], "a")


def test_metadata_that_says_nothing() -> None:
    """The origin of an input is in its metadata, which other clients may write, too."""
    for metadata in (None, {}, {METADATA: 3}, {METADATA: {"messages": [["u", -1, ""]], "digest": ""}}):
        message = Message(id="m", role="user", parts=[], parent=None, created_at="", metadata=metadata)
        assert origin_of(message) is None
        assert ThreadHistory([message]).place("u") is None


def test_many_messages_at_once() -> None:
    """The metadata stays small. Messages that share an entry are known by the last one's id."""
    many = [user(f"No. {n}", f"u{n}" + "x" * 500) for n in range(300)]
    made = run(*many).start(NEW)
    assert len(made.input_parts) == 300
    assert len(json.dumps(made.metadata)) < 8000
    question = Message(
        id="m1", role="user", parts=made.input_parts, parent=None, created_at="", turn="run", metadata=made.metadata
    )
    history = ThreadHistory([question])
    run(*many).check_repeated(question, history)
    assert run(*many, runId="other").start(history).parent == "m1"
    shown = history.shown("m1")
    assert sum(len(user_parts(one, "")) for one in shown) == 300
