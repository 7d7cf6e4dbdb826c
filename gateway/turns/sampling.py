"""Sample the latency from a provider to a socket, the gap between two batches, and the lag of the event loop.

At most one turn is chosen every `SAMPLE_INTERVAL_S`, so sampling costs the other turns nothing.
"""

from __future__ import annotations

import asyncio
import random
from time import perf_counter

from gateway.streams.outbox import Attachment, Outbox
from gateway.telemetry.metrics import Telemetry
from gateway.turns.live_turn import LiveTurn
from gateway.turns.registry import TurnRegistry

SAMPLE_INTERVAL_S = 0.1


class Sample:
    """A measurement of two successive batches of one turn.

    It measures the gap between them, and the time that the first one takes to reach a socket. A client that is behind
    isn't timed, because the time would depend on how fast it reads.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._read_at: float | None = None
        self._attachment: Attachment | None = None
        self._seq = 0

    def record_batch(self, live_turn: LiveTurn) -> None:
        """Record a batch of the turn that is about to be published."""
        now = perf_counter()
        if self._read_at is not None:
            self._telemetry.token_gap.observe(now - self._read_at)
            live_turn.set_batch_observer(None)
            return
        self._read_at = now
        self._attachment = live_turn.reader_at_end()
        if self._attachment is not None:
            self._seq = live_turn.log.end + 1
            self._attachment.outbox.connection_outbox.frame_observer = self

    def record_sent(self, outbox: Outbox) -> None:
        """Record that a frame of `outbox` was handed to the socket."""
        assert self._attachment is not None
        assert self._read_at is not None
        if self._attachment.cursor >= self._seq:
            self._telemetry.added_latency.observe(perf_counter() - self._read_at)
            outbox.frame_observer = None
        elif self._attachment.outbox.attachments.get(self._attachment.log.turn) is not self._attachment:
            outbox.frame_observer = None


async def run_sampling(registry: TurnRegistry, telemetry: Telemetry) -> None:
    """Measure the lag of the event loop, and sample a random turn if it is streaming. Repeat this until cancelled."""
    while True:
        began = perf_counter()
        await asyncio.sleep(SAMPLE_INTERVAL_S)
        telemetry.loop_lag.observe(max(perf_counter() - began - SAMPLE_INTERVAL_S, 0))
        # Assigned in each iteration, so that an ended turn isn't kept in memory.
        live_turn = random.choice(registry.live() or [None])
        if live_turn is not None and live_turn.is_owned and live_turn.state == "streaming":
            live_turn.set_batch_observer(Sample(telemetry))
