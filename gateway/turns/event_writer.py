"""Convert a provider's batches to numbered events of one turn, and collect the data for its ending."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Protocol

from msgspec import structs

from gateway.offload import offload, request_size
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Timing, TurnDelta, TurnEvent, TurnPart, TurnReset, TurnStatus
from gateway.turns.abort import Abort
from gateway.turns.accounts import Accounts, complete_usage, cost_nano
from gateway.turns.image_events import ImageEvents
from gateway.turns.live_turn import LiveTurn
from gateway.turns.message_fold import fold, fold_final
from gateway.turns.outcome import Outcome
from gateway.turns.part_events import UNSPLIT_CHARS_MAX, delta_events, part_event, repeated_events
from gateway.turns.state import IllegalTransition
from gateway.turns.turn_metrics import TurnMetrics
from providers.base import (
    ChatRequest,
    Delta,
    Finished,
    FinishReason,
    Part,
    PartDelta,
    PartStarted,
    PartsWithdrawn,
    ResponseHandle,
    Usage,
    UsageReported,
)
from providers.fit.ids import own_call_id
from providers.route import Route

STOP_SEQUENCE_CHARS_MAX = 512
"""A longer stop sequence isn't reported, because an event has to fit in a frame."""


class OnEvents(Protocol):
    """A callback for published events. `urgent`: the log must be flushed now, not at the next interval."""

    def __call__(self, live_turn: LiveTurn, *, urgent: bool = False) -> None: ...


class EventWriter:
    """The event writer of one turn: numbers and publishes its events.

    It also records the time of the first token, the usage and the finish reason.
    """

    def __init__(
        self,
        live_turn: LiveTurn,
        output_bytes_max: int,
        parts_max: int,
        parent: str | None,
        metrics: TurnMetrics,
        on_events: OnEvents = lambda live_turn, *, urgent=False: None,
        age_ms: int = 0,
    ) -> None:
        self.live_turn = live_turn
        self.metrics = metrics
        self.response_started = False
        """Whether reading of a provider's answer has begun."""
        self.route: Route | None = None
        """The route of the latest request, or None before the first."""
        self.on_events = on_events
        self.parent = parent
        self.output_bytes_max = output_bytes_max
        self._parts_max = parts_max
        self.accepted_at = time.monotonic() - age_ms / 1000
        self._requested_at: float | None = None
        self.first_token_at: float | None = None
        """The time of the first batch, on the monotonic clock."""
        self.part_count = 0
        """The number of parts that are open."""
        self._images = ImageEvents(live_turn, output_bytes_max)
        self._is_resumed = False
        self._attempts = 0
        self._chat_request: ChatRequest | None = None
        self._usage: Usage | None = None
        self._cost: Decimal | None = None
        self._finish_reason: FinishReason | None = None
        self._stop_sequence: str | None = None
        self._accounts = Accounts()

    @property
    def attempts(self) -> int:
        """The number of requests so far."""
        return self._attempts

    def record_request(self, route: Route, chat_request: ChatRequest) -> None:
        """Record that a request is about to be sent to a provider, for the first time or again."""
        self.metrics.on_request(route)
        self.route = route
        self._chat_request = chat_request
        self._attempts += 1
        if self._requested_at is None:
            self._requested_at = time.monotonic()

    def deliver(self, batch: list[Delta]) -> None:
        """Number and publish one batch of deltas. Abort the turn if its output is over its limit in bytes or parts.

        Raise `IllegalTransition` if a delta belongs to a part that isn't open, or if parts are out of order.
        """
        live_turn = self.live_turn
        events: list[TurnEvent] = []
        seq = live_turn.log.end
        self._images.batch_chars = 0
        for delta in batch:
            if type(delta) is PartDelta:
                if not 0 <= delta.part < self.part_count:
                    raise IllegalTransition(f"delta of part {delta.part}, which isn't open")
                text = delta.text
                if text and len(text) <= UNSPLIT_CHARS_MAX:
                    seq += 1
                    events.append(TurnDelta(live_turn.turn, seq, delta.part, text))
                    continue
                for event in self._long_delta_events(seq, delta):
                    seq += 1
                    events.append(event)
            elif type(delta) is PartStarted:
                if self.part_count == self._parts_max:
                    self._abort_at_limit(f"{self._parts_max} parts")
                    break
                seq += 1
                events.append(self._open_part(delta, seq))
            else:
                seq = max(seq, self._record_delta(delta, seq, events))
        if not events:
            return
        first = self.first_token_at is None
        if first:
            self.first_token_at = time.monotonic()
        if live_turn.batch_observer is not None:
            live_turn.batch_observer.record_batch(live_turn)
        live_turn.publish(events)
        self.on_events(live_turn, urgent=first)
        if live_turn.output_bytes > self.output_bytes_max:
            self._abort_at_limit(f"{self.output_bytes_max} bytes")

    def _open_part(self, started: PartStarted, seq: int) -> TurnPart:
        if started.part != self.part_count:
            raise IllegalTransition(f"part {started.part} instead of part {self.part_count}")
        self.part_count += 1
        if started.size is not None:
            started = self._images.open(started)
        elif started.kind == "tool_call":
            live_turn = self.live_turn
            call = own_call_id(live_turn.message or live_turn.turn, started.part, started.call or "")
            started = structs.replace(started, call=call)
        return part_event(self.live_turn.turn, seq, started)

    def _long_delta_events(self, seq: int, delta: PartDelta) -> Sequence[TurnDelta]:
        if delta.data is not None or delta.part in self._images.left_out:
            return self._images.data_events(seq, delta.part, delta.data or "")
        return delta_events(self.live_turn.turn, seq, delta)

    def _abort_at_limit(self, limit: str) -> None:
        self.live_turn.signal.abort(Abort("limit", f"The answer reached its limit of {limit}."))

    def _record_delta(self, delta: Delta, seq: int, events: list[TurnEvent]) -> int:
        """Record a delta that doesn't belong to a part. Return the seq of the last event afterward.

        `events` are those that will be published next, up to `seq`.
        """
        if isinstance(delta, PartsWithdrawn):
            events.append(TurnReset(self.live_turn.turn, seq + 1, self.live_turn.epoch, delta.reason))
            self._forget_parts()
            return seq + 1
        if isinstance(delta, UsageReported):
            self._usage, self._cost = delta.usage, delta.cost
        elif isinstance(delta, Finished):
            self._finish_reason = delta.reason
            self._stop_sequence = self._known_stop_sequence(delta.stop_sequence)
        elif isinstance(delta, ResponseHandle):
            self._log_response_handle(delta, seq + 1)
        return self.live_turn.log.end

    def _known_stop_sequence(self, reported: str | None) -> str | None:
        """Return the stop sequence that a provider reports, if it is one of the request, and not too long for an event."""
        if reported is None or self._chat_request is None or len(reported) > STOP_SEQUENCE_CHARS_MAX:
            return None
        return reported if reported in (self._chat_request.params.stop or ()) else None

    def _log_response_handle(self, handle: ResponseHandle, seq: int) -> None:
        """Log the response handle at once, because a takeover may need it before the first token.

        The log stores it with an event, so publish the status "running" again if the turn is in that state.
        """
        live_turn = self.live_turn
        live_turn.set_response_handle(handle, seq)
        if live_turn.state == "running" and live_turn.log.end == seq - 1:
            live_turn.publish([TurnStatus(turn=live_turn.turn, seq=seq, status="running")])
            self.on_events(live_turn, urgent=True)

    def publish(self, event: TurnEvent) -> None:
        """Publish an event that the gateway makes, not the provider."""
        self.live_turn.publish([event])
        self.on_events(self.live_turn)

    def publish_status(self, **fields: Any) -> None:
        """Publish a `turn.status` with these fields."""
        live_turn = self.live_turn
        self.publish(TurnStatus(turn=live_turn.turn, seq=live_turn.log.end + 1, **fields))

    def resume_parts(self) -> list[Part]:
        """Continue the part numbers of an answer that another owner began. Return the parts it has so far."""
        parts = self.parts()
        self.part_count = len(parts)
        self._is_resumed = bool(parts)
        return parts

    async def repeat(self, parts: list[Part]) -> None:
        """Publish the parts of an earlier answer, which this turn continues. They count as none of this turn's requests."""
        live_turn = self.live_turn
        slices = await offload(
            sum(len(getattr(part, "text", None) or "") for part in parts),
            repeated_events,
            live_turn.turn,
            live_turn.log.end,
            parts,
        )
        for events in slices:
            live_turn.publish(list(events))
            self.on_events(live_turn)
            await asyncio.sleep(0)  # raises if the turn was aborted
        self.part_count = len(parts)
        self._accounts.earlier_parts = parts

    def exclude(self, parts: list[Part]) -> None:
        """Leave `parts`, those of the earlier answer that this turn continues, out of the usage of a former owner."""
        self._accounts.earlier_parts = parts

    def publish_waiting(self) -> None:
        """Publish the status "waiting" if the turn is still running without a first token, to show that it is alive."""
        if self.live_turn.state == "running":
            self.publish_status(status="waiting")

    def outcome_of_answer(self) -> Outcome:
        """Return the outcome after the provider's stream has ended.

        It is "failed" with `upstream_incomplete` if the provider sent no finish reason, and otherwise "completed".
        """
        if self._finish_reason is None:
            return Outcome("failed", error=ApiError("upstream_incomplete"))
        return Outcome("completed", finish_reason=self._finish_reason, stop_sequence=self._stop_sequence)

    def parts(self) -> list[Part]:
        """Return the parts of the message so far. An image has the data so far."""
        return fold(self.live_turn.log.events)

    def final_parts(self) -> list[Part]:
        """Return the parts of the message as they are stored when the turn ends."""
        return fold_final(self.live_turn.log.events)

    @property
    def size(self) -> int:
        """About how many bytes the answer and the request to the provider have together, for `offload`."""
        request = self._chat_request
        return self.live_turn.output_bytes + (0 if request is None else request_size(request))

    def usage(self, parts: list[Part]) -> Usage | None:
        """Return the token usage, or None if no provider was asked. `parts`: the answer's parts.

        Counts that the provider didn't report, or didn't report to the end, are estimated.
        """
        if self._chat_request is None:
            return self._usage
        return complete_usage(self._chat_request, self._usage, parts, is_whole=self._finish_reason is not None)

    def end_request(self, parts: list[Part]) -> None:
        """Add the latest request to the sums, because another one follows. `parts` are the answer's parts so far."""
        self._accounts.usage, self._accounts.cost_nano = self.totals(parts)
        self._accounts.earlier_parts = parts
        self.drop_request()

    def drop_request(self) -> None:
        """Leave the latest request out of the usage, because it got no answer."""
        self._chat_request = self._usage = self._cost = self._finish_reason = self._stop_sequence = None
        self.response_started = False

    def record_lost_request(self, route: Route, chat_request: ChatRequest) -> None:
        """Record the request of a former owner, whose usage is estimated."""
        self.route, self._chat_request = route, chat_request

    def reset(self, reason: str) -> None:
        """Discard the parts so far: publish a `turn.reset`."""
        live_turn = self.live_turn
        self._forget_parts()
        self._accounts.earlier_parts = ()
        self.publish(TurnReset(live_turn.turn, live_turn.log.end + 1, live_turn.epoch, reason))

    def _forget_parts(self) -> None:
        self.part_count = 0
        """The number of parts that are open."""
        self._images.forget()

    def totals(self, parts: list[Part]) -> tuple[Usage | None, int | None]:
        """Return the usage and the cost of all requests, each None if it isn't known. `parts`: the answer's parts.

        The cost is in billionths of a dollar.
        """
        usage = self.usage(self._accounts.latest_parts(parts))
        return self._accounts.add(usage, self.cost_nano(usage))

    def record_refusal(self) -> None:
        """Set the usage to zero: the provider refused the request, so it bills nothing."""
        if self._chat_request is not None:
            self._chat_request = None
            self._usage = Usage(0, 0)

    def cost_nano(self, usage: Usage | None) -> int | None:
        """Return the cost of `usage` in billionths of a dollar, or None if there is no usage, route or known price."""
        if usage is None or self.route is None:
            return None
        return cost_nano(self.route, usage, None if usage.estimated else self._cost)

    def timing(self) -> Timing:
        """Return the number of attempts, and the durations in ms from acceptance on."""
        now = time.monotonic()
        asked_at = self._requested_at or now
        first_token_at = None if self._is_resumed else self.first_token_at  # the former owner sent the first one
        return Timing(
            queued_ms=_ms(asked_at - self.accepted_at),
            total_ms=_ms(now - self.accepted_at),
            attempts=self._attempts,
            ttft_ms=None if first_token_at is None else _ms(first_token_at - self.accepted_at),
        )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
