"""The outbox of one connection: answers in order, and a position in the log of each attached turn. No I/O.

No events are copied. An attachment is a position in a log, so replay and live stream are the same (law 7), and a client
that is behind gets merged frames and costs no memory. Live events that wait are counted against the bound. Replayed
events are read from the log only when the socket can take them, so they aren't counted (law 11).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from gateway.protocol.codec import Codec
from gateway.streams.log import TurnLog, event_size


class FrameObserver(Protocol):
    """A measurement that ends when a frame is sent (`sampling.py`)."""

    def record_sent(self, outbox: Outbox) -> None: ...


class Attachment:
    """A connection's position in a turn's log. Every event after seq `cursor` is still to be sent.

    `reset_frame`, an encoded `turn.reset` or None, is sent before them. `backlog_bytes` is what the unsent events after
    seq `counted_from` add to the bytes that wait in the outbox.
    """

    __slots__ = ("backlog_bytes", "counted_from", "cursor", "is_queued", "log", "on_detached", "outbox", "reset_frame")

    def __init__(
        self,
        log: TurnLog,
        outbox: Outbox,
        cursor: int,
        reset_frame: bytes | None,
        on_detached: Callable[[Attachment], None],
    ) -> None:
        self.log = log
        self.outbox = outbox
        self.cursor = cursor
        self.counted_from = log.end
        self.backlog_bytes = 0
        self.reset_frame = reset_frame
        self.is_queued = False
        self.on_detached = on_detached

    def discount(self) -> None:
        """Stop counting the events that wait now."""
        self.outbox.waiting_bytes -= self.backlog_bytes
        self.backlog_bytes, self.counted_from = 0, self.log.end

    @property
    def has_frame(self) -> bool:
        """Whether there is a frame to send now. There is none while the position is ahead of the log."""
        return self.reset_frame is not None or self.cursor < self.log.end

    @property
    def is_done(self) -> bool:
        """Whether the turn has ended and `next_frame` has returned its ending."""
        return self.log.is_ended and self.reset_frame is None and self.cursor >= self.log.end

    def next_frame(self, codec: Codec) -> bytes | None:
        """Return the next frame and advance the position past it, or return None if there is none."""
        if self.reset_frame is not None:
            frame, self.reset_frame = self.reset_frame, None
            return frame
        log = self.log
        if self.cursor >= log.end:
            return None
        before = self.cursor
        payload, self.cursor = log.frame_after(before, codec)
        if self.backlog_bytes:
            if self.cursor == log.end:
                sent_bytes = self.backlog_bytes
            else:
                first = max(before, self.counted_from)
                sent_bytes = sum([event_size(event) for event in log.events[first : self.cursor]])
            self.backlog_bytes -= sent_bytes
            self.outbox.waiting_bytes -= sent_bytes
        return payload


class _Answer(NamedTuple):
    """A frame that doesn't belong to a turn.

    `ordered_after` is a list of (attachment, seq): the frame is sent after each attachment has reached its `seq`.
    """

    payload: bytes
    ordered_after: list[tuple[Attachment, int]]
    large: bool


class Outbox:
    """The queue of one connection. Past `bytes_max` it closes and calls `on_overflow` once.

    `on_wake` is called when there is something to send. Call `next_frame` when the socket can take more. An answer that
    may be large is `put` with `large`. It isn't counted, because there is only one: before the next one, the caller
    waits with `when_large_sent`. `on_uncrowded` is called when `is_crowded` may have become False.
    """

    def __init__(
        self,
        codec: Codec,
        bytes_max: int,
        on_wake: Callable[[], None],
        on_overflow: Callable[[], None],
        on_uncrowded: Callable[[], object] = lambda: None,
    ) -> None:
        self.codec = codec
        self.waiting_bytes = 0
        self.is_closed = False
        self.attachments: dict[str, Attachment] = {}
        self.frame_observer: FrameObserver | None = None
        """The measurement to notify when a frame is handed to the socket. It is set on `connection_outbox` only."""
        self.connection_outbox: Outbox = self
        """The queue that the socket sends from."""
        self.write_soon: Callable[[bytes], bool] | None = None
        """Writes a frame, or returns False if the socket can't take it now. None unless nothing else waits to be sent."""
        self._bytes_max = bytes_max
        self._on_wake = on_wake
        self._on_overflow = on_overflow
        self._on_uncrowded = on_uncrowded
        self._on_large_sent: list[Callable[[], object]] = []
        self._answers: deque[_Answer] = deque()
        self._large_waiting = 0
        self._queue: deque[Attachment] = deque()
        self._answer_is_next = True

    @property
    def is_empty(self) -> bool:
        """Whether no answer waits here and no turn is attached."""
        return not self._answers and not self.attachments

    @property
    def has_large_answer(self) -> bool:
        """Whether a `large` answer waits here."""
        return self._large_waiting > 0

    def when_large_sent(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, when no `large` answer waits here any more."""
        self._on_large_sent.append(callback)

    @property
    def is_crowded(self) -> bool:
        """Whether the connection should read no more requests until `on_uncrowded` is called.

        Always False for the queue of one user, which calls `on_overflow` instead.
        """
        return False

    def put(self, frame: Any, ordered_after: Iterable[Attachment] = (), *, large: bool = False) -> None:
        """Queue one frame that doesn't belong to a turn.

        It is sent after the events that the logs of the attachments in `ordered_after` have now. `large`: the frame
        isn't counted, because its caller waited with `when_large_sent`.
        """
        if self.is_closed:
            return
        payload = self.codec.encode(frame)
        marks = [(attachment, attachment.log.end) for attachment in ordered_after]
        self._answers.append(_Answer(payload, marks, large))
        if large:
            self._large_waiting += 1
        else:
            self._add_waiting(self.codec.size(payload))
        self._on_wake()

    def attach(self, attachment: Attachment) -> None:
        """Add an attachment. It replaces one to the same turn. A closed outbox drops it."""
        if self.is_closed:
            self._release(attachment)
            return
        self.detach(attachment.log.turn)
        self.attachments[attachment.log.turn] = attachment
        if attachment.has_frame:
            self._enqueue(attachment)
            self._on_wake()

    def detach(self, turn: str) -> Attachment | None:
        """Send no more frames of `turn`. Return its attachment, or None if there was none."""
        attachment = self.attachments.pop(turn, None)
        if attachment is not None:
            self._release(attachment)
        return attachment

    def offer(self, attachment: Attachment, size: int) -> None:
        """Queue the attachment, whose log has grown by `size` bytes.

        If these bytes are more than half of the bound, no client could have read them in time. The attachment's waiting
        events then aren't counted, as if they were replayed.
        """
        if size > self._bytes_max // 2:
            attachment.discount()
            size = 0
        attachment.backlog_bytes += size
        if not attachment.is_queued:
            self._enqueue(attachment)
            self._on_wake()
        self._add_waiting(size)

    def close(self) -> None:
        """Drop all attachments and frames, and accept no more."""
        self.is_closed = True
        for turn in list(self.attachments):
            self.detach(turn)
        self._answers.clear()
        self._queue.clear()

    def next_frame(self) -> bytes | None:
        """Return the next frame to send, or None. Answers and turns alternate, and the attached turns rotate."""
        if self._answers and (self._answer_is_next or not self._queue):
            self._answer_is_next = False
            return self._next_answer()
        self._answer_is_next = True
        while self._queue:
            attachment = self._queue.popleft()
            if self.attachments.get(attachment.log.turn) is not attachment:
                continue
            frame = attachment.next_frame(self.codec)
            if attachment.has_frame:
                self._queue.append(attachment)
            else:
                attachment.is_queued = False
                if attachment.is_done:
                    self.detach(attachment.log.turn)
            if frame is not None:
                return frame
        return self._next_answer() if self._answers else None

    def _next_answer(self) -> bytes:
        """Return the oldest answer, or a frame of a turn that has to be sent before it."""
        payload, ordered_after, large = self._answers[0]
        for attachment, seq in ordered_after:
            if attachment.cursor < seq and self.attachments.get(attachment.log.turn) is attachment:
                frame = attachment.next_frame(self.codec)
                if frame is not None:
                    return frame
        self._answers.popleft()
        if large:
            self._large_waiting -= 1
            if self._large_waiting == 0:
                called, self._on_large_sent = self._on_large_sent, []
                for callback in called:
                    callback()
        else:
            self.waiting_bytes -= self.codec.size(payload)
        return payload

    def _enqueue(self, attachment: Attachment) -> None:
        attachment.is_queued = True
        self._queue.append(attachment)

    def _release(self, attachment: Attachment) -> None:
        attachment.discount()
        attachment.on_detached(attachment)

    def _add_waiting(self, size: int) -> None:
        self.waiting_bytes += size
        if self.waiting_bytes > self._bytes_max and not self.is_closed:
            self._overflow()

    def _overflow(self) -> None:
        self.close()
        self._on_overflow()
