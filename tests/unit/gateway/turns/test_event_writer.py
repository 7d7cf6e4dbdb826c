"""A provider's batches as numbered events that fit into frames, and the data for the ending."""

from __future__ import annotations

import re
import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.protocol.codec import CODECS
from gateway.protocol.events import TurnDelta, TurnEvent, TurnPart, TurnReset
from gateway.protocol.plain_text import is_plain
from gateway.protocol.requests import FRAME_BYTES_OUT_MAX
from gateway.telemetry.metrics import Telemetry
from gateway.turns.abort import Abort
from gateway.turns.event_writer import EventWriter
from gateway.turns.live_turn import LiveTurn
from gateway.turns.state import IllegalTransition
from gateway.turns.turn_metrics import TurnMetrics
from providers.base import (
    ChatMessage,
    ChatRequest,
    Delta,
    Finished,
    Params,
    PartDelta,
    PartStarted,
    PartsWithdrawn,
    ReasoningPart,
    ResponseHandle,
    TextPart,
    ToolCallPart,
    Usage,
    UsageReported,
)
from providers.fit.ids import own_call_id
from providers.price import Price
from tests.provider_requests import route
from tests.turn_events import EPOCH, started

TURN = "t" * 64
CALL = own_call_id(TURN, 1, "c1")
TEXT = st.one_of(
    st.text(max_size=20),
    st.builds(lambda unit, n: unit * n, st.sampled_from(["a", "é", "\x01", "😀", "\n"]), st.integers(0, 9000)),
)


async def make_writer(output_bytes_max: int = 10**9, parts_max: int = 10_000) -> EventWriter:
    stream = LiveTurn("ann", TURN, b"", EPOCH)
    stream.publish([started(TURN)])
    return EventWriter(stream, output_bytes_max, parts_max, "m_parent", TurnMetrics(Telemetry(())))


def events(writer: EventWriter) -> list[TurnEvent]:
    return writer.live_turn.log.events[1:]


REQUEST = ChatRequest(model="demo", messages=(ChatMessage("user", (TextPart("x" * 40),)),), system="y" * 40)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), TEXT), max_size=5), st.lists(st.none() | TEXT, min_size=6, max_size=6))
def test_every_event_fits_a_frame_and_nothing_is_lost(pieces: list[tuple[bool, str]], whole: list[str | None]) -> None:
    """Laws 1 and 10: for any output of a provider, events are small and numbered without a gap, and their joined
    contents are complete."""
    import asyncio

    writer = asyncio.run(make_writer())
    call, name, url, title, text, media = whole
    writer.deliver([PartStarted(0, "citation", call, name, url, title, text, media)])
    for is_signature, piece in pieces:
        writer.deliver([PartDelta(0, None, piece) if is_signature else PartDelta(0, piece)])
    log = writer.live_turn.log
    assert [event.seq for event in log.events] == list(range(1, log.end + 1))
    for event in log.events:
        assert max(len(codec.encode(event)) for codec in CODECS) <= FRAME_BYTES_OUT_MAX
    deltas = [event for event in log.events if isinstance(event, TurnDelta)]
    assert "".join(event.text or "" for event in deltas) == "".join(piece for is_sig, piece in pieces if not is_sig)
    assert "".join(event.signature or "" for event in deltas) == "".join(piece for is_sig, piece in pieces if is_sig)
    assert all(event.text or event.signature for event in deltas)


@given(TEXT.filter(lambda text: len(text) < 50), st.sampled_from(["\x1b[2J", "\n", "\u202e", "\x9b"]))
def test_a_tool_call_id_can_be_sent_back_by_a_client(text: str, unseen: str) -> None:
    """Whatever ids a provider uses, a tool call's id and name consist of characters that a client may send."""
    import asyncio

    writer = asyncio.run(make_writer())
    for part, call in enumerate((text, text + unseen)):
        writer.deliver([PartStarted(part, "tool_call", call=call, name=call)])
    events = [event for event in writer.live_turn.log.events if isinstance(event, TurnPart)]
    for event in events:
        assert event.call is not None
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", event.call)
        assert event.name is not None
        assert is_plain(event.name)
    assert events[0].call != events[1].call


async def test_the_ids_of_calls_differ_by_message_and_part_and_are_repeatable() -> None:
    """A provider that gives every call the same id doesn't make two calls of a conversation alike. A takeover or a
    replay of the same answer gives the same ids."""

    async def calls_of(message: str) -> list[str | None]:
        writer = await make_writer()
        writer.live_turn.message = message
        writer.deliver([PartStarted(n, "tool_call", call="functions.weather:0", name="weather") for n in range(3)])
        return [event.call for event in events(writer) if isinstance(event, TurnPart)]

    made = [*await calls_of("m_1"), *await calls_of("m_2")]
    assert len(set(made)) == 6
    assert await calls_of("m_1") == made[:3]
    assert all(call is not None and call.startswith("functions_weather_0_") for call in made)


async def test_a_batch_is_published_in_one_step() -> None:
    """Parts and deltas become events in their order; usage and finish reason make no events."""
    writer = await make_writer()
    batch: list[Delta] = [
        PartStarted(0, "text"),
        PartDelta(0, "Hi"),
        PartStarted(1, "tool_call", call="c1", name="add"),
        PartDelta(1, "{}"),
        PartDelta(0, None, "S"),
        UsageReported(Usage(1, 2)),
        Finished("tool_calls"),
    ]
    writer.deliver(batch)
    assert events(writer) == [
        TurnPart(turn=TURN, seq=2, part=0, kind="text"),
        TurnDelta(TURN, 3, 0, "Hi"),
        TurnPart(turn=TURN, seq=4, part=1, kind="tool_call", call=CALL, name="add"),
        TurnDelta(TURN, 5, 1, "{}"),
        TurnDelta(TURN, 6, 0, signature="S"),
    ]
    assert writer.parts() == [TextPart("Hi", "S"), ToolCallPart(CALL, "add", "{}")]
    assert writer.usage(writer.parts()) == Usage(1, 2)
    assert writer.outcome_of_answer().finish_reason == "tool_calls"


async def test_empty_deltas_and_batches_publish_nothing() -> None:
    """Empty text, empty batches and usage reports make no event."""
    writer = await make_writer()
    writer.deliver([])
    writer.deliver([UsageReported(Usage(1, 2))])
    assert events(writer) == []
    assert writer.timing().ttft_ms is None
    writer.deliver([PartStarted(0, "text"), PartDelta(0, ""), PartDelta(0, None, "")])
    assert len(events(writer)) == 1


@pytest.mark.parametrize(
    "batch",
    [
        [PartDelta(0, "x")],
        [PartStarted(1, "text")],
        [PartStarted(0, "text"), PartStarted(0, "text")],
        [PartStarted(0, "text"), PartDelta(1, "x")],
        [PartStarted(0, "text"), PartDelta(-1, "x")],
    ],
    ids=["unopened", "gap", "twice", "next", "negative"],
)
async def test_parts_out_of_order_are_a_defect(batch: list[Delta]) -> None:
    """Parts are numbered 0, 1, 2 … and opened before their deltas. Otherwise no event of the batch is published."""
    writer = await make_writer()
    with pytest.raises(IllegalTransition):
        writer.deliver(batch)
    assert events(writer) == []


async def test_withdrawn_parts_are_a_reset() -> None:
    """If a provider withdraws its parts, a reset of the same epoch continues the log, and parts begin with 0 again."""
    writer = await make_writer()
    writer.deliver([PartStarted(0, "text"), PartDelta(0, "why")])
    writer.deliver([PartDelta(0, "?"), PartsWithdrawn("again"), PartStarted(0, "reasoning"), PartDelta(0, "why?")])
    writer.deliver([PartStarted(1, "text"), PartDelta(1, "so")])
    assert [event.seq for event in events(writer)] == list(range(2, 10))
    assert events(writer)[3] == TurnReset(TURN, 5, EPOCH, "again")
    assert writer.parts() == [ReasoningPart("why?"), TextPart("so")]
    with pytest.raises(IllegalTransition):
        writer.deliver([PartsWithdrawn("again"), PartDelta(0, "x")])


@pytest.mark.parametrize(
    ("stop", "reported", "kept"),
    [(["END"], "END", "END"), (["END"], "OTHER", None), (None, "END", None), (["x" * 513], "x" * 513, None)],
)
async def test_a_stop_sequence_is_one_of_the_request(stop: list[str] | None, reported: str, kept: str | None) -> None:
    """Another one, or one that doesn't fit in an event, isn't reported."""
    writer = await make_writer()
    writer.record_request(route(), structs.replace(REQUEST, params=Params(stop=stop)))
    writer.deliver([Finished("stop", reported)])
    assert writer.outcome_of_answer().stop_sequence == kept


async def test_a_stream_without_a_finish_reason_is_incomplete() -> None:
    """Without a finish reason the turn has failed."""
    outcome = (await make_writer()).outcome_of_answer()
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.code == "upstream_incomplete"


async def test_usage_is_estimated_if_the_provider_reports_none() -> None:
    """The estimate is a token for every four bytes of request and answer. If no provider was called, there is none."""
    writer = await make_writer()
    assert writer.usage([]) is None
    assert writer.cost_nano(None) is None
    writer.record_request(route(), REQUEST)
    assert writer.usage([TextPart("z" * 10)]) == Usage(20, 3, estimated=True)
    writer.deliver([UsageReported(Usage(7, 8)), UsageReported(Usage(9, 10))])
    assert writer.usage([]) == Usage(9, 10)


@pytest.mark.parametrize(
    ("counted", "finished", "usage"),
    [
        (Usage(9, 10), True, Usage(9, 10)),
        (Usage(9, 1), True, Usage(9, 1)),
        (Usage(9, 1, cache_read_tokens=4), False, Usage(9, 25, cache_read_tokens=4, estimated=True)),
        (Usage(9, 20), False, Usage(9, 20)),
        (Usage(0, 10), True, Usage(20, 10, estimated=True)),
        (Usage(9, 0), True, Usage(9, 25, estimated=True)),
        (Usage(0, 0), False, Usage(20, 25, estimated=True)),
        (Usage(9, 1, estimated=True), True, Usage(9, 25, estimated=True)),
        (Usage(9, 70, estimated=True), True, Usage(9, 70, estimated=True)),
    ],
)
async def test_incomplete_provider_usage_is_estimated(counted: Usage, finished: bool, usage: Usage) -> None:
    """A count from the start of an answer that was cut off, or a missing count, is replaced by an estimate and
    marked."""
    writer = await make_writer()
    writer.record_request(route(), REQUEST)
    writer.deliver([UsageReported(counted)])
    if finished:
        writer.deliver([Finished("stop")])
    assert writer.usage([TextPart("z" * 100)]) == usage


async def test_the_cost_of_a_turn() -> None:
    """The cost in nano-dollars uses the price of the model that was called last. A complete answer's cost is the one
    that the provider reports."""
    writer = await make_writer()
    priced = structs.replace(route(), price=Price(input=Decimal("0.15"), output=Decimal("0.4712345")))
    writer.record_request(route(), REQUEST)
    assert writer.cost_nano(Usage(1, 1)) is None
    writer.record_request(priced, REQUEST)
    assert writer.cost_nano(Usage(1, 1)) == 621, "0.6212345 millionths of a dollar, rounded"
    writer.deliver([UsageReported(Usage(1, 1), Decimal("0.25"))])
    assert writer.cost_nano(Usage(1, 1)) == 250_000_000
    assert writer.cost_nano(Usage(1, 1, estimated=True)) == 621


async def test_an_answer_past_its_bound_fires_the_signal() -> None:
    """The bound of an answer's size aborts the turn with `limit`."""
    writer = await make_writer(output_bytes_max=2000)
    writer.deliver([PartStarted(0, "text"), PartDelta(0, "x" * 1000)])
    assert not writer.live_turn.signal.is_aborted
    writer.deliver([PartDelta(0, "x" * 1000)])
    assert writer.live_turn.signal.abort_reason is not None
    assert writer.live_turn.signal.abort_reason.by == "limit"


async def test_an_answer_has_a_maximum_of_parts() -> None:
    """The limit on an answer's parts aborts the turn with `limit`; the parts up to it are kept."""
    writer = await make_writer(parts_max=3)
    writer.deliver([PartStarted(n, "text") for n in range(3)])
    assert writer.live_turn.signal.abort_reason is None
    writer.deliver([PartDelta(2, "x"), *(PartStarted(n, "text") for n in range(3, 9)), PartDelta(8, "y")])
    assert writer.live_turn.signal.abort_reason == Abort("limit", "The answer reached its limit of 3 parts.")
    assert writer.parts() == [TextPart(""), TextPart(""), TextPart("x")]


async def test_waiting_is_published_only_before_the_first_part() -> None:
    """After the first part the state table has no transition for `waiting`, so nothing is published."""
    writer = await make_writer()
    writer.publish_waiting()
    writer.deliver([PartStarted(0, "text")])
    writer.publish_waiting()
    assert [type(event).__name__ for event in events(writer)] == ["TurnStatus", "TurnPart"]


async def test_the_timing_starts_at_the_acceptance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time until the request, until the first token, and in total, in milliseconds."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    writer = await make_writer()
    now += 0.5
    timing = writer.timing()
    assert (timing.queued_ms, timing.attempts, timing.ttft_ms, timing.total_ms) == (500, 0, None, 500)
    writer.record_request(route(), REQUEST)
    now += 0.15
    writer.record_request(route(), REQUEST)
    now += 0.1
    writer.deliver([PartStarted(0, "text")])
    now += 1
    writer.deliver([PartDelta(0, "x")])
    timing = writer.timing()
    assert (timing.queued_ms, timing.attempts, timing.ttft_ms, timing.total_ms) == (500, 2, 750, 1750)


async def test_a_response_handle_before_the_first_token_has_an_event() -> None:
    """Law 9: before the first part, the response handle gets an event of its own, so that it is logged. That event isn't
    a token."""
    writer = await make_writer()
    handle = ResponseHandle("gpt", "resp_1")
    writer.deliver([handle, PartStarted(0, "text"), PartDelta(0, "a")])
    assert [type(event).__name__ for event in events(writer)] == ["TurnStatus", "TurnPart", "TurnDelta"]
    assert [event.seq for event in events(writer)] == [2, 3, 4]
    assert (writer.live_turn.response_handle, writer.live_turn.response_handle_seq) == (handle, 2)
    alone = await make_writer()
    alone.deliver([handle])
    assert alone.timing().ttft_ms is None


async def test_a_later_response_handle_is_logged_with_the_next_event() -> None:
    """A response handle after the first token needs no event of its own."""
    writer = await make_writer()
    writer.deliver([PartStarted(0, "text"), PartDelta(0, "a"), ResponseHandle("gpt", "resp_1"), PartDelta(0, "b")])
    assert [event.seq for event in events(writer)] == [2, 3, 4]
    assert writer.live_turn.response_handle_seq == 4
