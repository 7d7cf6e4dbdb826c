"""A provider's batches as numbered events of one turn, with what its ending will need to know."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from msgspec import structs

from gateway.codec import clip_text, encoded_size, split_text
from gateway.errors import ApiError
from gateway.events import Timing, TurnDelta, TurnEvent, TurnPart, TurnStatus
from gateway.plain_text import escaped
from gateway.protocol import PIECE_BYTES_MAX
from gateway.shapes import NANO
from gateway.telemetry.turn_watch import TurnWatch
from gateway.turns.abort import Abort
from gateway.turns.context import estimated_usage
from gateway.turns.outcome import Outcome
from gateway.turns.turn import IllegalTransition, fold
from gateway.turns.turn_stream import TurnStream
from providers.base import (
    ChatRequest,
    Cursor,
    Delta,
    Finished,
    FinishReason,
    Part,
    PartDelta,
    PartStarted,
    Usage,
    UsageReported,
)
from providers.prices import cost_usd
from providers.route import Route

ID_BYTES_MAX = 512
TITLE_BYTES_MAX = 1024
TEXT_BYTES_MAX = 4096
URL_BYTES_MAX = 8192
SAFE_CHARS = PIECE_BYTES_MAX // 6


class Delivery:
    """Stamps and publishes one turn's events; knows its first token, usage and finish."""

    def __init__(
        self,
        stream: TurnStream,
        output_bytes_max: int,
        began_ms: int,
        parent: str | None,
        watch: TurnWatch,
        on_events: Callable[[TurnStream, bool], None] = lambda stream, first: None,
    ) -> None:
        self.stream = stream
        self.watch = watch
        self.begun = False
        """Whether a provider's answer is being read."""
        self._on_events = on_events
        self.parent = parent
        self.began_ms = began_ms
        self._output_bytes_max = output_bytes_max
        self._began = time.monotonic()
        self._asked_at: float | None = None
        self._first_at: float | None = None
        self._parts = 0
        self._attempts = 0
        self._route: Route | None = None
        self._question: ChatRequest | None = None
        self._usage: Usage | None = None
        self._cost: Decimal | None = None
        self._finish: FinishReason | None = None

    def asked(self, route: Route, question: ChatRequest) -> None:
        """A provider is about to be asked, for the first time or again."""
        self.watch.asking(route)
        self._route = route
        self._question = question
        self._attempts += 1
        if self._asked_at is None:
            self._asked_at = time.monotonic()

    def deliver(self, batch: list[Delta]) -> None:
        """Number and publish one batch."""
        stream = self.stream
        events: list[TurnEvent] = []
        seq = stream.log.end
        for delta in batch:
            if type(delta) is PartDelta:
                if not 0 <= delta.part < self._parts:
                    raise IllegalTransition(f"a delta of part {delta.part}, which was not opened")
                text = delta.text
                if text and len(text) <= SAFE_CHARS:
                    seq += 1
                    events.append(TurnDelta(stream.turn, seq, delta.part, text))
                    continue
                for event in _delta_events(stream.turn, seq, delta):
                    seq += 1
                    events.append(event)
            elif type(delta) is PartStarted:
                if delta.part != self._parts:
                    raise IllegalTransition(f"part {delta.part} where {self._parts} is next")
                self._parts += 1
                seq += 1
                events.append(_part_event(stream.turn, seq, delta))
            else:
                seq = max(seq, self._note(delta, seq))
        if not events:
            return
        first = self._first_at is None
        if first:
            self._first_at = time.monotonic()
        if stream.sample is not None:
            stream.sample.batch(stream)
        stream.publish(events)
        self._on_events(stream, first)
        if stream.bytes_out > self._output_bytes_max:
            stream.signal.abort(Abort("limit", f"The answer reached its limit of {self._output_bytes_max} bytes."))

    def _note(self, delta: Delta, seq: int) -> int:
        """Keep what is no part's; the log's end then."""
        if isinstance(delta, UsageReported):
            self._usage, self._cost = delta.usage, delta.cost
        elif isinstance(delta, Finished):
            self._finish = delta.reason
        elif isinstance(delta, Cursor):
            self._keep(delta, seq + 1)
        return self.stream.log.end

    def _keep(self, cursor: Cursor, seq: int) -> None:
        """Log the cursor at once, with an event that says what is true anyway: it is wanted before the first token."""
        stream = self.stream
        stream.cursor, stream.cursor_seq = cursor, seq
        if stream.state == "running" and stream.log.end == seq - 1:
            stream.publish([TurnStatus(turn=stream.turn, seq=seq, status="running")])
            self._on_events(stream, True)

    def publish(self, event: TurnEvent) -> None:
        """Publish an event that the gateway itself makes."""
        self.stream.publish([event])
        self._on_events(self.stream, False)

    def status(self, **fields: Any) -> None:
        """Publish a `turn.status`."""
        stream = self.stream
        self.publish(TurnStatus(turn=stream.turn, seq=stream.log.end + 1, **fields))

    @property
    def route(self) -> Route | None:
        """Of the model that was asked last."""
        return self._route

    def go_on(self) -> list[Part]:
        """Continue an answer that another owner began; what it holds so far."""
        said = self.parts()
        self._parts = len(said)
        return said

    def say_waiting(self) -> None:
        """The first token is slow: say that the turn lives."""
        if self.stream.state == "running":
            self.status(status="waiting")

    def finished(self) -> Outcome:
        """The provider's stream is over."""
        if self._finish is None:
            return Outcome("failed", error=ApiError("upstream_incomplete"))
        return Outcome("completed", finish_reason=self._finish)

    def parts(self) -> list[Part]:
        """The message so far."""
        return fold(self.stream.log.events)

    def usage(self, parts: list[Part]) -> Usage | None:
        """What the provider counted; an estimate of what it didn't, or not to the end; None if it was never asked."""
        question = self._question
        counted: Usage | None = self._usage
        if question is None or (counted and counted.input_tokens and counted.output_tokens and self._finish):
            return counted
        estimate = estimated_usage(question, parts)
        if counted is None:
            return estimate
        input_tokens = counted.input_tokens or estimate.input_tokens
        output_tokens = counted.output_tokens
        if output_tokens == 0 or (self._finish is None and estimate.output_tokens > 2 * output_tokens):
            # Anthropic counts at the start too, and what was cut off has no other count.
            output_tokens = estimate.output_tokens
        estimated = (input_tokens, output_tokens) != (counted.input_tokens, counted.output_tokens)
        return structs.replace(
            counted, input_tokens=input_tokens, output_tokens=output_tokens, estimated=counted.estimated or estimated
        )

    def refused(self) -> None:
        """The provider took nothing of what it was asked, so it bills nothing."""
        if self._question is not None:
            self._question = None
            self._usage = Usage(0, 0)

    def cost_nano(self, usage: Usage | None) -> int | None:
        """What that costs, in billionths of a dollar; None where nobody knows a price."""
        if usage is None or self._route is None:
            return None
        cost = cost_usd(self._route, usage, None if usage.estimated else self._cost)
        return None if cost is None else int((cost * NANO).to_integral_value(ROUND_HALF_UP))

    def timing(self) -> Timing:
        """How long it took, from acceptance on."""
        now = time.monotonic()
        asked_at = self._asked_at or now
        return Timing(
            queued_ms=_ms(asked_at - self._began),
            total_ms=_ms(now - self._began),
            attempts=self._attempts,
            ttft_ms=None if self._first_at is None else _ms(self._first_at - self._began),
        )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _delta_events(turn: str, seq: int, delta: PartDelta) -> list[TurnDelta]:
    """One event, or several where one wouldn't fit a frame (law 10)."""
    text = delta.text
    if text is not None:
        pieces = split_text(text, PIECE_BYTES_MAX)
        return [TurnDelta(turn, seq + n, delta.part, piece) for n, piece in enumerate(pieces, 1) if piece]
    pieces = split_text(delta.signature or "", PIECE_BYTES_MAX)
    return [TurnDelta(turn, seq + n, delta.part, None, piece) for n, piece in enumerate(pieces, 1) if piece]


def _part_event(turn: str, seq: int, part: PartStarted) -> TurnPart:
    def cut(text: str | None, bytes_max: int) -> str | None:
        return None if text is None else clip_text(text, bytes_max)

    def named(text: str | None) -> str | None:
        """An id or a name in characters that can be seen: clients send them back, and logs show them."""
        return None if text is None else clip_text(escaped(text), ID_BYTES_MAX)

    # Half an address is a wrong one: too long for a frame, it is left out.
    url = part.url if part.url is None or encoded_size(part.url) <= URL_BYTES_MAX else None
    return TurnPart(
        turn=turn,
        seq=seq,
        part=part.part,
        kind=part.kind,
        call=named(part.call),
        name=named(part.name),
        url=url,
        title=cut(part.title, TITLE_BYTES_MAX),
        text=cut(part.text, TEXT_BYTES_MAX),
        media_type=cut(part.media_type, ID_BYTES_MAX),
        redacted=part.redacted,
    )
