"""A turn's request adapted to each model, the statuses that clients receive about attempts, and long batches in
slices."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from gateway.protocol.events import TurnStatus
from gateway.telemetry.metrics import Telemetry
from gateway.turns.abort import Abort, Aborted
from gateway.turns.event_writer import EventWriter
from gateway.turns.leases import Leases
from gateway.turns.live_turn import LiveTurn
from gateway.turns.request_builder import DELTAS_PER_SLICE, RequestBuilder
from gateway.turns.turn_metrics import TurnMetrics
from providers.base import (
    ChatMessage,
    ChatRequest,
    Delta,
    ImagePart,
    Params,
    Part,
    PartDelta,
    PartStarted,
    ProviderError,
    TextPart,
)
from providers.route import Route
from tests.provider_requests import route
from tests.turn_events import EPOCH, started

LONG = "x" * 3000
"""About a thousand tokens."""


LEASES = cast("Leases", SimpleNamespace(is_stale=False))


def make_writer(parts_max: int = 10_000) -> EventWriter:
    stream = LiveTurn("ann", "t", b"", EPOCH)
    stream.publish([started("t")])
    stream.model = "m"
    return EventWriter(stream, 10**9, parts_max, None, TurnMetrics(Telemetry(())))


def conversation(*texts: str, **params: Any) -> ChatRequest:
    roles = ("user", "assistant")
    messages = [ChatMessage(roles[n % 2], (TextPart(text),)) for n, text in enumerate(texts)]  # type: ignore[arg-type]
    return ChatRequest(model="requested", messages=tuple(messages), params=Params(**params))


def model(name: str, **fields: Any) -> Route:
    return structs.replace(route(), id=name, model=f"upstream-{name}", **fields)


def statuses(writer: EventWriter) -> list[TurnStatus]:
    return [event for event in writer.live_turn.log.events if isinstance(event, TurnStatus)]


async def test_each_model_gets_its_own_name_and_a_fitting_context() -> None:
    """The context is trimmed again for a fallback's smaller window, and clients receive the number of trimmed
    messages."""
    writer = make_writer()
    requested, small = model("requested", context_window=9000), model("small", context_window=3000)
    builder = RequestBuilder(writer, LEASES, requested, conversation(LONG, LONG, LONG, LONG, "now"), stateless=False)
    first = await builder.build_request(requested)
    assert (first.model, len(first.messages)) == ("upstream-requested", 5)
    builder.on_request(requested, first)
    second = await builder.build_request(small)
    assert (second.model, [part.text for part in second.messages[-1].parts]) == ("upstream-small", ["now"])  # type: ignore[union-attr]
    builder.on_fallback(small)
    builder.on_request(small, second)
    builder.on_request(small, second)
    assert [(one.status, one.model, one.messages) for one in statuses(writer)] == [
        ("fallback", "small", None),
        ("trimmed", None, 5 - len(second.messages)),
    ]
    assert writer.live_turn.model == "small"
    assert writer.timing().attempts == 3


async def test_omitted_messages_are_reported_as_trimmed() -> None:
    """Clients receive the number of all messages that the model wasn't given."""
    writer = make_writer()
    requested = model("requested", context_window=9000)
    request = structs.replace(conversation("Hi", "now"), omitted_messages=7)
    builder = RequestBuilder(writer, LEASES, requested, request, stateless=False)
    builder.on_request(requested, await builder.build_request(requested))
    assert [(one.status, one.messages) for one in statuses(writer)] == [("trimmed", 7)]


async def test_a_long_batch_is_published_in_slices() -> None:
    """Law 11: between the slices other tasks run, and after an abort there is no further slice."""
    writer = make_writer()
    builder = RequestBuilder(writer, LEASES, model("m"), conversation("Hi"), stateless=False)
    batch: list[Delta] = [PartStarted(n, "text") for n in range(5 * DELTAS_PER_SLICE)]
    assert not builder.offer(batch)
    log, seen = writer.live_turn.log, []

    async def other_task() -> None:
        while log.end <= len(batch):
            seen.append(log.end - 1)
            await asyncio.sleep(0)

    await asyncio.gather(builder.put(batch), other_task())
    assert seen == [n * DELTAS_PER_SLICE for n in range(1, 5)]
    with pytest.raises(Aborted):
        async with writer.live_turn.signal.scope():
            writer.live_turn.signal.abort(Abort("client"))
            await builder.put([PartDelta(0, "x")])
    assert log.end == 1 + len(batch)


async def test_an_abort_within_a_long_batch_ends_it() -> None:
    """The rest of a batch that exceeds the answer's limit isn't published, and the turn ends as aborted."""
    writer = make_writer(parts_max=DELTAS_PER_SLICE + 1)
    builder = RequestBuilder(writer, LEASES, model("m"), conversation("Hi"), stateless=False)
    with pytest.raises(Aborted, match="limit"):
        async with writer.live_turn.signal.scope():
            await builder.put([PartStarted(n, "text") for n in range(5 * DELTAS_PER_SLICE)])
    assert writer.live_turn.log.end == 1 + DELTAS_PER_SLICE + 1


async def test_a_retry_is_reported_with_its_delay() -> None:
    """The status has the number of the next attempt and its delay in milliseconds."""
    writer = make_writer()
    RequestBuilder(writer, LEASES, model("m"), conversation("Hi"), stateless=False).on_retry(2, 700)
    assert [(one.status, one.attempt, one.delay_ms) for one in statuses(writer)] == [("retrying", 2, 700)]


async def test_a_fallback_with_too_small_a_window_is_skipped() -> None:
    """A request that can't be trimmed must fit a fallback's window. For the requested model the provider decides."""
    small = model("small", context_window=3000)
    for request, stateless in ((conversation(LONG * 4), False), (conversation(LONG, LONG, LONG), True)):
        builder = RequestBuilder(make_writer(), LEASES, model("requested"), request, stateless=stateless)
        with pytest.raises(ProviderError) as caught:
            await builder.build_request(small)
        assert caught.value.code == "context_length_exceeded"
        requested = RequestBuilder(make_writer(), LEASES, small, request, stateless=stateless)
        assert (await requested.build_request(small)).model == "upstream-small"


async def test_a_request_that_is_certainly_too_long_is_not_sent() -> None:
    """A long history is trimmed, a long input is refused. No provider was called, so there is no usage."""
    words = "word " * 5000
    small, writer = model("m", context_window=1000), make_writer()
    builder = RequestBuilder(writer, LEASES, small, conversation(words, words, "now"), stateless=False)
    assert len((await builder.build_request(small)).messages) == 1
    for request, stateless in ((conversation("a", "b", words), False), (conversation(words, "b", "now"), True)):
        with pytest.raises(ProviderError) as caught:
            await RequestBuilder(writer, LEASES, small, request, stateless=stateless).build_request(small)
        assert caught.value.code == "context_length_exceeded"
    writer.record_refusal()
    assert writer.usage([]) is None


@pytest.mark.parametrize("requested", [True, False])
async def test_an_image_in_the_history_needs_a_vision_model(requested: bool) -> None:
    """The history is checked too: a model without vision can't process an image that was sent earlier."""
    parts: tuple[Part, ...] = (ImagePart("image/png", data="A"),)
    request = ChatRequest(model="m", messages=(ChatMessage("user", parts),))
    blind = model("blind", features=("chat",))
    builder = RequestBuilder(make_writer(), LEASES, blind if requested else model("m"), request, stateless=False)
    with pytest.raises(ProviderError, match="can't see"):
        await builder.build_request(blind)


async def test_max_tokens_is_capped_for_a_fallback() -> None:
    """`max_tokens` is the client's limit; a fallback's own limit may be lower."""
    builder = RequestBuilder(
        make_writer(), LEASES, model("m", max_output=500), conversation("Hi", max_tokens=9000), stateless=False
    )
    assert (await builder.build_request(model("m2", max_output=1000))).params.max_tokens == 1000
    assert (await builder.build_request(model("m3"))).params.max_tokens == 9000


async def test_the_requested_model_gets_the_clients_values_unchanged() -> None:
    """A `max_tokens` above its limit is refused, and signatures are sent to it. For a fallback `max_tokens` is capped
    and signatures are removed."""
    requested, other = model("m", max_output=500), model("other", max_output=400)
    builder = RequestBuilder(make_writer(), LEASES, requested, conversation("Hi", max_tokens=9000), stateless=False)
    with pytest.raises(ProviderError, match="500 tokens at most"):
        await builder.build_request(requested)
    signed = ChatMessage("assistant", (TextPart("Hi", "S"), TextPart("you")))
    request = structs.replace(conversation("Hi", max_tokens=500), messages=(signed,))
    builder = RequestBuilder(make_writer(), LEASES, requested, request, stateless=False)
    assert (await builder.build_request(requested)).messages == (signed,)
    assert (await builder.build_request(requested)).params.max_tokens == 500
    assert (await builder.build_request(other)).messages == (
        ChatMessage("assistant", (TextPart("Hi"), TextPart("you"))),
    )
    assert (await builder.build_request(other)).params.max_tokens == 400
