"""One turn as this process knows it: its state, its log, and the attachments that follow it.

A `LiveTurn` outlives its connections; `registry.py` finds it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from gateway.protocol.errors import ApiError
from gateway.protocol.events import EndStatus, TurnDelta, TurnDetached, TurnEvent, TurnReset
from gateway.streams.log import TurnLog, event_size
from gateway.streams.outbox import Attachment, Outbox
from gateway.turns.abort import AbortSignal
from gateway.turns.state import ENDED, State, step
from providers.base import ResponseHandle
from store.records import ConversationRecord, NewTurn, TurnRecord


class Sampling(Protocol):
    """A measurement that waits for batches (`sampling.py`)."""

    def batch(self, live_turn: LiveTurn) -> None: ...


class LiveTurn:
    """One turn as this process knows it: its log, its state, its signal, and the attachments that follow it.

    `owned`: this process runs it; else it mirrors what the owner logs. `stored`: up to which seq the store has the log.
    """

    def __init__(self, user: str, turn: str, digest: bytes, epoch: int) -> None:
        self.user = user
        self.turn = turn
        self.digest = digest
        self.log = TurnLog(turn, epoch)
        self.state: State = "accepting"
        self.signal = AbortSignal()
        self.accepted: asyncio.Future[TurnRecord] = asyncio.get_running_loop().create_future()
        self.stopped = asyncio.Event()
        self.ended = asyncio.Event()
        self.outcome: EndStatus | None = None
        self.owned = True
        self._on_followed: Callable[[LiveTurn], object] = lambda _: None
        self.stored = 0
        self.waited_for = 0
        self.accepted_as: NewTurn | None = None
        self.conversation_record: ConversationRecord | None = None
        self.conversation: str | None = None
        self.model = self.message = ""
        self.bytes_out = 0
        self.sample: Sampling | None = None
        self.cursor: ResponseHandle | None = None
        """By what the provider's answer can be heard again; the log keeps it with event `cursor_seq`."""
        self.cursor_seq = 0
        self._attachments: set[Attachment] = set()
        self._disconnect_grace_s: float | None = None
        self._on_abandoned: Callable[[LiveTurn], object] = lambda _: None
        self._disconnect_timer: asyncio.TimerHandle | None = None

    @property
    def epoch(self) -> int:
        """The epoch that is being written."""
        return self.log.epoch

    @property
    def live(self) -> bool:
        """Whether its ending is still to come."""
        return self.state not in ENDED

    @property
    def running(self) -> bool:
        """Whether an abort can still change how it ends."""
        return self.owned and self.live and not self.stopped.is_set()

    @property
    def attached(self) -> bool:
        """Whether a connection of this process follows it."""
        return bool(self._attachments)

    @property
    def readers(self) -> int:
        """How many connections of this process follow it."""
        return len(self._attachments)

    def reader_at_end(self) -> Attachment | None:
        """One that has everything that there is, if there is one."""
        end = self.log.end
        return next((one for one in self._attachments if one.cursor == end and one.opening is None), None)

    def publish(self, events: list[TurnEvent]) -> None:
        """Append `events`, which continue the log, and offer them to every attachment."""
        log = self.log
        state = self.state
        size = 0
        for event in events:
            # Almost all are deltas, which leave a streaming turn streaming.
            if state != "streaming" or type(event) is not TurnDelta:
                state = step(state, event)
            size += event_size(event)
        self.state = state
        self.bytes_out += size
        end_before = log.end
        log.events.extend(events)
        log.ended = state in ENDED
        for attachment in tuple(self._attachments):
            if attachment.cursor <= end_before:
                attachment.outbox.offer(attachment, size)
            else:
                self._offer_ahead(attachment)

    def _offer_ahead(self, attachment: Attachment) -> None:
        """A client that is ahead of the log gets what is new to it; one that the ending left ahead starts again."""
        if self.log.ended and attachment.cursor >= self.log.end:
            attachment.opening = attachment.outbox.codec.encode(self._reset("the turn ended before your position"))
            attachment.cursor = 0
        if attachment.has_more:
            attachment.live_from = self.log.end  # what is there already was never counted
            attachment.outbox.offer(attachment, 0)

    def attach(self, outbox: Outbox, epoch: int | None, after: int) -> int:
        """Follow from the position on; the `from` of the answer: `after`, or 0 behind a `turn.reset`."""
        opening = None
        if not self.log.holds(epoch, after) or (not self.live and after > self.log.end):
            opening = outbox.codec.encode(self._reset("your position can't be continued"))
            after = 0
        attachment = Attachment(self.log, outbox, after, opening, self._on_detached)
        first_elsewhere = not self.owned and not self._attachments
        self._attachments.add(attachment)
        if first_elsewhere:
            self._on_followed(self)
        if self._disconnect_timer is not None:
            self._disconnect_timer.cancel()
            self._disconnect_timer = None
        if attachment.is_done:
            self._attachments.discard(attachment)
            outbox.detach(self.turn)
        else:
            outbox.attach(attachment)
        return after

    def reload(self, log: TurnLog, state: State) -> None:
        """Go on with another log of the same turn: the store's, where this process has said more than that."""
        before, self.log, self.state = self.log, log, state
        for attachment in tuple(self._attachments):
            attachment.outbox.waiting -= attachment.backlog
            attachment.backlog, attachment.live_from = 0, log.end
            if not log.holds(before.epoch_of(attachment.cursor), attachment.cursor):
                attachment.opening = attachment.outbox.codec.encode(self._reset("another instance goes on"))
                attachment.cursor = 0
            attachment.log = log
            if attachment.has_more:
                attachment.outbox.offer(attachment, 0)

    def _reset(self, reason: str) -> TurnReset:
        return TurnReset(self.turn, 0, self.epoch, reason)

    def _on_detached(self, attachment: Attachment) -> None:
        self._attachments.discard(attachment)
        if not self._attachments and self.live:
            self.start_disconnect_timer()
            if not self.owned:
                self._on_followed(self)

    def notify_followed(self, callback: Callable[[LiveTurn], object]) -> None:
        """Call `callback` when the first connection is attached to this mirror, and when the last one has left."""
        self._on_followed = callback

    def watch(self, grace_s: float, on_abandoned: Callable[[LiveTurn], object]) -> None:
        """Call `on_abandoned` when nobody here was attached for `grace_s`."""
        self._disconnect_grace_s, self._on_abandoned = grace_s, on_abandoned
        if self.log.end and not self._attachments:
            self.start_disconnect_timer()

    def start_disconnect_timer(self, after_s: float = math.inf) -> None:
        """Nobody here is attached: with `on_disconnect: cancel`, ask whether anybody is, after the grace at most (law 8)."""
        if self._disconnect_grace_s is None or not self.owned:
            return
        if self._disconnect_timer is not None:
            self._disconnect_timer.cancel()
        self._disconnect_timer = asyncio.get_running_loop().call_later(
            min(after_s, self._disconnect_grace_s),
            self._on_abandoned,
            self,
        )

    def begin_epoch(self, epoch: int) -> None:
        """What follows is written in `epoch`. Who was ahead of the log held events that never came into it."""
        if epoch == self.epoch:
            return
        self.log.begin_epoch(epoch)
        for attachment in tuple(self._attachments):
            if attachment.cursor > self.log.end:
                attachment.opening = attachment.outbox.codec.encode(self._reset("another instance goes on"))
                attachment.cursor, attachment.live_from = 0, self.log.end
                attachment.outbox.offer(attachment, 0)

    def become_owner(self, epoch: int) -> None:
        """This process runs it from now on, in a new epoch, from where the store's log ends."""
        self.owned = True
        self.signal = AbortSignal()
        self.stopped.clear()
        self.outcome = None
        self.stored = self.log.end
        self.begin_epoch(epoch)
        if not self._attachments:
            self.start_disconnect_timer()

    async def wait_ended(self) -> None:
        """Until its ending is here; a mirror is kept for that."""
        self.waited_for += 1
        try:
            await self.ended.wait()
        finally:
            self.waited_for -= 1

    def close(self) -> None:
        """Nothing more of it can come: say so to those that are attached, and wake who waits."""
        for attachment in tuple(self._attachments):
            attachment.outbox.detach(self.turn)
            attachment.outbox.put(TurnDetached(self.turn, "gone"))
        self.end()

    def end(self) -> None:
        """Nothing follows: wake who waits, drop the timers."""
        self.signal.release()
        if self._disconnect_timer is not None:
            self._disconnect_timer.cancel()
        self.stopped.set()
        self.ended.set()


def mirror_of(record: TurnRecord) -> LiveTurn:
    """An empty mirror of a turn that the store knows."""
    live_turn = LiveTurn(record.user, record.turn, record.digest, record.epoch)
    live_turn.owned = False
    live_turn.model = record.model
    live_turn.message = record.message
    return live_turn


def was_deleted(record: TurnRecord) -> bool:
    """Whether an ended turn's conversation is no more."""
    return record.ending is not None and record.conversation is None and record.stateless_message is None


def gone(record: TurnRecord) -> ApiError:
    """The events of this ended turn are no longer kept; its message is, unless its conversation was deleted."""
    if was_deleted(record):
        return ApiError("gone", "The conversation of this turn was deleted. Nothing of the turn is kept.")
    return ApiError("gone", stored_message=record.message)
