"""A turn's question cut to each model, and what clients are told of the trying."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from gateway.protocol.events import TurnStatus
from gateway.telemetry.metrics import Telemetry
from gateway.turns.event_writer import EventWriter
from gateway.turns.leases import Leases
from gateway.turns.live_turn import LiveTurn
from gateway.turns.request_builder import RequestBuilder
from gateway.turns.turn_metrics import TurnMetrics
from providers.base import ChatMessage, ChatRequest, ImagePart, Params, Part, ProviderError, TextPart
from providers.route import Route
from tests.answers import route
from tests.turn_events import EPOCH, started

LONG = "x" * 3000
"""About a thousand tokens."""


LEASES = cast("Leases", SimpleNamespace(stale=False))


def delivery() -> EventWriter:
    stream = LiveTurn("ann", "t", b"", EPOCH)
    stream.publish([started("t")])
    stream.model = "m"
    return EventWriter(stream, 10**9, None, TurnMetrics(Telemetry(())))


def conversation(*texts: str, **params: Any) -> ChatRequest:
    roles = ("user", "assistant")
    messages = [ChatMessage(roles[n % 2], (TextPart(text),)) for n, text in enumerate(texts)]  # type: ignore[arg-type]
    return ChatRequest(model="wanted", messages=tuple(messages), params=Params(**params))


def model(name: str, **fields: Any) -> Route:
    return structs.replace(route(), id=name, model=f"upstream-{name}", **fields)


def statuses(made: EventWriter) -> list[TurnStatus]:
    return [event for event in made.live_turn.log.events if isinstance(event, TurnStatus)]


async def test_each_model_is_asked_by_its_own_name_and_with_what_it_has_room_for() -> None:
    """The context is cut anew for a fallback's smaller window, and clients hear how much went."""
    made = delivery()
    wanted, small = model("wanted", context_window=9000), model("small", context_window=3000)
    asking = RequestBuilder(made, LEASES, wanted, conversation(LONG, LONG, LONG, LONG, "now"), stateless=False)
    first = await asking.build_request(wanted)
    assert (first.model, len(first.messages)) == ("upstream-wanted", 5)
    asking.on_request(wanted, first)
    second = await asking.build_request(small)
    assert (second.model, [part.text for part in second.messages[-1].parts]) == ("upstream-small", ["now"])  # type: ignore[union-attr]
    asking.on_fallback(small)
    asking.on_request(small, second)
    asking.on_request(small, second)
    assert [(one.status, one.model, one.messages) for one in statuses(made)] == [
        ("fallback", "small", None),
        ("trimmed", None, 5 - len(second.messages)),
    ]
    assert made.live_turn.model == "small"
    assert made.timing().attempts == 3


async def test_what_had_no_room_counts_as_trimmed() -> None:
    """Clients hear of every message that the model wasn't given."""
    made = delivery()
    wanted = model("wanted", context_window=9000)
    question = structs.replace(conversation("Hi", "now"), omitted_messages=7)
    asking = RequestBuilder(made, LEASES, wanted, question, stateless=False)
    asking.on_request(wanted, await asking.build_request(wanted))
    assert [(one.status, one.messages) for one in statuses(made)] == [("trimmed", 7)]


async def test_a_retry_is_told_with_its_wait() -> None:
    """Which attempt follows, and in how many milliseconds."""
    made = delivery()
    RequestBuilder(made, LEASES, model("m"), conversation("Hi"), stateless=False).on_retry(2, 700)
    assert [(one.status, one.attempt, one.delay_ms) for one in statuses(made)] == [("retrying", 2, 700)]


async def test_a_fallback_that_has_no_room_is_skipped() -> None:
    """What can't be cut has to fit; the wanted model's own provider may say so itself."""
    small = model("small", context_window=3000)
    for question, stateless in ((conversation(LONG * 4), False), (conversation(LONG, LONG, LONG), True)):
        asking = RequestBuilder(delivery(), LEASES, model("wanted"), question, stateless=stateless)
        with pytest.raises(ProviderError) as caught:
            await asking.build_request(small)
        assert caught.value.code == "context_length_exceeded"
        wanted = RequestBuilder(delivery(), LEASES, small, question, stateless=stateless)
        assert (await wanted.build_request(small)).model == "upstream-small"


async def test_what_is_surely_too_long_is_not_sent() -> None:
    """After the trimming: a long history goes, a long question is refused, and nobody was asked: no usage."""
    words = "word " * 5000
    small, made = model("m", context_window=1000), delivery()
    asking = RequestBuilder(made, LEASES, small, conversation(words, words, "now"), stateless=False)
    assert len((await asking.build_request(small)).messages) == 1
    for question, stateless in ((conversation("a", "b", words), False), (conversation(words, "b", "now"), True)):
        with pytest.raises(ProviderError) as caught:
            await RequestBuilder(made, LEASES, small, question, stateless=stateless).build_request(small)
        assert caught.value.code == "context_length_exceeded"
    made.record_refusal()
    assert made.usage([]) is None


@pytest.mark.parametrize("wanted", [True, False])
async def test_what_a_model_cannot_take(wanted: bool) -> None:
    """History counts too: an image that was sent before is one that a model without vision can't see."""
    parts: tuple[Part, ...] = (ImagePart("image/png", data="A"),)
    question = ChatRequest(model="m", messages=(ChatMessage("user", parts),))
    blind = model("blind", features=("chat",))
    asking = RequestBuilder(delivery(), LEASES, blind if wanted else model("m"), question, stateless=False)
    with pytest.raises(ProviderError, match="can't see"):
        await asking.build_request(blind)


async def test_a_fallback_says_at_most_what_it_can() -> None:
    """`max_tokens` is what the client allows, and a fallback's own limit may be lower."""
    asking = RequestBuilder(
        delivery(), LEASES, model("m", max_output=500), conversation("Hi", max_tokens=9000), stateless=False
    )
    assert (await asking.build_request(model("m2", max_output=1000))).params.max_tokens == 1000
    assert (await asking.build_request(model("m3"))).params.max_tokens == 9000


async def test_the_wanted_model_is_asked_for_what_the_client_said() -> None:
    """What is too much for it is refused, and what was signed for it is sent along; for a fallback both are cut."""
    wanted, other = model("m", max_output=500), model("other", max_output=400)
    asking = RequestBuilder(delivery(), LEASES, wanted, conversation("Hi", max_tokens=9000), stateless=False)
    with pytest.raises(ProviderError, match="500 tokens at most"):
        await asking.build_request(wanted)
    signed = ChatMessage("assistant", (TextPart("Hi", "S"), TextPart("you")))
    question = structs.replace(conversation("Hi", max_tokens=500), messages=(signed,))
    asking = RequestBuilder(delivery(), LEASES, wanted, question, stateless=False)
    assert (await asking.build_request(wanted)).messages == (signed,)
    assert (await asking.build_request(wanted)).params.max_tokens == 500
    assert (await asking.build_request(other)).messages == (
        ChatMessage("assistant", (TextPart("Hi"), TextPart("you"))),
    )
    assert (await asking.build_request(other)).params.max_tokens == 400
