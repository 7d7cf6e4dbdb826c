"""The outbox of one connection: answers in order, and a position in the log of each attached turn. No I/O.

No events are copied. An attachment is a position in a log, so replay and live stream are the same (law 7), and a client
that is behind gets merged frames and costs no memory. Call `next_frame` when the socket can take more. Live events that
wait are counted against the bound; replayed events are pulled and aren't counted (law 11).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from gateway.protocol.codec import Codec
from gateway.streams.log import TurnLog, event_size


class Timed(Protocol):
    """A measurement that ends when a frame is sent (`sampling.py`)."""

    def record_sent(self, outbox: Outbox) -> None: ...


class Attachment:
    """A connection's position in a turn's log. Every event after seq `cursor` is still to be sent."""

    __slots__ = ("backlog", "cursor", "live_from", "log", "on_done", "opening", "outbox", "ready")

    def __init__(
        self,
        log: TurnLog,
        outbox: Outbox,
        cursor: int,
        opening: bytes | None,
        on_done: Callable[[Attachment], None],
    ) -> None:
        self.log = log
        self.outbox = outbox
        self.cursor = cursor
        self.live_from = log.end
        self.backlog = 0
        self.opening = opening
        self.ready = False
        self.on_done = on_done

    @property
    def has_more(self) -> bool:
        """Whether there is a frame to send now. There is none while the position is ahead of the log."""
        return self.opening is not None or self.cursor < self.log.end

    @property
    def is_done(self) -> bool:
        """Whether the turn has ended and its ending was taken."""
        return self.log.ended and self.opening is None and self.cursor >= self.log.end

    def take(self, codec: Codec) -> bytes | None:
        """Return the next frame and advance the position past it, or return None if there is none."""
        if self.opening is not None:
            opening, self.opening = self.opening, None
            return opening
        log = self.log
        if self.cursor >= log.end:
            return None
        before = self.cursor
        payload, self.cursor = log.frame_after(before, codec)
        if self.backlog:
            if self.cursor == log.end:
                taken = self.backlog
            else:
                first = max(before, self.live_from)
                taken = sum([event_size(event) for event in log.events[first : self.cursor]])
            self.backlog -= taken
            self.outbox.waiting -= taken
        return payload


class _Answer(NamedTuple):
    """A frame that belongs to no turn.

    `behind` is a list of (attachment, seq): the frame is sent after each attachment has reached its `seq`.
    """

    payload: bytes
    behind: list[tuple[Attachment, int]]
    pulled: bool


class Outbox:
    """The queue of one connection. Past `bytes_max` it closes and calls `on_overflow` once.

    `on_wake` is called when there is something to send. An answer that may be large is put as `pulled`. It isn't
    counted, because the caller waits with `when_pulled` before it puts one. `on_room` is called when `is_crowded` may
    have become False.
    """

    def __init__(
        self,
        codec: Codec,
        bytes_max: int,
        on_wake: Callable[[], None],
        on_overflow: Callable[[], None],
        on_room: Callable[[], object] = lambda: None,
    ) -> None:
        self.codec = codec
        self.waiting = 0
        self.closed = False
        self.attachments: dict[str, Attachment] = {}
        self.sample: Timed | None = None
        """The measurement to notify when a frame is handed to the socket. It is set on `front` only."""
        self.front: Outbox = self
        """The queue that the socket sends from."""
        self._bytes_max = bytes_max
        self._on_wake = on_wake
        self._on_overflow = on_overflow
        self._on_room = on_room
        self._when_pulled: list[Callable[[], object]] = []
        self._answers: deque[_Answer] = deque()
        self._to_pull = 0
        self._ready: deque[Attachment] = deque()
        self._answer_is_next = True

    @property
    def is_empty(self) -> bool:
        """Whether no answer waits here and no turn is attached."""
        return not self._answers and not self.attachments

    @property
    def is_pulled(self) -> bool:
        """Whether no `pulled` answer waits here."""
        return self._to_pull == 0

    def when_pulled(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, when no `pulled` answer waits here any more."""
        self._when_pulled.append(callback)

    @property
    def is_crowded(self) -> bool:
        """Whether the connection should read no more requests until `on_room` is called.

        Always False for the queue of one user, which calls `on_overflow` instead.
        """
        return False

    def put(self, frame: Any, behind: Iterable[Attachment] = (), *, pulled: bool = False) -> None:
        """Queue one frame that belongs to no turn.

        It is sent after the events that the logs of the attachments in `behind` have now.
        """
        if self.closed:
            return
        payload = self.codec.encode(frame)
        marks = [(attachment, attachment.log.end) for attachment in behind]
        self._answers.append(_Answer(payload, marks, pulled))
        if pulled:
            self._to_pull += 1
        else:
            self._count(len(payload))
        self._on_wake()

    def attach(self, attachment: Attachment) -> None:
        """Add an attachment. It replaces one to the same turn. A closed outbox drops it."""
        if self.closed:
            self._forget(attachment)
            return
        self.detach(attachment.log.turn)
        self.attachments[attachment.log.turn] = attachment
        if attachment.has_more:
            self._enqueue(attachment)
            self._on_wake()

    def detach(self, turn: str) -> Attachment | None:
        """Send no more frames of `turn`. Return its attachment, or None if there was none."""
        attachment = self.attachments.pop(turn, None)
        if attachment is not None:
            self._forget(attachment)
        return attachment

    def offer(self, attachment: Attachment, size: int) -> None:
        """Queue the attachment, whose log has grown by `size` bytes.

        No client could have taken events in time that arrive at once and fill more than half of the bound. They are
        not counted, like replayed events.
        """
        if size > self._bytes_max // 2:
            self.waiting -= attachment.backlog
            attachment.backlog, attachment.live_from = 0, attachment.log.end
            size = 0
        attachment.backlog += size
        if not attachment.ready:
            self._enqueue(attachment)
            self._on_wake()
        self._count(size)

    def close(self) -> None:
        """Drop all attachments and frames, and accept no more."""
        self.closed = True
        for turn in list(self.attachments):
            self.detach(turn)
        self._answers.clear()
        self._ready.clear()

    def next_frame(self) -> bytes | None:
        """Return the next frame to send, or None. Answers and turns alternate, and the attached turns rotate."""
        if self._answers and (self._answer_is_next or not self._ready):
            self._answer_is_next = False
            return self._next_answer()
        self._answer_is_next = True
        while self._ready:
            attachment = self._ready.popleft()
            if self.attachments.get(attachment.log.turn) is not attachment:
                continue
            frame = attachment.take(self.codec)
            if attachment.has_more:
                self._ready.append(attachment)
            else:
                attachment.ready = False
                if attachment.is_done:
                    self.detach(attachment.log.turn)
            if frame is not None:
                return frame
        return self._next_answer() if self._answers else None

    def _next_answer(self) -> bytes:
        """Return the oldest answer, or a frame of a turn that has to be sent before it."""
        payload, behind, pulled = self._answers[0]
        for attachment, seq in behind:
            if attachment.cursor < seq and self.attachments.get(attachment.log.turn) is attachment:
                frame = attachment.take(self.codec)
                if frame is not None:
                    return frame
        self._answers.popleft()
        if pulled:
            self._to_pull -= 1
            if self._to_pull == 0:
                called, self._when_pulled = self._when_pulled, []
                for callback in called:
                    callback()
        else:
            self.waiting -= len(payload)
        return payload

    def _enqueue(self, attachment: Attachment) -> None:
        attachment.ready = True
        self._ready.append(attachment)

    def _forget(self, attachment: Attachment) -> None:
        self.waiting -= attachment.backlog
        attachment.backlog = 0
        attachment.on_done(attachment)

    def _count(self, size: int) -> None:
        self.waiting += size
        if self.waiting > self._bytes_max and not self.closed:
            self._overflow()

    def _overflow(self) -> None:
        self.close()
        self._on_overflow()
