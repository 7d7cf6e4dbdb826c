"""The rules of `turn.start`, which of its fields are its content (law 6), and how the store accepts its turn."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.protocol.errors import ApiError
from gateway.protocol.requests import InputMessage, TurnStart, decode_turn_start
from gateway.protocol.views import body_of
from gateway.turns.acceptance import accept, started
from gateway.turns.live_turn import LiveTurn
from gateway.turns.prepared_start import encode_content, prepare
from providers.base import FilePart, ImagePart, Params, ReasoningPart, TextPart, Tool, ToolCallPart, ToolResultPart
from store.errors import Busy, Conflict, NotFound
from store.records import Accepted
from tests.in_process import ControlledStore
from tests.turn_events import EPOCH

INPUT_MAX = 1000
BODY_MAX = 2000
ITEMS_MAX = 4
METADATA_MAX = 100
ONE = [InputMessage(role="user", parts=[TextPart("Hi")])]


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({}, "invalid_request", "input"),
        ({"conversation": "c"}, "invalid_request", "input"),
        ({"input": ""}, "invalid_request", "input"),
        ({"input": []}, "invalid_request", "input"),
        ({"input": "\u200b\ufeff \x00"}, "invalid_request", "input"),
        ({"input": [ToolCallPart("a", "f", "{}")]}, "invalid_request", "input"),
        ({"input": [ReasoningPart("So."), TextPart(" ")]}, "invalid_request", "input"),
        (
            {"messages": [InputMessage(role="assistant", parts=[ToolCallPart("a", "f", "{}")])]},
            "invalid_request",
            "messages",
        ),
        ({"input": "", "conversation": "c", "parent": "m"}, "invalid_request", "input"),
        ({"input": "Hi", "parent": "m"}, "invalid_request", "conversation"),
        ({"parent": "m"}, "invalid_request", "conversation"),
        ({"input": "Hi", "create": True}, "invalid_request", "conversation"),
        ({"input": "Hi", "conversation": "..", "create": True}, "invalid_request", "conversation"),
        ({"input": "Hi", "turn": "."}, "invalid_request", "turn"),
        ({"messages": ONE, "create": True}, "invalid_request", "conversation"),
        ({"messages": []}, "invalid_request", "messages"),
        ({"messages": ONE, "input": "Hi"}, "invalid_request", "input"),
        ({"messages": ONE, "conversation": "c"}, "invalid_request", "conversation"),
        ({"messages": ONE, "parent": "m"}, "invalid_request", "parent"),
        ({"input": "x" * 1000}, "too_large", None),
        ({"input": "Hi", "system": "x" * 1000}, "too_large", None),
        ({"messages": [InputMessage(role="user", parts=[TextPart("x" * 1000)])]}, "too_large", None),
        ({"input": [TextPart("x" * 1000), ImagePart("image/png", data="AAAA")]}, "too_large", None),
        ({"input": [ImagePart("image/png", data="AAAA" * 500)]}, "too_large", None),
        ({"input": [ImagePart("image/png", url="data:image/png;base64," + "AAAA" * 500)]}, "too_large", None),
        ({"messages": [InputMessage(role="user", parts=[FilePart("a/b", data="AAAA" * 500)])]}, "too_large", None),
        ({"input": [TextPart("x")] * 5}, "too_large", None),
        ({"messages": [*ONE, *ONE, InputMessage(role="user", parts=[])]}, "too_large", None),
        ({"messages": [InputMessage(role="user", parts=[TextPart("x")] * 4)]}, "too_large", None),
        ({"input": "Hi", "tools": [Tool(f"t{n}") for n in range(4)]}, "too_large", None),
    ],
    ids=repr,
)
def test_an_invalid_start_is_refused(fields: dict[str, Any], code: str, path: str | None) -> None:
    """Rules about several fields, and the bounds of a start, are checked. An `invalid_request` names the field."""
    with pytest.raises(ApiError) as refused:
        prepare(TurnStart(**fields), INPUT_MAX, BODY_MAX, ITEMS_MAX, METADATA_MAX)
    assert (refused.value.code, refused.value.body.path) == (code, path)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "Hi"},
        {"input": "Hi", "conversation": "c"},
        {"input": "Hi", "conversation": "c", "parent": "m"},
        {"input": "Hi", "conversation": "c", "create": True},
        {"conversation": "c", "parent": "m"},
        {"input": [ToolResultPart("c", "3")]},
        {"messages": ONE},
        {"messages": [InputMessage(role="user", parts=[TextPart("x")] * 3)]},
        {"input": "x" * 900},
        {"input": [TextPart("x" * 800), ImagePart("image/png", data="AAAA" * 250)]},
        {"input": [ImagePart("image/png", url="data:image/png;base64," + "AAAA" * 250)]},
        {"messages": [InputMessage(role="user", parts=[FilePart("a/b", data="AAAA" * 250)])]},
    ],
    ids=repr,
)
def test_a_valid_start_is_accepted(fields: dict[str, Any]) -> None:
    """A valid start has text or parts, with or without a conversation and a parent; or a conversation and a parent without
    input, to answer the parent again; or the messages of a stateless turn."""
    assert prepare(TurnStart(**fields), INPUT_MAX, BODY_MAX, ITEMS_MAX, METADATA_MAX).content


def test_the_content_excludes_id_metadata_and_on_disconnect() -> None:
    """Law 6: `id`, `as`, `metadata`, `on_disconnect`, the order of maps, and empty or default values don't change the
    digest of the content. For a takeover, the request is stored with all of its fields except `id` and `as`."""
    base = TurnStart(turn="t", input="Hi", params=Params(demo={"a": 1, "b": 2}))
    same = [
        replace(base, id="7", as_="bob"),
        replace(base, metadata={"x": 1}),
        replace(base, on_disconnect="cancel"),
        replace(base, params=Params(demo={"b": 2, "a": 1.0})),
        replace(base, params=Params(demo={"a": 1, "b": 2, "c": None}, response_format={})),
        replace(base, tools=[], tool_choice="auto"),
    ]
    digest = encode_content(base)[1]
    assert {encode_content(one)[1] for one in same} == {digest}
    others = [
        replace(base, turn="u"),
        replace(base, input="Ho"),
        replace(base, input=[TextPart("Hi")]),
        replace(base, conversation="c"),
        replace(base, parent="m"),
        replace(base, model="demo"),
        replace(base, system="s"),
        replace(base, params=Params(demo={"a": 1})),
        replace(base, tools=[Tool("add")]),
        replace(base, tool_choice="none"),
        replace(base, on_busy="queue"),
        replace(base, messages=ONE),
    ]
    assert len({encode_content(one)[1] for one in others} | {digest}) == len(others) + 1
    complete = replace(base, id="7", as_="bob", metadata={"x": 1}, on_disconnect="cancel")
    assert decode_turn_start(encode_content(complete)[0]) == replace(complete, id=None, as_=None)


def test_input_is_text_or_parts() -> None:
    """Text becomes one text part; empty text becomes no part."""
    assert TurnStart(input="Hi").input_parts == [TextPart("Hi")]
    assert TurnStart(input="").input_parts == TurnStart().input_parts == []
    assert TurnStart(input=[ToolResultPart("c", "3")]).input_parts == [ToolResultPart("c", "3")]


async def accepted(store: ControlledStore, request: TurnStart, turn: str = "t", digest: bytes = b"digest") -> Accepted:
    stream = LiveTurn("ann", turn, digest, EPOCH)
    prepared = prepare(request, INPUT_MAX, BODY_MAX, ITEMS_MAX, METADATA_MAX)
    found = await accept(store.as_store, stream, request, prepared, "demo", request.parent, "in_one", 10_000)
    assert (stream.acceptance is not None, stream.conversation_record) == (True, found.conversation)
    return found


async def test_the_first_turn_creates_a_conversation_with_a_title(store: ControlledStore) -> None:
    """The system prompt and the model of the first start become the conversation's. The accepting instance owns the turn and has
    its lease."""
    found = await accepted(store, TurnStart(input="Hello there", system="Be brief.", model="demo"))
    assert found.conversation is not None
    assert found.input is not None
    assert found.conversation.title == "Hello there"
    assert (found.conversation.system, found.conversation.model) == ("Be brief.", "demo")
    assert body_of(found.input).parts == [TextPart("Hello there")]
    first = started(found.turn, found.input, queued=False)
    assert (first.seq, first.epoch, first.status, first.conversation) == (
        1,
        EPOCH,
        "running",
        found.conversation.id,
    )
    assert first.input is not None
    assert (first.input.role, first.input.parts) == ("user", [TextPart("Hello there")])
    assert (first.message, first.parent) == (found.turn.message, found.input.id)
    assert started(found.turn, found.input, queued=True).status == "queued"
    assert found.turn.owner == "in_one"
    assert await store.expired_leases() == []


async def test_tool_results_are_a_message_of_the_tool(store: ControlledStore) -> None:
    """Input with only tool results has the role `tool`; with additional text it has the role `user`."""
    alone = await accepted(store, TurnStart(input=[ToolResultPart("c", "3")]))
    mixed = await accepted(store, TurnStart(input=[ToolResultPart("c", "3"), TextPart("so?")]), "u")
    assert [one.input.role for one in (alone, mixed) if one.input] == ["tool", "user"]


async def test_a_stateless_turn_has_no_conversation(store: ControlledStore) -> None:
    """In the `turn.started` of a stateless turn, the conversation, the parent and the input are null."""
    found = await accepted(store, TurnStart(messages=ONE))
    first = started(found.turn, found.input, queued=False)
    assert (first.conversation, first.parent, first.input) == (None, None, None)


async def test_a_queued_turn_follows_the_one_ahead(store: ControlledStore) -> None:
    """The parent of its input is the answer of the turn ahead, even before that answer exists. An explicit `parent` takes
    precedence."""
    first = await accepted(store, TurnStart(input="one"), "a")
    assert first.conversation is not None
    assert first.input is not None
    conversation = first.conversation.id
    second = await accepted(store, TurnStart(input="two", conversation=conversation, on_busy="queue"), "b")
    assert second.input is not None
    assert (second.input.parent, second.ahead) == (first.turn.message, ("a",))
    request = TurnStart(input="three", conversation=conversation, parent=first.input.id, on_busy="queue")
    third = await accepted(store, request, "c")
    assert third.input is not None
    assert (third.input.parent, third.ahead) == (first.input.id, ("a", "b"))


async def test_store_refusals_are_raised_unchanged(store: ControlledStore) -> None:
    """A conflict, a missing object and a busy conversation are raised as they are; `error_mapping.py` maps them."""
    first = await accepted(store, TurnStart(input="one"), "a")
    assert first.conversation is not None
    busy = TurnStart(input="two", conversation=first.conversation.id, on_busy="reject")
    with pytest.raises(Busy):
        await accepted(store, busy, "c")
    with pytest.raises(Conflict):
        await accepted(store, TurnStart(input="two"), "a", b"other digest")
    with pytest.raises(NotFound, match="conversation"):
        await accepted(store, TurnStart(input="two", conversation="nowhere"), "b", b"")
