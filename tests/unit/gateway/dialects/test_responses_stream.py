"""Tests of the streams of OpenAI Responses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.dialects.responses_object import object_of
from gateway.dialects.responses_replay import replay
from gateway.dialects.responses_stream import ResponsesStream
from gateway.protocol.errors import ApiError
from gateway.protocol.events import (
    Heartbeat,
    Message,
    ServerEvent,
    Timing,
    TurnDelta,
    TurnReset,
    TurnStatus,
)
from gateway.protocol.results import TurnView
from providers.base import CitationPart, ImagePart, Part, ReasoningPart, RefusalPart, TextPart, ToolCallPart, Usage
from tests import dialect_events
from tests.open_responses import check_event, check_response

TURN = "resp_1"
EPOCH = 1769817600_000
TIMING = Timing(0, 2000, 1)
USAGE = Usage(3, 4, 1, 2)
SDK_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

Raw = dict[str, Any]

started = partial(dialect_events.started, TURN, epoch=EPOCH)
part = partial(dialect_events.part, turn=TURN)
delta = partial(dialect_events.delta, turn=TURN)
cancelled = partial(dialect_events.cancelled, turn=TURN, timing=TIMING)
completed = partial(dialect_events.completed, usage=USAGE, turn=TURN, timing=TIMING)


def parse(text: bytes, *, on_socket: bool = False) -> list[Raw]:
    """Return the events of a stream, after a check of their form."""
    if on_socket:
        return [json.loads(line) for line in text.decode().splitlines()]
    blocks = [block for block in text.decode().split("\n\n") if block and not block.startswith(":")]
    events = []
    for block in blocks:
        if block == "data: [DONE]":
            assert block is blocks[-1]
            continue
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def emitted(events: Iterable[ServerEvent], **options: Any) -> list[Raw]:
    stream = ResponsesStream({}, **options)
    return parse(b"".join(map(stream.encode, events)))


def run(events: Iterable[ServerEvent], settings: Raw | None = None, **options: Any) -> list[Raw]:
    """Return the events of a stream, after a check against the specification and the SDK's types."""
    stream = ResponsesStream(settings or {}, **options)
    found = parse(b"".join(map(stream.encode, events)), on_socket=options.get("on_socket", False))
    for event in found:
        check_event(event)
        SDK_EVENT.validate_python(event, strict=True)
    return found


CANCELS: list[Any] = [("client", "cancelled", None), ("limit", "incomplete", "max_output_tokens")]
ANSWER: list[ServerEvent] = [
    started(),
    part(0, "reasoning"),
    delta(0, "Hm, "),
    delta(0, "well"),
    delta(0, signature="sig"),
    part(1, "text"),
    delta(1, 'Hé"\n'),
    part(2, "citation", url="https://a.example", title="A"),
    delta(1, "llo"),
    part(3, "refusal"),
    delta(3, "No."),
    part(4, "image", media_type="image/png", size=3, url="/v1/messages/a/parts/4"),
    part(5, "tool_call", call="c1", name="add"),
    part(6, "tool_call", call="c2", name="sub"),
    delta(6, '{"b":'),
    delta(5, "{}"),
    delta(6, "1}"),
    completed("tool_calls"),
]
PARTS: list[Part] = [
    ReasoningPart("Hm, well", signature="sig"),
    TextPart('Hé"\nllo'),
    CitationPart(url="https://a.example", title="A"),
    RefusalPart("No."),
    ImagePart("image/png", url="/v1/messages/a/parts/4"),
    ToolCallPart("c1", "add", "{}"),
    ToolCallPart("c2", "sub", '{"b":1}'),
]


def test_the_events_of_an_answer() -> None:
    found = run(ANSWER)
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        *["reasoning_summary_text.delta"] * 2,
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.annotation.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "content_part.added",
        "refusal.delta",
        "refusal.done",
        "content_part.done",
        "output_item.done",
        *["output_item.added", "output_item.done"],
        *["output_item.added"] * 2,
        *["function_call_arguments.delta"] * 3,
        *["function_call_arguments.done", "output_item.done"] * 2,
        "completed",
    ]
    numbers = [event["sequence_number"] for event in found]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    response = check_response(found[-1]["response"])
    assert (response.status, response.created_at, response.completed_at) == (
        "completed",
        EPOCH // 1000,
        EPOCH // 1000 + 2,
    )
    assert found[-1]["response"]["output"][0]["encrypted_content"] == "sig"
    message = found[-1]["response"]["output"][1]
    assert message["content"][0]["text"] == 'Hé"\nllo'
    assert message["content"][0]["annotations"][0]["end_index"] == 4
    assert [item["type"] for item in found[-1]["response"]["output"]] == [
        "reasoning",
        "message",
        "image_generation_call",
        "function_call",
        "function_call",
    ]
    assert found[-1]["response"]["usage"]["input_tokens_details"]["cached_tokens"] == 2


def test_the_sdk_collects_the_answer() -> None:
    state: ResponseStreamState[Any] = ResponseStreamState(text_format=omit, input_tools=omit)
    for event in run(ANSWER):
        state.handle_event(SDK_EVENT.validate_python(event))
    response = state._completed_response
    assert response is not None
    assert response.output_text == 'Hé"\nllo'


def view_of(parts: list[Part], **fields: Any) -> TurnView:
    message = Message(
        id="a", role="assistant", parts=parts, parent=None, created_at="2026-01-31T00:00:00.000Z", turn=TURN
    )
    ended = {"finish_reason": "tool_calls", "usage": USAGE, "timing": TIMING, **fields}
    return TurnView(TURN, "c", "completed", EPOCH, 9, "m", message, **ended)


def test_the_stored_answer_is_the_streamed_one() -> None:
    streamed = run(ANSWER)[-1]["response"]
    stored = object_of(view_of(PARTS), {})
    assert stored | {"output": ...} == streamed | {"output": ...}
    # The citation is at the end of the text, because the place where it came isn't stored.
    stored["output"][1]["content"][0]["annotations"] = streamed["output"][1]["content"][0]["annotations"]
    assert stored == streamed


def test_an_answer_can_be_streamed_again_from_what_is_stored() -> None:
    events = parse(replay(view_of(PARTS), ResponsesStream({}, is_eager=True)))
    for event in events:
        check_event(event)
    whole = run(ANSWER)
    assert events[-1]["sequence_number"] == whole[-1]["sequence_number"]
    assert events[-1]["response"]["output"][2:] == whole[-1]["response"]["output"][2:]


def merged(events: Sequence[ServerEvent], cuts: Sequence[int]) -> list[ServerEvent]:
    """Return the events with each text divided anew: `cuts` are the lengths of the pieces, used in turn."""
    found: list[ServerEvent] = []
    n = 0
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, TurnDelta) and event.text is not None:
            if isinstance(last, TurnDelta) and last.text is not None and last.part == event.part:
                found[-1] = delta(event.part, last.text + event.text)
            else:
                found.append(event)
        else:
            found.append(event)
    pieces: list[ServerEvent] = []
    for event in found:
        text = event.text if isinstance(event, TurnDelta) else None
        if not isinstance(event, TurnDelta) or text is None:
            pieces.append(event)
            continue
        while text:
            size = cuts[n % len(cuts)]
            n += 1
            pieces.append(delta(event.part, text[:size]))
            text = text[size:]
    return pieces


def assembled(events: Iterable[Raw]) -> list[Any]:
    """Return events with neighboring deltas of the same text joined."""
    found: list[Any] = []
    for event in events:
        last = found[-1] if found else None
        names = ("type", "item_id")
        if (
            event["type"].endswith(".delta")
            and last
            and [last.get(name) for name in names] == [event[n] for n in names]
        ):
            found[-1] = {**event, "delta": last["delta"] + event["delta"]}
        else:
            found.append(event)
    return found


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data()
)
def test_a_stream_is_resumed_after_any_event(first: list[int], second: list[int], data: st.DataObject) -> None:
    """However the deltas were divided, before and after: the client gets each character and each event once."""
    whole = emitted(merged(ANSWER, first))
    seen = data.draw(st.integers(0, len(whole) - 1))
    after = whole[seen]["sequence_number"]
    rest = emitted(merged(ANSWER, second), after=after, is_eager=True)
    assert all(event["sequence_number"] > after for event in rest)
    assert assembled([*whole[: seen + 1], *rest]) == assembled(whole)


@pytest.mark.parametrize("after", [-1, 3, 9, 20])
def test_a_reset_leaves_out_what_was_sent(after: int) -> None:
    reset = TurnReset(TURN, 9, EPOCH + 1, "owner lost")
    again: list[ServerEvent] = [*ANSWER[:7], reset, *ANSWER]
    assert assembled(run(again, after=after)) == assembled(run(ANSWER, after=after))


def test_a_different_answer_after_a_reset_ends_the_stream() -> None:
    found = run([*ANSWER[:7], TurnReset(TURN, 9, EPOCH + 1, "owner lost"), part(0, "text")])
    assert found[-1]["type"] == "error"
    assert found[-1]["sequence_number"] == found[-2]["sequence_number"]
    assert found[-1]["error"]["code"] == found[-1]["code"] == "upstream_incomplete"


def test_the_first_events_wait_for_more_to_say() -> None:
    stream = ResponsesStream({})
    assert stream.encode(started()) == b""
    assert stream.encode(TurnStatus(turn=TURN, seq=2, status="retrying", attempt=2, delay_ms=9)) == b""
    assert [event["type"] for event in parse(stream.encode(Heartbeat(1)))] == [
        "response.created",
        "response.in_progress",
    ]
    assert stream.encode(Heartbeat(1)) == b": heartbeat\n\n"
    eager = ResponsesStream({}, is_eager=True)
    assert len(parse(eager.encode(started()))) == 2


def test_a_queued_response() -> None:
    found = run([started(status="queued"), TurnStatus(turn=TURN, seq=2, status="queued", position=1), *ANSWER[1:]])
    assert [event["type"] for event in found[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert [event["response"]["status"] for event in found[:3]] == ["queued", "queued", "in_progress"]


@pytest.mark.parametrize(
    ("ending", "kind", "status", "reason"),
    [
        (completed("length"), "incomplete", "incomplete", "max_output_tokens"),
        (completed("content_filter"), "incomplete", "incomplete", "content_filter"),
        (completed("refusal"), "completed", "completed", None),
        *[
            (
                cancelled(by),
                "incomplete",
                status,
                reason,
            )
            for by, status, reason in CANCELS
        ],
        (
            dialect_events.failed(ApiError("upstream_overloaded").body, turn=TURN),
            "failed",
            "failed",
            None,
        ),
    ],
)
def test_endings(ending: ServerEvent, kind: str, status: str, reason: str | None) -> None:
    found = run([started(), part(0, "text"), delta(0, "Hel"), ending])
    response = found[-1]["response"]
    assert (found[-1]["type"], response["status"]) == (f"response.{kind}", status)
    assert response["incomplete_details"] == (None if reason is None else {"reason": reason})
    assert response["output"][0]["status"] == ("completed" if status == "completed" else "incomplete")
    assert response["output"][0]["content"][0]["text"] == "Hel"
    if status == "failed":
        assert response["error"] == {"code": "server_error", "message": ApiError("upstream_overloaded").body.message}


def test_text_after_the_end_of_its_item_is_in_the_response() -> None:
    found = run([started(), part(0, "text"), part(1, "reasoning"), delta(0, "late"), completed()])
    assert found[-1]["response"]["output"][0]["content"][0]["text"] == "late"


def test_events_on_a_socket_have_the_lane() -> None:
    found = run(ANSWER, on_socket=True, is_eager=True, lane='a"b')
    assert {event["stream_id"] for event in found} == {'a"b'}
    assert [{k: v for k, v in event.items() if k != "stream_id"} for event in found] == run(ANSWER)
    silent = ResponsesStream({}, on_socket=True)
    assert silent.encode(Heartbeat(1)) == b""


def test_one_call_at_a_time() -> None:
    found = run(ANSWER, {"parallel_tool_calls": False})
    assert [item["type"] for item in found[-1]["response"]["output"]] == [
        *("reasoning", "message", "image_generation_call", "function_call")
    ]
    stored = object_of(view_of(PARTS), {"parallel_tool_calls": False})
    assert stored["output"][2:] == found[-1]["response"]["output"][2:]
