"""The turn that an AG-UI run starts, given the history that the gateway has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.ag_ui import refuse, run_of
from gateway.dialects.ag_ui_history import ThreadHistory
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import TurnStart
from providers.base import Params, Part, TextPart, Tool, ToolName, ToolResultPart
from tests.unit.gateway.dialects.ag_ui_thread import HISTORY, NEW, TALK, assistant, refused, run, stored, tool, user


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
