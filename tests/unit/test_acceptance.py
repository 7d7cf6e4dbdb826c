"""The rules of `turn.start`, and what of it counts as its content (law 6)."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec.structs import replace

from gateway.acceptance import accept, check_start, content_of, parts_of, started
from gateway.errors import ApiError
from gateway.hub import TurnStream
from gateway.protocol import InputMessage, TurnStart
from gateway.shapes import body_of
from providers.base import ImagePart, Params, TextPart, Tool, ToolResultPart
from store.base import Store
from tests.in_process import SteeredStore
from tests.turn_events import EPOCH

INPUT_MAX = 1000
ONE = [InputMessage(role="user", parts=[TextPart("Hi")])]


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({}, "invalid_request", "input"),
        ({"conversation": "c"}, "invalid_request", "input"),
        ({"input": ""}, "invalid_request", "input"),
        ({"input": []}, "invalid_request", "input"),
        ({"input": "", "conversation": "c", "parent": "m"}, "invalid_request", "input"),
        ({"input": "Hi", "parent": "m"}, "invalid_request", "conversation"),
        ({"parent": "m"}, "invalid_request", "conversation"),
        ({"messages": []}, "invalid_request", "messages"),
        ({"messages": ONE, "input": "Hi"}, "invalid_request", "input"),
        ({"messages": ONE, "conversation": "c"}, "invalid_request", "conversation"),
        ({"messages": ONE, "parent": "m"}, "invalid_request", "parent"),
        ({"input": "x" * 1000}, "too_large", None),
        ({"input": "Hi", "system": "x" * 1000}, "too_large", None),
        ({"messages": [InputMessage(role="user", parts=[TextPart("x" * 1000)])]}, "too_large", None),
        ({"input": [ImagePart("image/png", data="x" * 1000)]}, "too_large", None),
    ],
    ids=repr,
)
def test_a_start_that_makes_no_sense_is_refused(fields: dict[str, Any], code: str, path: str | None) -> None:
    """The rules that need more than one field, and the bound of the input; each says which field."""
    with pytest.raises(ApiError) as refused:
        check_start(TurnStart(**fields), INPUT_MAX)
    assert (refused.value.code, refused.value.body.path) == (code, path)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "Hi"},
        {"input": "Hi", "conversation": "c"},
        {"input": "Hi", "conversation": "c", "parent": "m"},
        {"conversation": "c", "parent": "m"},
        {"input": [ToolResultPart("c", "3")]},
        {"messages": ONE},
        {"input": "x" * 900},
    ],
    ids=repr,
)
def test_a_start_that_makes_sense_passes(fields: dict[str, Any]) -> None:
    """Text or parts, in a conversation or not, a branch, an answer again, or messages of its own."""
    check_start(TurnStart(**fields), INPUT_MAX)


def test_what_counts_as_content() -> None:
    """Law 6: the frame without `id`, `metadata` and `on_disconnect`, however its maps are ordered."""
    base = TurnStart(turn="t", input="Hi", params=Params(demo={"a": 1, "b": 2}))
    same = [
        replace(base, id="7"),
        replace(base, metadata={"x": 1}),
        replace(base, on_disconnect="cancel"),
        replace(base, params=Params(demo={"b": 2, "a": 1})),
    ]
    digest = content_of(base)[1]
    assert {content_of(one)[1] for one in same} == {digest}
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
        replace(base, tool_choice="auto"),
        replace(base, on_busy="queue"),
        replace(base, messages=ONE),
    ]
    assert len({content_of(one)[1] for one in others} | {digest}) == len(others) + 1
    content, _ = content_of(replace(base, id="7", metadata={"x": 1}))
    assert b"metadata" not in content
    assert b'"input":"Hi"' in content


def test_input_is_text_or_parts() -> None:
    """Text is one text part; nothing is no part."""
    assert parts_of("Hi") == [TextPart("Hi")]
    assert parts_of("") == []
    assert parts_of([ToolResultPart("c", "3")]) == [ToolResultPart("c", "3")]


async def accepted(steered: SteeredStore, request: TurnStart, turn: str = "t", behind: TurnStream | None = None) -> Any:
    stream = TurnStream("ann", turn, b"digest", EPOCH, None)
    found = await accept(cast("Store", steered), stream, request, b"{}", "demo", behind)
    stream.message = found.turn.message
    return stream, found


async def test_accepting_makes_a_conversation_with_its_first_words(steered: SteeredStore) -> None:
    """System and model of the first start are the conversation's."""
    stream, found = await accepted(steered, TurnStart(input="Hello there", system="Be brief.", model="demo"))
    assert found.conversation.title == "Hello there"
    assert (found.conversation.system, found.conversation.model) == ("Be brief.", "demo")
    assert body_of(found.input).parts == [TextPart("Hello there")]
    first = started(stream, found, queued=False)
    assert (first.seq, first.epoch, first.status, first.conversation) == (
        1,
        EPOCH,
        "running",
        found.conversation.id,
    )
    assert first.input is not None
    assert (first.input.role, first.input.parts) == ("user", [TextPart("Hello there")])
    assert (first.message, first.parent) == (found.turn.message, found.input.id)
    assert started(stream, found, queued=True).status == "queued"


async def test_tool_results_are_a_message_of_the_tool(steered: SteeredStore) -> None:
    """Input of nothing but tool results has role `tool`; with text beside them it is the user's."""
    _, found = await accepted(steered, TurnStart(input=[ToolResultPart("c", "3")]))
    assert found.input.role == "tool"
    _, mixed = await accepted(steered, TurnStart(input=[ToolResultPart("c", "3"), TextPart("so?")]), "u")
    assert mixed.input.role == "user"


async def test_a_stateless_turn_has_no_place(steered: SteeredStore) -> None:
    """Conversation, parent and input are null."""
    stream, found = await accepted(steered, TurnStart(messages=ONE))
    first = started(stream, found, queued=False)
    assert (first.conversation, first.parent, first.input) == (None, None, None)


async def test_a_queued_turn_follows_the_one_ahead(steered: SteeredStore) -> None:
    """The parent is the answer of the turn ahead, also before that exists; a parent of its own goes first."""
    ahead, first = await accepted(steered, TurnStart(input="one"), "a")
    where = first.conversation.id
    _, second = await accepted(steered, TurnStart(input="two", conversation=where), "b", ahead)
    assert second.input.parent == ahead.message
    _, third = await accepted(steered, TurnStart(input="three", conversation=where, parent=first.input.id), "c", ahead)
    assert third.input.parent == first.input.id


async def test_what_the_store_refuses_is_said_in_our_words(steered: SteeredStore) -> None:
    """A conflict and what isn't there carry the path."""
    await accepted(steered, TurnStart(input="one"), "a")
    stream = TurnStream("ann", "a", b"other digest", EPOCH, None)
    with pytest.raises(ApiError) as conflict:
        await accept(cast("Store", steered), stream, TurnStart(input="two"), b"{}", "demo", None)
    assert (conflict.value.code, conflict.value.body.path) == ("conflict", "turn")
    with pytest.raises(ApiError) as missing:
        await accepted(steered, TurnStart(input="two", conversation="nowhere"), "b")
    assert (missing.value.code, missing.value.body.path) == ("not_found", "conversation")
