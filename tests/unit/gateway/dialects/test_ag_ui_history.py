"""The history of an AG-UI thread: its messages, the snapshots that a client gets, and where its messages come from."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.ag_ui_history import METADATA, ThreadHistory, origin_of, snapshots
from gateway.dialects.ag_ui_messages import AgMessage, AgPart, AgSource, user_parts
from gateway.dialects.ag_ui_stored_messages import user_message
from gateway.protocol.events import Message, TurnStarted
from providers.base import TextPart, ToolResultPart
from tests.unit.gateway.dialects.ag_ui_thread import HISTORY, NEW, TALK, assistant, run, stored, user


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
