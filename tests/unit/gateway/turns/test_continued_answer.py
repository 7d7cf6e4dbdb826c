"""`turn.start` with `continue`: a new answer beside an earlier one, with its text first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.protocol.errors import ApiError
from gateway.protocol.events import TurnDelta, TurnPart
from gateway.protocol.requests import TurnStart
from gateway.streams.log import event_size
from gateway.turns.continued_answer import ContinuedAnswer, check_answer
from gateway.turns.event_writer import EventWriter
from gateway.turns.message_fold import fold
from gateway.turns.part_events import SLICE_BYTES, repeated_events
from providers.base import CitationPart, Part, ReasoningPart, TextPart
from providers.catalog.catalog import Catalog
from tests.client import Frame
from tests.demo import expected
from tests.in_process import Instance, SessionClient, open_client

Pair = tuple[Instance, Instance]
DEMO = {"rate": 0, "tokens": 60}


async def cut_answer(client: SessionClient, turn: str = "t0", **demo: Any) -> dict[str, Any]:
    """Run a turn whose answer is cut by a limit. Return the fields of a start that continues it."""
    placed = await client.start(turn, demo={**DEMO, "fail": "length", "fail_after": 20, **demo})
    await client.ending(turn)
    stored = await client.request("turn.get", turn=turn)
    assert stored["finish_reason"] == "length"
    return {"conversation": placed["conversation"], "parent": stored["message"]["id"], "continue": True}


def hangs_after(repeat: Any) -> Any:
    """Return a `repeat` that publishes the earlier answer and then hangs, so that the log has it without `continued`."""

    async def repeat_and_hang(writer: EventWriter, parts: list[Part]) -> None:
        await repeat(writer, parts)
        await asyncio.get_running_loop().create_future()

    return repeat_and_hang


def kinds(frames: list[Frame]) -> list[str]:
    """Return what kinds of events the frames have, without repetitions: types, and statuses."""
    names = [str(frame.get("status", frame["type"])) for frame in frames]
    return [name for number, name in enumerate(names) if number == 0 or name != names[number - 1]]


async def test_the_rest_follows_the_earlier_text_in_one_answer(ann: SessionClient) -> None:
    """The parts are sent again, then `continued`, then the rest. The stored message is whole, beside the old one, and the
    usage is that of the rest. A repeated start is the same turn (law 6)."""
    fields = await cut_answer(ann)
    old = (await ann.request("turn.get", turn="t0"))["message"]
    start = {"turn": "t1", "params": {"demo": DEMO}, **fields}
    placed = await ann.request("turn.start", **start)
    ended = await ann.ending("t1")
    view = ann.turns["t1"]
    assert (view.text(), ended["finish_reason"]) == (expected("Hello", DEMO), "stop")
    assert kinds(ann.of("t1")) == [
        *("running", "turn.part", "turn.delta", "continued", "turn.delta", "turn.completed"),
    ]
    first = view.frames[0]
    assert (first["input"], first["parent"], first["model"]) == (None, old["parent"], "demo")
    earlier = old["usage"]["output_tokens"]
    assert ended["usage"]["output_tokens"] == 60 - earlier
    page = await ann.request("conversation.messages", conversation=placed["conversation"])
    new = page["messages"][-1]
    assert (new["id"], new["parent"], new["parts"]) == (
        ended["message"],
        old["parent"],
        [{"kind": "text", "text": view.text()}],
    )
    assert page["messages"][-2] == old
    assert (await ann.request("conversation.get", conversation=placed["conversation"]))["head"] == new["id"]
    assert (await ann.request("turn.start", **start))["status"] == "attached"
    assert (await ann.refused("turn.start", **{**start, "continue": False}))["code"] == "conflict"


async def test_it_can_be_queued_cancelled_and_followed_on_another_instance(pair: Pair) -> None:
    """Such a turn waits in its conversation's queue like any other, a mirror has the same events, and a cancel keeps what
    there is: the earlier text at least. An answer that was stopped can be continued again."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        fields = await cut_answer(here)
        await there.request("conversation.attach", conversation=fields["conversation"])
        await here.start("slow", conversation=fields["conversation"], demo={"rate": 5, "tokens": 500})
        slow = {"demo": {**DEMO, "rate": 20}}
        await here.request("turn.start", turn="t1", params=slow, on_busy="queue", **fields)
        assert here.turns["t1"].frames[0]["status"] == "queued"
        await here.request("turn.cancel", turn="slow")
        await there.until(lambda: "continued" in kinds(there.of("t1")) and there.turns["t1"].seq > 8)
        await there.request("turn.cancel", turn="t1")
        ended = await there.ending("t1")
        assert ended["type"] == "turn.cancelled"
        text = there.turns["t1"].text()
        await here.ending("t1")
        assert (here.turns["t1"].text(), expected("Hello", DEMO)[: len(text)]) == (text, text)
        again = {**fields, "parent": ended["message"]}
        await here.request("turn.start", turn="t2", params={"demo": DEMO}, **again)
        await here.ending("t2")
        assert here.turns["t2"].text() == expected("Hello", DEMO)


@pytest.mark.parametrize("killed_at", ["queued", "repeated", "continued"])
async def test_it_outlives_its_owner(pair: Pair, killed_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 9: another instance goes on from the end of the log, or begins again if the log has none of it. The answer is
    whole, and nothing is repeated."""
    one, two = pair
    async with open_client(two.services) as there:
        async with open_client(one.services) as here:
            fields = await cut_answer(here)
            await there.request("conversation.attach", conversation=fields["conversation"])
            params = {"demo": {**DEMO, "rate": 30}}
            if killed_at == "queued":
                await here.start("slow", conversation=fields["conversation"], demo={"rate": 60, "tokens": 20})
                await here.request("turn.start", turn="t1", params=params, on_busy="queue", **fields)
                await there.until(lambda: there.of("t1"))
            elif killed_at == "repeated":
                with monkeypatch.context() as patched:
                    patched.setattr(EventWriter, "repeat", hangs_after(EventWriter.repeat))
                    await here.request("turn.start", turn="t1", params=params, **fields)
                    await there.until(lambda: "turn.delta" in kinds(there.of("t1")))
            else:
                await here.request("turn.start", turn="t1", params=params, **fields)
                await there.until(lambda: "continued" in kinds(there.of("t1")) and there.turns["t1"].seq > 8)
            await one.kill()
        assert (await there.ending("t1"))["type"] == "turn.completed"
        view = there.turns["t1"]
        assert (view.text(), view.resets) == (expected("Hello", DEMO), int(killed_at != "continued"))


@pytest.mark.parametrize(
    ("changed", "code", "path"),
    [
        ({"input": "Go on"}, "invalid_request", "continue"),
        ({"parent": None}, "invalid_request", "continue"),
        ({"parent": "m_none"}, "not_found", "parent"),
        ({"parent": "input"}, "invalid_request", "continue"),
        ({"conversation": "other"}, "not_found", "parent"),
        ({"params": {"response_format": {"type": "json_object"}}}, "unsupported", "continue"),
        ({"parent": "tool"}, "unsupported", "continue"),
        ({"parent": "empty"}, "unsupported", "continue"),
        ({"model": "openai/gpt-4o"}, "unsupported", "continue"),
    ],
    ids=[
        "input",
        "no parent",
        "no such answer",
        "not an answer",
        "another conversation",
        "format",
        "tool",
        "empty",
        "model",
    ],
)
async def test_what_cannot_be_continued(
    ann: SessionClient, changed: dict[str, Any], code: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the field and says what to do, and the start leaves no trace."""
    fields = await cut_answer(ann)
    conversation = fields["conversation"]
    names = {"input": (await ann.request("turn.get", turn="t0"))["message"]["parent"]}
    for name, demo in {"tool": {"tool": {"name": "add"}}, "empty": {"fail": "length", "fail_after": 0}}.items():
        await ann.start(name, conversation=conversation, demo=demo)
        names[name] = (await ann.ending(name))["message"]
    await ann.request("conversation.create", conversation="other")
    if "model" in changed:
        monkeypatch.setattr("providers.catalog.catalog.Catalog.resolve", _without_prefill(ann))
    before = await ann.request("conversation.get", conversation=conversation)
    request = {**fields, **changed}
    request["parent"] = names.get(request["parent"], request["parent"])
    error = await ann.refused("turn.start", turn="t9", **{k: v for k, v in request.items() if v is not None})
    assert (error["code"], error.get("path")) == (code, path), error
    assert await ann.request("conversation.get", conversation=conversation) == before
    assert (await ann.refused("turn.get", turn="t9"))["code"] == "not_found"


def _without_prefill(ann: SessionClient) -> Any:
    """Return a `resolve` whose route can't continue an answer."""
    from msgspec import structs

    services = ann.session._services
    route = services.catalog.resolve("demo")
    return lambda self, model: structs.replace(route, id=model, features=("chat", "streaming"))


async def test_an_estimate_counts_the_start_of_the_answer(ann: SessionClient) -> None:
    """It is part of what the model reads."""
    fields = await cut_answer(ann)
    conversation, parent = fields["conversation"], (await ann.request("turn.get", turn="t0"))["message"]["parent"]
    plain = await ann.request("turn.estimate", conversation=conversation, parent=parent)
    assert (await ann.request("turn.estimate", **fields))["input_tokens"] > plain["input_tokens"] + 20


async def test_a_long_answer_is_continued(ann: SessionClient) -> None:
    """An answer of megabytes is repeated in frames that fit (law 10), without closing a connection that reads."""
    text = f"{'é' * 1_000_000} {'b' * 1_000_000} the end"
    whole: dict[str, Any] = {"rate": 0, "text": text}
    fields = await cut_answer(ann, **whole, tokens=None, fail_after=2)
    await ann.request("turn.start", turn="t1", params={"demo": whole}, **fields)
    await ann.ending("t1")
    assert ann.turns["t1"].text() == text
    assert not ann.overflowed


def test_the_bound_of_an_answer_counts_bytes() -> None:
    """An answer that is too long to be repeated is refused at once, in any script, and not cancelled at its first word."""
    route = Catalog({}).resolve("demo")
    request = TurnStart(conversation="c", parent="m", continue_=True)
    for text, signature in (("语" * 40, None), ("a" * 120, None), ("a", "s" * 119)):
        answer = ContinuedAnswer("p", "demo", [TextPart(text, signature)])
        check_answer(answer, request, [route], 121)
        with pytest.raises(ApiError) as refused:
            check_answer(answer, request, [route], 120)
        assert refused.value.code == "unsupported"


def test_repeated_events_make_up_the_same_parts() -> None:
    """Reasoning, its signature, text and citations, in slices and with seqs without a gap."""
    parts: list[Part] = [
        ReasoningPart("thought", False, "s" * 40_000),
        ReasoningPart("", True, "opaque"),
        TextPart("é" * (SLICE_BYTES // 2)),
        CitationPart("https://example.com", "A title", "A quote"),
        TextPart(""),
    ]
    slices = repeated_events("t", 3, parts)
    events: list[TurnPart | TurnDelta] = [event for one in slices for event in one]
    assert fold(events) == parts
    assert [event.seq for event in events] == list(range(4, 4 + len(events)))
    assert len(slices) > 1
    assert all(sum(map(event_size, one)) < 2 * SLICE_BYTES for one in slices)
