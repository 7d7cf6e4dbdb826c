"""What waits for one connection: answers in their order, and a place in each attached turn's log. Pure.

Nothing of a turn is copied here. An attachment is a cursor, so replay and live stream are one thing (law 7), a
client that is behind gets merged frames, and what it misses costs no memory. `next_frame` is asked when the
socket can take more. Live events that wait are counted; replay is pulled and isn't (law 11).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from gateway.protocol.codec import Codec
from gateway.streams.log import TurnLog, event_size


class Timed(Protocol):
    """A measurement that waits for a frame to be sent (`sampling.py`)."""

    def sent(self, outbox: Outbox) -> None: ...


class Attachment:
    """A connection's place in a turn's stream: everything after `cursor` is still to be sent."""

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
        """Whether there is something to send now. A position ahead of the log waits for it."""
        return self.opening is not None or self.cursor < self.log.end

    @property
    def is_done(self) -> bool:
        """Whether the ending was taken."""
        return self.log.ended and self.opening is None and self.cursor >= self.log.end

    def take(self, codec: Codec) -> bytes | None:
        """The next frame, if there is one."""
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
    """A frame of no turn. It waits until each attachment in `behind` has sent up to its `seq`."""

    payload: bytes
    behind: list[tuple[Attachment, int]]
    pulled: bool


class Outbox:
    """The queue of one connection. Past `bytes_max` it calls `on_overflow`, once, and takes nothing more.

    An answer that the client asked for and that may be large is put as `pulled`: it isn't counted, because
    whoever puts it waits for `when_pulled` first. `on_room` is called when `is_crowded` may have become false.
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
        """Is told when a frame of this queue was handed to the socket. Set on `front`, the queue that is sent from."""
        self.front: Outbox = self
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
        """Whether nothing waits here, and nothing is followed."""
        return not self._answers and not self.attachments

    @property
    def is_pulled(self) -> bool:
        """Whether nothing `pulled` waits here."""
        return self._to_pull == 0

    def when_pulled(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, when nothing `pulled` waits here any more."""
        self._when_pulled.append(callback)

    @property
    def is_crowded(self) -> bool:
        """Whether nothing more should be asked until `on_room` is called. One user's queue has `on_overflow` instead."""
        return False

    def put(self, frame: Any, behind: Iterable[Attachment] = (), *, pulled: bool = False) -> None:
        """Queue one frame that belongs to no attachment; it is sent after what `behind` have in their logs now."""
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
        """Follow a turn; an attachment to the same turn that was there is replaced. Nothing follows when closed."""
        if self.closed:
            self._forget(attachment)
            return
        self.detach(attachment.log.turn)
        self.attachments[attachment.log.turn] = attachment
        if attachment.has_more:
            self._enqueue(attachment)
            self._on_wake()

    def detach(self, turn: str) -> Attachment | None:
        """Send nothing more of `turn`."""
        attachment = self.attachments.pop(turn, None)
        if attachment is not None:
            self._forget(attachment)
        return attachment

    def offer(self, attachment: Attachment, size: int) -> None:
        """The attachment's log has grown by `size` bytes.

        What comes in one go and fills the half of the bound nobody could have taken in time: it is pulled, as replay is.
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
        """Drop everything."""
        self.closed = True
        for turn in list(self.attachments):
            self.detach(turn)
        self._answers.clear()
        self._ready.clear()

    def next_frame(self) -> bytes | None:
        """The next frame to send: answers and turns by turns, and the attached turns in rotation."""
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
        """The oldest answer, or first a frame that it has to stand behind."""
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
