"""A provider's batches as numbered events: small frames, no empty ones, and what an ending needs to know."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.protocol.codec import CODECS
from gateway.protocol.events import TurnDelta, TurnEvent, TurnPart
from gateway.protocol.plain_text import is_plain
from gateway.protocol.requests import FRAME_BYTES_OUT_MAX
from gateway.telemetry.metrics import Telemetry
from gateway.turns.event_writer import EventWriter
from gateway.turns.live_turn import LiveTurn
from gateway.turns.state import IllegalTransition
from gateway.turns.turn_metrics import TurnMetrics
from providers.base import (
    ChatMessage,
    ChatRequest,
    Delta,
    Finished,
    PartDelta,
    PartStarted,
    ResponseHandle,
    TextPart,
    ToolCallPart,
    Usage,
    UsageReported,
)
from providers.route import Price
from tests.answers import route
from tests.turn_events import EPOCH, started

TURN = "t" * 64
TEXT = st.one_of(
    st.text(max_size=20),
    st.builds(lambda unit, n: unit * n, st.sampled_from(["a", "é", "\x01", "😀", "\n"]), st.integers(0, 9000)),
)


async def delivery(output_bytes_max: int = 10**9) -> EventWriter:
    stream = LiveTurn("ann", TURN, b"", EPOCH)
    stream.publish([started(TURN)])
    return EventWriter(stream, output_bytes_max, "m_parent", TurnMetrics(Telemetry(())))


def events(made: EventWriter) -> list[TurnEvent]:
    return made.live_turn.log.events[1:]


QUESTION = ChatRequest(model="demo", messages=(ChatMessage("user", (TextPart("x" * 40),)),), system="y" * 40)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), TEXT), max_size=5), st.lists(st.none() | TEXT, min_size=6, max_size=6))
def test_every_event_fits_a_frame_and_nothing_is_lost(pieces: list[tuple[bool, str]], whole: list[str | None]) -> None:
    """Laws 1 and 10: whatever a provider sends, events are small, numbered without a gap, and joined they
    are all of it."""
    import asyncio

    made = asyncio.run(delivery())
    call, name, url, title, text, media = whole
    made.deliver([PartStarted(0, "citation", call, name, url, title, text, media)])
    for is_signature, piece in pieces:
        made.deliver([PartDelta(0, None, piece) if is_signature else PartDelta(0, piece)])
    log = made.live_turn.log
    assert [event.seq for event in log.events] == list(range(1, log.end + 1))
    for event in log.events:
        assert max(len(codec.encode(event)) for codec in CODECS) <= FRAME_BYTES_OUT_MAX
    deltas = [event for event in log.events if isinstance(event, TurnDelta)]
    assert "".join(event.text or "" for event in deltas) == "".join(piece for is_sig, piece in pieces if not is_sig)
    assert "".join(event.signature or "" for event in deltas) == "".join(piece for is_sig, piece in pieces if is_sig)
    assert all(event.text or event.signature for event in deltas)


@given(TEXT.filter(lambda text: len(text) < 50), st.sampled_from(["\x1b[2J", "\n", "\u202e", "\x9b"]))
def test_a_call_can_be_named_by_its_client(text: str, unseen: str) -> None:
    """Whatever a provider's call is called, its id and name are in characters that a client may send back."""
    import asyncio

    made = asyncio.run(delivery())
    for part, call in enumerate((text, text + unseen)):
        made.deliver([PartStarted(part, "tool_call", call=call, name=call)])
    events = [event for event in made.live_turn.log.events if isinstance(event, TurnPart)]
    for event in events:
        assert event.call is not None
        assert is_plain(event.call)
        assert event.name == event.call
    assert events[0].call != events[1].call


async def test_a_batch_is_published_in_one_step() -> None:
    """Parts and deltas become events in their order; usage and finish become none."""
    made = await delivery()
    batch: list[Delta] = [
        PartStarted(0, "text"),
        PartDelta(0, "Hi"),
        PartStarted(1, "tool_call", call="c1", name="add"),
        PartDelta(1, "{}"),
        PartDelta(0, None, "S"),
        UsageReported(Usage(1, 2)),
        Finished("tool_calls"),
    ]
    made.deliver(batch)
    assert events(made) == [
        TurnPart(turn=TURN, seq=2, part=0, kind="text"),
        TurnDelta(TURN, 3, 0, "Hi"),
        TurnPart(turn=TURN, seq=4, part=1, kind="tool_call", call="c1", name="add"),
        TurnDelta(TURN, 5, 1, "{}"),
        TurnDelta(TURN, 6, 0, signature="S"),
    ]
    assert made.parts() == [TextPart("Hi", "S"), ToolCallPart("c1", "add", "{}")]
    assert made.usage(made.parts()) == Usage(1, 2)
    assert made.outcome_of_answer().finish_reason == "tool_calls"


async def test_nothing_is_published_for_nothing() -> None:
    """Empty text, empty batches and what is for us alone make no event."""
    made = await delivery()
    made.deliver([])
    made.deliver([UsageReported(Usage(1, 2))])
    assert events(made) == []
    assert made.timing().ttft_ms is None
    made.deliver([PartStarted(0, "text"), PartDelta(0, ""), PartDelta(0, None, "")])
    assert len(events(made)) == 1


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
    """Parts are numbered 0, 1, 2 … and opened before they grow; otherwise nothing of the batch is said."""
    made = await delivery()
    with pytest.raises(IllegalTransition):
        made.deliver(batch)
    assert events(made) == []


async def test_a_stream_without_a_reason_is_incomplete() -> None:
    """Without a finish reason the turn has failed."""
    outcome = (await delivery()).outcome_of_answer()
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.code == "upstream_incomplete"


async def test_usage_is_estimated_where_the_provider_is_silent() -> None:
    """Four bytes a token of what was asked and said; nothing if nobody was asked."""
    made = await delivery()
    assert made.usage([]) is None
    assert made.cost_nano(None) is None
    made.record_request(route(), QUESTION)
    assert made.usage([TextPart("z" * 10)]) == Usage(20, 3, estimated=True)
    made.deliver([UsageReported(Usage(7, 8)), UsageReported(Usage(9, 10))])
    assert made.usage([]) == Usage(9, 10)


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
    ],
)
async def test_what_the_provider_did_not_count_to_the_end(counted: Usage, finished: bool, usage: Usage) -> None:
    """A count from the start of an answer that broke off, or none, is made up for, and marked."""
    made = await delivery()
    made.record_request(route(), QUESTION)
    made.deliver([UsageReported(counted)])
    if finished:
        made.deliver([Finished("stop")])
    assert made.usage([TextPart("z" * 100)]) == usage


async def test_the_cost_of_a_turn() -> None:
    """Billionths of a dollar: by the price of the model that was asked last; the provider's word for a whole answer."""
    made = await delivery()
    priced = structs.replace(route(), price=Price(input=Decimal("0.15"), output=Decimal("0.4712345")))
    made.record_request(route(), QUESTION)
    assert made.cost_nano(Usage(1, 1)) is None
    made.record_request(priced, QUESTION)
    assert made.cost_nano(Usage(1, 1)) == 621, "0.621 2345 millionths"
    made.deliver([UsageReported(Usage(1, 1), Decimal("0.25"))])
    assert made.cost_nano(Usage(1, 1)) == 250_000_000
    assert made.cost_nano(Usage(1, 1, estimated=True)) == 621


async def test_an_answer_past_its_bound_fires_the_signal() -> None:
    """The limit is an abort like any other."""
    made = await delivery(output_bytes_max=2000)
    made.deliver([PartStarted(0, "text"), PartDelta(0, "x" * 1000)])
    assert not made.live_turn.signal.is_aborted
    made.deliver([PartDelta(0, "x" * 1000)])
    assert made.live_turn.signal.abort_reason is not None
    assert made.live_turn.signal.abort_reason.by == "limit"


async def test_waiting_is_said_only_before_the_first_part() -> None:
    """A status in its place, and none where the table has no row for it."""
    made = await delivery()
    made.publish_waiting()
    made.deliver([PartStarted(0, "text")])
    made.publish_waiting()
    assert [type(event).__name__ for event in events(made)] == ["TurnStatus", "TurnPart"]


async def test_the_timing_counts_from_the_acceptance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queued until asked, first token, total, in milliseconds."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    made = await delivery()
    now += 0.5
    timing = made.timing()
    assert (timing.queued_ms, timing.attempts, timing.ttft_ms, timing.total_ms) == (500, 0, None, 500)
    made.record_request(route(), QUESTION)
    now += 0.15
    made.record_request(route(), QUESTION)
    now += 0.1
    made.deliver([PartStarted(0, "text")])
    now += 1
    made.deliver([PartDelta(0, "x")])
    timing = made.timing()
    assert (timing.queued_ms, timing.attempts, timing.ttft_ms, timing.total_ms) == (500, 2, 750, 1750)


async def test_a_cursor_is_kept_before_the_first_token() -> None:
    """Law 9: with nothing said yet, the cursor comes with an event of its own, so that the log has it; it is no token."""
    made = await delivery()
    cursor = ResponseHandle("gpt", "resp_1")
    made.deliver([cursor, PartStarted(0, "text"), PartDelta(0, "a")])
    assert [type(event).__name__ for event in events(made)] == ["TurnStatus", "TurnPart", "TurnDelta"]
    assert [event.seq for event in events(made)] == [2, 3, 4]
    assert (made.live_turn.response_handle, made.live_turn.response_handle_seq) == (cursor, 2)
    alone = await delivery()
    alone.deliver([cursor])
    assert alone.timing().ttft_ms is None


async def test_a_cursor_in_the_middle_goes_with_the_next_event() -> None:
    """A cursor that comes late needs no event of its own."""
    made = await delivery()
    made.deliver([PartStarted(0, "text"), PartDelta(0, "a"), ResponseHandle("gpt", "resp_1"), PartDelta(0, "b")])
    assert [event.seq for event in events(made)] == [2, 3, 4]
    assert made.live_turn.response_handle_seq == 4
