"""The events of one turn in memory, and the frames made of them. No I/O.

Deltas are merged for a reader that is behind. The newest frame of each codec is kept, so that all readers at the same
position share its bytes. That is enough, because they usually ask for it in the same iteration of the event loop.
"""

from __future__ import annotations

from msgspec import structs

from gateway.protocol.codec import CODECS_COUNT, EVENT_BYTES, Codec
from gateway.protocol.events import TurnDelta, TurnEvent, TurnPart
from gateway.protocol.part_data import PartData
from gateway.protocol.requests import PIECE_BYTES_MAX
from gateway.protocol.text_size import chars_that_fit, encoded_size

DELTA_OVERHEAD_BYTES = 2


def event_size(event: TurnEvent) -> int:
    """Return about how many bytes the event adds to those that wait for a socket.

    A delta adds little more than its text, because waiting deltas are merged into few frames.
    """
    if type(event) is TurnDelta:
        text = event.text or event.signature or ""
        return DELTA_OVERHEAD_BYTES + (len(text) if text.isascii() else 3 * len(text))
    return DELTA_OVERHEAD_BYTES if type(event) is PartData else EVENT_BYTES


class TurnLog:
    """The events of one turn. Their `seq` is 1, 2, 3 …, so `events[n]` has `seq` n + 1."""

    __slots__ = ("_cached_frames", "_epochs", "events", "is_ended", "turn")

    def __init__(self, turn: str, epoch: int) -> None:
        self.turn = turn
        self._epochs = [(1, epoch)]
        self.events: list[TurnEvent] = []
        self.is_ended = False
        self._cached_frames: list[tuple[int, int, bytes] | None] = [None] * CODECS_COUNT

    @property
    def end(self) -> int:
        """The newest `seq`; 0 if there are no events."""
        return len(self.events)

    @property
    def epoch(self) -> int:
        """The epoch of the next event."""
        return self._epochs[-1][1]

    def begin_epoch(self, epoch: int) -> None:
        """Begin `epoch`: all later events are written in it."""
        if epoch != self.epoch:
            if self._epochs[-1][0] == self.end + 1:
                self._epochs.pop()  # no event was written in that epoch
            self._epochs.append((self.end + 1, epoch))

    def epoch_of(self, seq: int) -> int:
        """Return the epoch in which event `seq` was written or will be written."""
        return next(epoch for first, epoch in reversed(self._epochs) if first <= max(seq, 1))

    def can_resume(self, epoch: int | None, after: int) -> bool:
        """Whether a client at position `{epoch, after}` can be continued, now or when the log reaches that position."""
        return after == 0 or epoch == self.epoch_of(after)

    def frame_after(self, after: int, codec: Codec) -> tuple[bytes, int]:
        """Return the frame that follows position `after` < `end`, and the last `seq` that it covers."""
        newest = self._cached_frames[codec.index]
        first = self.events[after]
        whole: TurnEvent | None
        if type(first) is TurnDelta:
            last = self._last_mergeable(after, first)
            whole = first if last == after + 1 else None
        else:
            whole, last = self._without_data(after, first)
        if newest is not None and newest[0] == after and newest[1] == last:
            return newest[2], last
        payload = codec.encode(whole or self._merged(after, last))
        self._cached_frames[codec.index] = (after, last, payload)
        return payload, last

    def _last_mergeable(self, after: int, first: TurnDelta) -> int:
        """Return the last `seq` after `after` whose delta is of the same part and field and still fits the frame."""
        events = self.events
        last = after + 1
        if last == len(events):
            return last
        is_text = first.text is not None
        bytes_left = PIECE_BYTES_MAX - encoded_size(first.text or first.signature or "")
        chars_fitting = chars_that_fit(bytes_left)
        pieces: list[str] = []  # not yet subtracted from `bytes_left`: measuring them together is much faster
        chars = 0
        while last < len(events):
            following = events[last]
            if type(following) is not TurnDelta or following.part != first.part:
                break
            piece = following.text if is_text else following.signature
            if piece is None:
                break
            pieces.append(piece)
            chars += len(piece)
            if chars > chars_fitting:
                size = encoded_size("".join(pieces))
                if size > bytes_left:
                    break
                bytes_left -= size
                chars_fitting = chars_that_fit(bytes_left)
                pieces.clear()
                chars = 0
            last += 1
        return last

    def _without_data(self, after: int, first: TurnEvent) -> tuple[TurnEvent, int]:
        """Return the event that is sent for `first`, which follows position `after`, and the last `seq` of its frame.

        The frame covers the events with an image's data, but doesn't contain the data.
        """
        if type(first) is not PartData and (type(first) is not TurnPart or first.size is None):
            return first, after + 1
        events = self.events
        last = after + 1
        while last < len(events) and type(event := events[last]) is PartData and event.part == first.part:
            last += 1
        covers = None if last == after + 1 else after
        if type(first) is PartData:
            return TurnDelta(first.turn, last, first.part, after=covers), last
        return structs.replace(first, seq=last, after=covers), last

    def _merged(self, after: int, last: int) -> TurnDelta:
        pieces = [event for event in self.events[after:last] if type(event) is TurnDelta]
        first = pieces[0]
        if first.text is not None:
            text = "".join([piece.text or "" for piece in pieces])
            return TurnDelta(self.turn, last, first.part, text=text, after=after)
        signature = "".join([piece.signature or "" for piece in pieces])
        return TurnDelta(self.turn, last, first.part, signature=signature, after=after)
