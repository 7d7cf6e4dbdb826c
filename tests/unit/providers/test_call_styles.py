"""The same tool calls in the styles of many hosts are assembled into the same list of calls, in each dialect."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from providers.anthropic.events import MessagesDecoder
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.responses_events import ResponsesDecoder
from providers.quirks import Quirks
from tests.answers import Answer, decode_events
from tests.examples import examples

FAILURES = Failures(Endpoint("x", "X", "", ()))
Call = tuple[str, dict[str, Any]]
"""A tool's name and its arguments."""
Calls = list[Call]

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text('{}[]"\\,é🍀 ', max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text('{"', max_size=2), inner, max_size=2)),
    max_leaves=5,
)
NAMES = st.sampled_from(["f", "weather", "weather_now"])


@st.composite
def call_lists(draw: st.DrawFn) -> Calls:
    """Return a list of calls whose arguments differ, because a repeated call with one id is the same call."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5))
    return [(name, {"n": number, "x": draw(VALUES)}) for number, name in enumerate(names)]


class Cuts:
    """A function that cuts a text into pieces at places that hypothesis draws."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw

    def __call__(self, text: str) -> list[str]:
        cuts = sorted(self._draw(st.lists(st.integers(0, len(text)), max_size=3)))
        return [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def check(answer: Answer, calls: Calls) -> None:
    """Check that the answer has these calls, each with an id of its own."""
    got = [(part.name, json.loads(text)) for part, (_, text) in zip(answer.started, answer.parts, strict=True)]
    assert got == calls
    assert len({part.call for part in answer.started}) == len(calls)
    assert answer.finish == "tool_calls"


def encode(arguments: dict[str, Any], form: str) -> str:
    text = json.dumps(arguments, ensure_ascii=False)
    return json.dumps(text) if form == "double" else "{}" + text if form == "placeholder" else text


def ids(kind: str, number: int) -> str | None:
    return {"own": f"call_{number}", "same": "functions.f:0", "empty": "", "none": None}[kind]


def piece(index: int | None, call_id: str | None, name: str | None, arguments: Any) -> dict[str, Any]:
    call = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return {"choices": [{"delta": {"tool_calls": [call]}}]}


CHAT_END = {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}


@st.composite
def chat_streams(draw: st.DrawFn) -> tuple[Calls, list[dict[str, Any]]]:
    """Return calls, and chunks that give them in one style: what identifies a call, and how its arguments are sent."""
    calls, cut = draw(call_lists()), Cuts(draw)
    index_kind = draw(st.sampled_from(["own", "same", "none"]))
    id_kind = draw(st.sampled_from(["own", "same", "empty", "none"]))
    form = draw(st.sampled_from(["text", "double", "object", "placeholder"]))
    name_again = draw(st.sampled_from(["no", "empty", "always"]))
    id_again = draw(st.booleans())
    if form == "placeholder" and id_kind in ("empty", "none"):
        name_again = "no"  # a name would begin another call, as it does in Google's streams
    chunks = []
    for number, (name, arguments) in enumerate(calls):
        index = {"own": number, "same": 0, "none": None}[index_kind]
        call_id = ids(id_kind, number)
        if form == "object":
            chunks.append(piece(index, call_id, name, arguments))
            continue
        if form == "placeholder" and draw(st.booleans()):
            first, rest = "{}", cut(encode(arguments, "text"))
        else:
            first, *rest = cut(encode(arguments, form))
        chunks.append(piece(index, call_id, name, first))
        again = {"no": None, "empty": "", "always": name}[name_again]
        chunks += [piece(index, call_id if id_again else None, again, each) for each in rest]
    return calls, chunks


@settings(deadline=None, max_examples=examples(60))
@given(chat_streams())
def test_chat(stream: tuple[Calls, list[dict[str, Any]]]) -> None:
    """Each call is found, whatever its index, its id and the form of its arguments: whole, in pieces, or encoded twice."""
    calls, chunks = stream
    check(decode_events(ChatDecoder(Quirks(), FAILURES), *chunks, CHAT_END), calls)


@settings(deadline=None, max_examples=examples(40))
@given(call_lists(), st.randoms(use_true_random=False), st.data())
def test_chat_interleaved(calls: Calls, rng: Any, data: st.DataObject) -> None:
    """Pieces of calls with indexes or ids of their own may come in any order."""
    by_id = data.draw(st.booleans())
    queues = []
    for number, (name, arguments) in enumerate(calls):
        first, *rest = Cuts(data.draw)(json.dumps(arguments))
        index, call_id = (None, f"c{number}") if by_id else (number, None)
        queues.append([piece(index, call_id, name, first), *(piece(index, call_id, None, each) for each in rest)])
    chunks = [queue.pop(0) for queue in queues]
    while any(queues):
        chunks.append(rng.choice([queue for queue in queues if queue]).pop(0))
    answer = decode_events(ChatDecoder(Quirks(), FAILURES), *chunks, CHAT_END)
    got = sorted(json.loads(text)["n"] for _, text in answer.parts)
    assert got == list(range(len(calls)))


@settings(deadline=None, max_examples=examples(40))
@given(chat_streams(), st.booleans(), st.booleans())
def test_chat_with_a_whole_message(stream: tuple[Calls, list[dict[str, Any]]], has_ids: bool, is_alone: bool) -> None:
    """A whole message after the pieces, or instead of them, repeats nothing."""
    calls, chunks = stream
    given_ids = [next((call["id"] for call in chunk["choices"][0]["delta"]["tool_calls"]), None) for chunk in chunks]
    whole = [
        {
            "id": given_ids[0] if has_ids and len(calls) == 1 else None,
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for name, arguments in calls
    ]
    end = {"choices": [{"message": {"tool_calls": whole}, "finish_reason": "tool_calls"}]}
    check(decode_events(ChatDecoder(Quirks(), FAILURES), *([] if is_alone else chunks), end), calls)


@settings(deadline=None, max_examples=examples(50))
@given(call_lists(), st.data())
def test_messages(calls: Calls, data: st.DataObject) -> None:
    """Messages: own or same index and id; input at the start, in pieces or both; with or without the end of a block."""
    index_kind = data.draw(st.sampled_from(["own", "same"]))
    id_kind = data.draw(st.sampled_from(["own", "same", "none"]))
    form = data.draw(st.sampled_from(["text", "object", "placeholder", "start", "start as text", "start and text"]))
    stops = data.draw(st.booleans())
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"usage": {}}}]
    for number, (name, arguments) in enumerate(calls):
        index = number if index_kind == "own" else 0
        initial: Any = arguments if form in ("start", "start and text") else {}
        if form == "start as text":
            initial = json.dumps(arguments)
        block = {"type": "tool_use", "id": ids(id_kind, number), "name": name, "input": initial}
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        pieces: list[Any] = []
        if form in ("text", "placeholder", "start and text"):
            pieces = Cuts(data.draw)(encode(arguments, form))
        elif form == "object":
            pieces = [arguments]
        for each in pieces:
            delta = {"type": "input_json_delta", "partial_json": each}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        if stops:
            events.append({"type": "content_block_stop", "index": index})
    events += [{"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"}]
    check(decode_events(MessagesDecoder(FAILURES), *events), calls)


Sender = Callable[[int, dict[str, Any], str], list[dict[str, Any]]]


@settings(deadline=None, max_examples=examples(50))
@given(call_lists(), st.data())
def test_responses(calls: Calls, data: st.DataObject) -> None:
    """Responses: own or missing index, own or same id; in pieces, whole, or only in the last event; nothing twice."""
    has_index = data.draw(st.booleans())
    id_kind = data.draw(st.sampled_from(["own", "same"]))
    has_item_ids = not has_index or data.draw(st.booleans())
    steps = data.draw(st.sets(st.sampled_from(["added", "deltas", "arguments done", "item done"])))
    if "deltas" in steps or "arguments done" in steps:
        steps.add("added")
    in_order = id_kind == "own" or has_item_ids or has_index
    output_again = data.draw(st.booleans()) if steps & {"deltas", "item done"} and in_order else True
    events: list[dict[str, Any]] = []
    output = []
    for number, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        where: dict[str, Any] = {"output_index": number} if has_index else {}
        item: dict[str, Any] = {"type": "function_call", "call_id": ids(id_kind, number), "name": name}
        if has_item_ids:
            where["item_id"] = item["id"] = f"fc_{number}"
        output.append(item | {"arguments": text})
        if "added" in steps:
            initial = data.draw(st.sampled_from(["", "{}", text]))
            events.append({"type": "response.output_item.added", **where, "item": item | {"arguments": initial}})
        kind = "response.function_call_arguments"
        if "deltas" in steps:
            pieces = Cuts(data.draw)(text)
            is_cut = data.draw(st.booleans())
            if is_cut and steps & {"arguments done", "item done"}:
                pieces.pop()  # the rest comes only with the whole arguments
            events += [{"type": f"{kind}.delta", **where, "delta": each} for each in pieces]
        if "arguments done" in steps:
            events.append({"type": f"{kind}.done", **where, "arguments": text})
        if "item done" in steps:
            events.append({"type": "response.output_item.done", **where, "item": item | {"arguments": text}})
    last = {"status": "completed", "output": output if output_again else []}
    events.append({"type": "response.completed", "response": last})
    check(decode_events(ResponsesDecoder(Quirks(), FAILURES), *events), calls)


def test_hundreds_of_calls_and_large_arguments() -> None:
    """Of 500 parallel calls in pieces, and of one call of 5 MB in small pieces, nothing is lost."""
    calls = [("f", {"n": number, "x": "y" * 100}) for number in range(500)]
    texts = [json.dumps(arguments) for _, arguments in calls]
    chunks = [piece(number, f"c{number}", "f", "") for number in range(500)]
    chunks += [
        piece(number, None, None, texts[number][at : at + 30]) for at in range(0, 120, 30) for number in range(500)
    ]
    chunks += [piece(number, None, None, texts[number][120:]) for number in range(500)]
    check(decode_events(ChatDecoder(Quirks(), FAILURES), *chunks, CHAT_END), calls)
    text = json.dumps({"x": '\\"{' * 1_200_000})
    pieces = [piece(0, None, None, text[at : at + 2000]) for at in range(0, len(text), 2000)]
    answer = decode_events(ChatDecoder(Quirks(), FAILURES), piece(0, "c", "f", ""), *pieces, CHAT_END)
    assert answer.text("tool_call") == text
