"""The request to a model: the fields of `turn.start`, the messages of the branch and their bounds, and stored data."""

from __future__ import annotations

import time
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from gateway.protocol.errors import ApiError
from gateway.protocol.requests import InputMessage, TurnStart
from gateway.protocol.views import MessageBody, encode_body
from gateway.turns.context import History, build_chat_request, without_history
from providers.base import (
    ChatMessage,
    ChatRequest,
    ImagePart,
    Params,
    Part,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from store.records import Change, MessageRecord
from tests.in_process import ControlledStore
from tests.stored import conversation, ending, message, new_turn


def body(*parts: Part) -> bytes:
    return encode_body(MessageBody(list(parts)))


def history_of(store: ControlledStore, bytes_max: int = 1 << 25, items_max: int = 10_000) -> History:
    return History(store.as_store, "ann", bytes_max, items_max)


async def built_request(
    store: ControlledStore, request: TurnStart, turn: str, bytes_max: int = 1 << 25, items_max: int = 10_000
) -> Any:
    record = await store.turn("ann", turn)
    conversation_record = None if record.conversation is None else await store.conversation("ann", record.conversation)
    return await build_chat_request(
        history_of(store, bytes_max, items_max), record, conversation_record, request, "upstream-name"
    )


def test_a_request_keeps_all_its_fields() -> None:
    """Model, system prompt, parameters, tools and tool choice are passed on unchanged."""
    request = TurnStart(
        input="Hi",
        system="Be brief.",
        params=Params(temperature=0.5, stop=["x"]),
        tools=[Tool("add", "adds", {"type": "object"})],
        tool_choice="required",
    )
    made = without_history(request, "upstream-name")
    assert (made.model, made.system, made.params) == ("upstream-name", "Be brief.", request.params)
    assert (made.tools, made.tool_choice) == (tuple(request.tools or ()), "required")
    assert made.messages == (ChatMessage("user", (TextPart("Hi"),)),)
    assert without_history(TurnStart(parent="m"), "u").messages == (ChatMessage("user", ()),)


async def test_a_stateless_turn_uses_only_its_own_messages(store: ControlledStore) -> None:
    """Only role and parts of the messages are used, and no branch is read from the store."""
    request = TurnStart(
        messages=[
            InputMessage(role="user", parts=[TextPart("a")], id="m", usage={"x": 1}),
            InputMessage(role="assistant", parts=[TextPart("b", "S")]),
        ]
    )
    await store.accept(new_turn("t", stateless=True, conversation=None, input=None))
    made = await built_request(store, request, "t")
    assert made.messages == (
        ChatMessage("user", (TextPart("a"),)),
        ChatMessage("assistant", (TextPart("b", "S"),)),
    )
    assert "branch" not in store.calls


async def test_unanswered_tool_calls_are_removed_from_a_stateless_turn(store: ControlledStore) -> None:
    """A client can send history back as it came, but every provider refuses a tool call without its result."""
    calls = [ToolCallPart("c1", "add", "{}"), ToolCallPart("c2", "add", "{}")]
    request = TurnStart(
        messages=[
            InputMessage(role="assistant", parts=[TextPart("b"), *calls]),
            InputMessage(role="tool", parts=[ToolResultPart("c2", "4")]),
            InputMessage(role="assistant", parts=[ToolCallPart("c3", "add", "{}")]),
            InputMessage(role="user", parts=[TextPart("Never mind.")]),
        ]
    )
    await store.accept(new_turn("t", stateless=True, conversation=None, input=None))
    assert [message.parts for message in (await built_request(store, request, "t")).messages] == [
        (TextPart("b"), calls[1]),
        (ToolResultPart("c2", "4"),),
        (TextPart("Never mind."),),
    ]


async def test_the_history_is_the_branch_up_to_the_input(store: ControlledStore) -> None:
    """Messages are in order, with signatures, tool calls and tool results. An empty answer (stopped before its first word)
    is left out. The system prompt is that of the start, or else that of the conversation; an empty one clears it."""
    await store.create_conversation(conversation(system="Be kind."))
    history: list[tuple[Part, ...]] = [
        (TextPart("one"), ImagePart("image/png", data="QUJD")),
        (ReasoningPart("hm", signature="S"), ToolCallPart("c", "add", "{}")),
        (ToolResultPart("c", "3"),),
        (),
        (TextPart("again"),),
        (TextPart("three"),),
    ]
    for n in range(0, 6, 2):
        new = new_turn(f"t{n}", input=message(f"q{n}", body=body(*history[n]), turn=f"t{n}"))
        accepted = await store.accept(new)
        made = ending(accepted.turn)
        await store.end(replace(made, answer=replace(made.answer, body=body(*history[n + 1]))))
    await store.accept(new_turn("t", input=message("q", body=body(TextPart("now")), turn="t")))
    made = await built_request(store, TurnStart(conversation="c1", input="now"), "t")
    roles = [found.role for found in made.messages]
    parts = [found.parts for found in made.messages]
    assert parts == [p for p in history if p] + [(TextPart("now"),)]
    assert roles == ["user", "assistant", "user", "user", "assistant", "user"]
    assert made.system == "Be kind."
    named = await built_request(store, TurnStart(conversation="c1", input="now", system="Be brief."), "t")
    assert named.system == "Be brief."
    await store.update_conversation("ann", "c1", Change(system=""), 0)
    cleared = await built_request(store, TurnStart(conversation="c1", input="now"), "t")
    assert cleared.system is None


async def test_the_operators_prompt_comes_first_and_can_not_be_replaced(store: ControlledStore) -> None:
    """The operator's prompt precedes the system prompt of the turn, or else that of the conversation. An empty system
    prompt doesn't remove it. A stateless turn has it too, even if its messages include one with the role `system`."""
    await store.create_conversation(conversation(system="Be kind."))
    await store.accept(new_turn("t", input=message("q", body=body(TextPart("now")), turn="t")))
    record, conversation_record = await store.turn("ann", "t"), await store.conversation("ann", "c1")
    for own, expected in ((None, "Obey.\n\nBe kind."), ("Be brief.", "Obey.\n\nBe brief."), ("", "Obey.")):
        request = TurnStart(conversation="c1", input="now", system=own)
        made = await build_chat_request(history_of(store), record, conversation_record, request, "u", "Obey.")
        assert made.system == expected
    await store.accept(new_turn("s", stateless=True, conversation=None, input=None))
    roles = cast("Any", ("system", "user"))
    request = TurnStart(messages=[InputMessage(role=role, parts=[TextPart("x")]) for role in roles])
    made = await build_chat_request(history_of(store), await store.turn("ann", "s"), None, request, "u", "Obey.")
    assert (made.system, made.messages[0].role) == ("Obey.", "system")
    assert without_history(TurnStart(input="Hi"), "u").system is None


async def test_a_conversation_deleted_meanwhile_is_not_found(store: ControlledStore) -> None:
    """A branch that can't be read any more is `not_found`."""
    await store.create_conversation(conversation())
    await store.accept(new_turn("t"))
    record = await store.turn("ann", "t")
    await store.delete_conversation("ann", "c1")
    with pytest.raises(ApiError) as missing:
        await build_chat_request(history_of(store), record, None, TurnStart(conversation="c1", input="x"), "u")
    assert missing.value.code == "not_found"


async def store_exchanges(store: ControlledStore, *questions: Part) -> None:
    """Store a conversation with an answer to each question, then accept the turn `t` in it."""
    await store.create_conversation(conversation())
    for number, question in enumerate(questions):
        new = new_turn(f"t{number}", input=message(f"q{number}", body=body(question), turn=f"t{number}"))
        made = ending((await store.accept(new)).turn)
        await store.end(replace(made, answer=replace(made.answer, body=body(TextPart(f"answer {number}")))))
    await store.accept(new_turn("t", input=message("q", body=body(TextPart("now")), turn="t")))


def texts(made: ChatRequest) -> list[str]:
    return [part.text[:8] for each in made.messages for part in each.parts if isinstance(part, TextPart)]


async def test_the_history_is_bounded_in_bytes(store: ControlledStore) -> None:
    """Law 11: of the history, only the newest exchanges are sent, each as a whole. The input is always sent."""
    await store_exchanges(store, *(TextPart(f"q{number}" + "x" * 1000) for number in range(3)))
    request = TurnStart(conversation="c1", input="now")
    whole = ["q0xxxxxx", "answer 0", "q1xxxxxx", "answer 1", "q2xxxxxx", "answer 2", "now"]
    for bytes_max, omitted_messages in {1: 6, 500: 6, 1500: 4, 2500: 2, 9000: 0}.items():
        made = await built_request(store, request, "t", bytes_max)
        assert (texts(made), made.omitted_messages) == (whole[omitted_messages:], omitted_messages), bytes_max


async def test_the_history_is_bounded_in_items(store: ControlledStore) -> None:
    """Law 11: messages and parts count. Of the history, only the newest exchanges are sent, each as a whole. The input is
    always sent."""
    await store_exchanges(store, *(TextPart(f"q{number}") for number in range(3)))
    request = TurnStart(conversation="c1", input="now")
    whole = ["q0", "answer 0", "q1", "answer 1", "q2", "answer 2", "now"]
    for items_max, omitted_messages in {1: 6, 5: 6, 6: 4, 13: 2, 14: 0}.items():
        made = await built_request(store, request, "t", items_max=items_max)
        assert (texts(made), made.omitted_messages) == (whole[omitted_messages:], omitted_messages), items_max


async def test_no_more_messages_are_read_than_may_be_sent(
    store: ControlledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 11: a conversation may be much longer than a request."""
    await store_exchanges(store, *(TextPart(f"q{number}") for number in range(3)))
    real, counts = store.real.branch, []

    async def branch(*args: Any) -> tuple[list[MessageRecord], int]:
        found, older = await real(*args)
        counts.append((len(found), older))
        return found, older

    monkeypatch.setattr(store.real, "branch", branch)
    for items_max in (1, 4, 10_000):
        await built_request(store, TurnStart(conversation="c1", input="now"), "t", items_max=items_max)
    assert counts == [(1, 6), (4, 3), (7, 0)]


async def test_a_history_of_many_small_parts_does_not_block_the_loop(store: ControlledStore) -> None:
    """Law 11: the history is decoded and converted in another thread, up to the limit of messages and parts."""
    await store.create_conversation(conversation())
    many = body(*[TextPart("a")] * 9_000)
    for number in range(12):
        made = ending((await store.accept(new_turn(f"t{number}", input=message(f"q{number}", body=many)))).turn)
        await store.end(replace(made, answer=replace(made.answer, body=many)))
    await store.accept(new_turn("t", input=message("q", body=body(TextPart("now")), turn="t")))
    took_s = []
    for _ in range(3):  # a garbage collection may slow down any of them
        began_s = time.thread_time()
        made = await built_request(store, TurnStart(conversation="c1", input="now"), "t", items_max=20_000)
        took_s.append(time.thread_time() - began_s)
        assert [len(each.parts) for each in made.messages] == [9_000, 9_000, 1]
    assert min(took_s) < 0.05


def image_at(number: int, part: int = 0) -> ImagePart:
    return ImagePart("image/png", url=f"/v1/messages/q{number}/parts/{part}")


async def test_a_referenced_part_is_read_once_and_counted_each_time(store: ControlledStore) -> None:
    """Law 11: a frame that references a large image many times can't make a request larger than the bound."""
    await store_exchanges(store, ImagePart("image/png", data="A" * 3000))

    def referencing(times: int) -> TurnStart:
        return TurnStart(messages=[InputMessage(role="user", parts=[image_at(0)] * times)])

    before = store.calls.count("message")
    (sent,) = (await built_request(store, referencing(2), "t", 10_000)).messages
    assert sent.parts == (ImagePart("image/png", data="A" * 3000),) * 2
    assert store.calls.count("message") == before + 1
    with pytest.raises(ApiError) as refused:
        await built_request(store, referencing(3), "t", 10_000)
    assert refused.value.code == "context_length_exceeded"


async def test_old_exchanges_with_too_much_data_are_left_out(store: ControlledStore) -> None:
    """A conversation with many references continues with its newest exchanges."""
    await store_exchanges(store, ImagePart("image/png", data="A" * 3000), image_at(0), image_at(0), TextPart("q3"))
    made = await built_request(store, TurnStart(conversation="c1", input="now"), "t", 8000)
    assert (texts(made), made.omitted_messages) == (["answer 2", "q3", "answer 3", "now"], 4)
    assert made.messages[0].parts == (ImagePart("image/png", data="A" * 3000),)


def test_a_stored_body_can_be_decoded() -> None:
    """A stored message body is decoded to the same parts."""
    assert msgspec.json.decode(body(TextPart("Hi")), type=MessageBody).parts == [TextPart("Hi")]


async def test_a_reference_to_stored_data_is_replaced_by_the_data(store: ControlledStore) -> None:
    """A message of the history can be sent back: the provider gets the data, never the gateway's own URL."""
    await store.create_conversation(conversation())
    stored = (TextPart("look"), ImagePart("image/png", data="QUJD" * 2000, name="a.png"))
    accepted = await store.accept(new_turn("t0", input=message("q0", body=body(*stored), turn="t0")))
    await store.end(ending(accepted.turn))
    shown = ImagePart("image/png", url="/v1/messages/q0/parts/1", name="a.png")
    outside = ImagePart("image/png", url="https://example.com/v1/messages/q0/parts/1")
    request = TurnStart(messages=[InputMessage(role="user", parts=[TextPart("look"), shown, outside])])
    await store.accept(new_turn("t", stateless=True, conversation=None, input=None))
    made = await built_request(store, request, "t")
    assert made.messages == (ChatMessage("user", (*stored, outside)),)


@pytest.mark.parametrize("address", ["/v1/messages/q0/parts/0", "/v1/messages/q0/parts/7", "/v1/messages/x/parts/1"])
async def test_a_reference_to_missing_data_is_not_found(store: ControlledStore, address: str) -> None:
    """If the part has no data, or the part or message doesn't exist, the turn fails before a provider is called."""
    await store.create_conversation(conversation())
    await store.accept(new_turn("t0", input=message("q0", body=body(TextPart("x")), turn="t0")))
    part = ImagePart("image/png", url=address)
    await store.accept(new_turn("t", stateless=True, conversation=None, input=None))
    with pytest.raises(ApiError) as missing:
        await built_request(store, TurnStart(messages=[InputMessage(role="user", parts=[part])]), "t")
    assert missing.value.code == "not_found"


async def test_foreign_signatures_and_unanswered_calls_are_removed(store: ControlledStore) -> None:
    """A provider refuses another model's signatures and calls without a result. The conversation continues without
    them."""
    await store.create_conversation(conversation())
    answers = [
        ("demo", [ReasoningPart("a", signature="S"), ToolCallPart("kept", "f", "{}"), ToolCallPart("lost", "f", "{}")]),
        ("other", [ReasoningPart("b", signature="S"), TextPart("so")]),
        ("demo", [ToolCallPart("open", "f", "{}")]),
    ]
    inputs: list[Part] = [TextPart("one"), ToolResultPart("kept", "3"), TextPart("two")]
    for n, ((model, parts), input_part) in enumerate(zip(answers, inputs, strict=True)):
        accepted = await store.accept(new_turn(f"t{n}", input=message(f"q{n}", body=body(input_part), turn=f"t{n}")))
        made = ending(accepted.turn)
        stored = encode_body(MessageBody(cast("list[Part]", parts), model))
        await store.end(replace(made, answer=replace(made.answer, body=stored)))
    await store.accept(new_turn("t", model="demo", input=message("q", body=body(TextPart("now")), turn="t")))
    built = await built_request(store, TurnStart(conversation="c1", input="now"), "t")
    assert [found.parts for found in built.messages] == [
        (TextPart("one"),),
        (ReasoningPart("a", signature="S"), ToolCallPart("kept", "f", "{}")),
        (ToolResultPart("kept", "3"),),
        (ReasoningPart("b"), TextPart("so")),
        (TextPart("two"),),
        (TextPart("now"),),
    ]


async def test_a_result_without_its_call_is_refused(store: ControlledStore) -> None:
    """The result is refused before a provider is called, and the error names the call."""
    await store.create_conversation(conversation())
    await store.accept(new_turn("t", input=message("q", body=body(ToolResultPart("nobody", "3")), turn="t")))
    with pytest.raises(ApiError, match="nobody") as refused:
        await built_request(store, TurnStart(conversation="c1", input=[ToolResultPart("nobody", "3")]), "t")
    assert refused.value.code == "invalid_request"


async def test_a_result_that_comes_too_late_is_refused(store: ControlledStore) -> None:
    """No provider accepts a result after another exchange, so the turn is refused. Later turns leave that result
    out. Of two results that directly follow their call, they have the second."""
    await store.create_conversation(conversation())
    call: list[Part] = [ToolCallPart("c", "f", "{}")]
    results = [ToolResultPart("c", output) for output in ("first", "again", "late")]
    answers: list[list[Part]] = [call, [], [TextPart("so")], []]
    inputs: list[Part] = [TextPart("q"), *results]
    for n, (input_part, parts) in enumerate(zip(inputs, answers, strict=True)):
        accepted = await store.accept(new_turn(f"t{n}", input=message(f"q{n}", body=body(input_part), turn=f"t{n}")))
        if input_part is results[2]:
            with pytest.raises(ApiError, match="message that has the call") as refused:
                await built_request(store, TurnStart(conversation="c1", input=[input_part]), f"t{n}")
            assert (refused.value.code, refused.value.body.path) == ("invalid_request", "input")
        elif isinstance(input_part, ToolResultPart):
            made = await built_request(store, TurnStart(conversation="c1", input=[input_part]), f"t{n}")
            assert [found.parts for found in made.messages] == [(TextPart("q"),), tuple(call), (input_part,)]
        ended = ending(accepted.turn)
        await store.end(replace(ended, answer=replace(ended.answer, body=body(*parts))))
    await store.accept(new_turn("t", input=message("q", body=body(TextPart("now")), turn="t")))
    made = await built_request(store, TurnStart(conversation="c1", input="now"), "t")
    assert [found.parts for found in made.messages] == [
        (TextPart("q"),),
        tuple(call),
        (results[1],),
        (TextPart("so"),),
        (TextPart("now"),),
    ]


def test_tools_have_one_order() -> None:
    """Tools are sent in the order of their names, not in the client's, so that prompts begin with the same bytes."""
    tools = [Tool(name) for name in ("b", "c", "a")]
    for offered in (tools, tools[::-1]):
        made = without_history(TurnStart(input="x", tools=offered), "u")
        assert [tool.name for tool in made.tools] == ["a", "b", "c"]
