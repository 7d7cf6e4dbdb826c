"""A shortcut for more text of an open part, which nearly all batches are: one call, from the provider's stream to the socket.

`EventWriter.deliver` is the truth. The shortcut does what it would do for a turn whose only reader waits for this text.
"""

from __future__ import annotations

from gateway.protocol.events import TurnDelta
from gateway.streams.log import event_size
from gateway.turns.event_writer import EventWriter
from gateway.turns.leases import Leases
from gateway.turns.part_events import UNSPLIT_CHARS_MAX


class TextFastPath:
    """The shortcut of one turn. See `TextWriter`."""

    __slots__ = ("_event_writer", "_leases", "_live_turn")

    def __init__(self, event_writer: EventWriter, leases: Leases) -> None:
        self._event_writer = event_writer
        self._live_turn = event_writer.live_turn
        self._leases = leases

    def write(self, part: int, text: str) -> bool:
        """Publish more text of part number `part`, and write its frame. Return False, without any effect, if that needs more."""
        live_turn, event_writer = self._live_turn, self._event_writer
        attachment = live_turn.sole_attachment
        if (
            attachment is None
            or live_turn.batch_observer is not None
            or live_turn.signal.abort_reason is not None
            or event_writer.first_token_at is None
            or not 0 <= part < event_writer.part_count
            or not 0 < len(text) <= UNSPLIT_CHARS_MAX
            or live_turn.output_bytes + 4 * len(text) > event_writer.output_bytes_max
            or self._leases.is_stale
        ):
            return False
        events, outbox = live_turn.log.events, attachment.outbox
        seq = len(events) + 1
        if outbox.write_soon is None or attachment.cursor != seq - 1:
            return False
        event = TurnDelta(live_turn.turn, seq, part, text)
        if not outbox.write_soon(outbox.codec.encode(event)):
            return False
        events.append(event)
        attachment.cursor = seq
        live_turn.output_bytes += event_size(event)
        event_writer.on_events(live_turn)
        return True
