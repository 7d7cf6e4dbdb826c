"""The live turn: one turn's state, log and attachments in this process.

A `LiveTurn` outlives its connections. The registry (`registry.py`) finds it by user and turn id.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from gateway.light_event import LightEvent
from gateway.protocol.errors import ApiError
from gateway.protocol.events import EndStatus, TurnDelta, TurnDetached, TurnEvent, TurnReset
from gateway.protocol.ids import now_ms
from gateway.protocol.part_data import PartData
from gateway.streams.log import TurnLog, event_size
from gateway.streams.outbox import Attachment, Outbox
from gateway.turns.abort import AbortSignal
from gateway.turns.state import ENDED, State, step, transition
from providers.base import ResponseHandle
from store.records import ConversationRecord, NewTurn, TurnRecord


class BatchObserver(Protocol):
    """A measurement that is called for each batch of events (`sampling.py`)."""

    def record_batch(self, live_turn: LiveTurn) -> None: ...


class LiveTurn:
    """One turn in this process: its log, its state, its abort signal and its attachments.

    `is_owned`: this process runs the turn; otherwise this is a mirror of the owner's log.
    `stored_seq`: the last seq that the store's log has.

    Other modules change it through its methods only. The table in `state.py` checks every change of `state`.
    """

    def __init__(self, user: str, turn: str, digest: bytes, epoch: int, conversation: str | None = None) -> None:
        self.user = user
        self.turn = turn
        self.digest = digest
        self.log = TurnLog(turn, epoch)
        self.state: State = "accepting"
        self.signal = AbortSignal()
        self.accepted: asyncio.Future[TurnRecord] = asyncio.get_running_loop().create_future()
        self.stopped = LightEvent()
        self.ended = LightEvent()
        self.end_status: EndStatus | None = None
        self.is_owned = True
        self._on_presence_changed: Callable[[LiveTurn], object] = lambda _: None
        self.stored_seq = 0
        self.waiters = 0
        self.acceptance: NewTurn | None = None
        self.conversation_record: ConversationRecord | None = None
        self.conversation = conversation
        self.model = self.message = ""
        self.output_bytes = 0
        self.batch_observer: BatchObserver | None = None
        self.response_handle: ResponseHandle | None = None
        """The handle for resuming the provider's response. The log stores it with event `response_handle_seq`."""
        self.response_handle_seq = 0
        self._attachments: set[Attachment] = set()
        self.sole_attachment: Attachment | None = None
        """The attachment, if exactly one connection of this process is attached; otherwise None."""
        self._disconnect_grace_s: float | None = None
        self._on_abandoned: Callable[[LiveTurn], object] = lambda _: None
        self.disconnect_timer: asyncio.TimerHandle | None = None
        self._began_s, self._began_ms = asyncio.get_running_loop().time(), now_ms()

    @property
    def age_ms(self) -> int:
        """The time in ms for which this instance has known the turn, or less.

        Of two measurements, the longer one is used: the loop's clock stands still while the machine is suspended, and
        the other clock may be set back.
        """
        return max(int(1000 * (asyncio.get_running_loop().time() - self._began_s)), now_ms() - self._began_ms)

    @property
    def epoch(self) -> int:
        """The epoch in which new events are written."""
        return self.log.epoch

    @property
    def is_live(self) -> bool:
        """Whether the turn has no ending yet."""
        return self.state not in ENDED

    @property
    def is_abortable(self) -> bool:
        """Whether this process runs the turn and an abort can still change how it ends."""
        return self.is_owned and self.is_live and not self.stopped.is_set()

    @property
    def is_attached(self) -> bool:
        """Whether a connection of this process is attached."""
        return bool(self._attachments)

    @property
    def attachment_count(self) -> int:
        """The number of attached connections of this process."""
        return len(self._attachments)

    def reader_at_end(self) -> Attachment | None:
        """Return an attachment that was sent every event in the log, or None."""
        end = self.log.end
        return next((one for one in self._attachments if one.cursor == end and one.reset_frame is None), None)

    def publish(self, events: list[TurnEvent]) -> None:
        """Append `events`, which must continue the log, and offer them to every attachment.

        Raise `IllegalTransition` if the state doesn't allow an event.
        """
        log = self.log
        state = self.state
        size = data_size = 0
        for event in events:
            # Most events are deltas, which don't change the state of a streaming turn: skip the lookup.
            if state != "streaming" or type(event) is not TurnDelta:
                state = step(state, event)
                if type(event) is PartData:
                    data_size += len(event.data)
            size += event_size(event)
        self.state = state
        self.output_bytes += size + data_size
        end_before = log.end
        log.events.extend(events)
        log.is_ended = state in ENDED
        for attachment in tuple(self._attachments):
            if attachment.cursor <= end_before:
                attachment.outbox.offer(attachment, size)
            else:
                self._offer_ahead(attachment)

    def _offer_ahead(self, attachment: Attachment) -> None:
        """Offer new events to an attachment whose position was ahead of the log.

        If the turn ended at or before that position, send `turn.reset` and start again from the beginning.
        """
        if self.log.is_ended and attachment.cursor >= self.log.end:
            self._restart(attachment, "the turn ended before your position")
        if attachment.has_frame:
            attachment.counted_from = self.log.end  # the events before this were never counted as waiting
            attachment.outbox.offer(attachment, 0)

    def attach(self, outbox: Outbox, epoch: int | None, after: int) -> int:
        """Attach `outbox` at the position `{epoch, after}` and return the `from` of the answer, a seq.

        It is `after`. If the position can't be continued, it is 0, and a `turn.reset` is sent first.
        """
        reset_frame = None
        if not self.log.can_resume(epoch, after) or (not self.is_live and after > self.log.end):
            reset_frame = self._reset_frame(outbox, "your position can't be continued")
            after = 0
        attachment = Attachment(self.log, outbox, after, reset_frame, self._on_detached)
        is_first = not self._attachments
        self._attachments.add(attachment)
        self.sole_attachment = attachment if is_first else None
        if is_first and not self.is_owned:
            self._on_presence_changed(self)
        self._cancel_disconnect_timer()
        if attachment.is_done:
            self._discard(attachment)
            outbox.detach(self.turn)
        else:
            outbox.attach(attachment)
        return after

    def reload(self, log: TurnLog, state: State) -> None:
        """Replace the log and the state with the store's, which may have fewer events than this process has sent.

        An attachment whose position isn't in the new log gets `turn.reset` and starts again from the beginning.
        """
        before, self.log, self.state = self.log, log, state
        for attachment in tuple(self._attachments):
            attachment.log = log
            attachment.discount()
            if not log.can_resume(before.epoch_of(attachment.cursor), attachment.cursor):
                self._restart(attachment, "another instance has taken the turn over")
            if attachment.has_frame:
                attachment.outbox.offer(attachment, 0)

    def _restart(self, attachment: Attachment, reason: str) -> None:
        attachment.reset_frame = self._reset_frame(attachment.outbox, reason)
        attachment.cursor, attachment.counted_from = 0, self.log.end

    def _reset_frame(self, outbox: Outbox, reason: str) -> bytes:
        return outbox.codec.encode(TurnReset(self.turn, 0, self.epoch, reason))

    def _discard(self, attachment: Attachment) -> None:
        self._attachments.discard(attachment)
        self.sole_attachment = next(iter(self._attachments)) if len(self._attachments) == 1 else None

    def _on_detached(self, attachment: Attachment) -> None:
        self._discard(attachment)
        if not self._attachments and self.is_live:
            self.start_disconnect_timer()
            if not self.is_owned:
                self._on_presence_changed(self)

    def set_presence_callback(self, callback: Callable[[LiveTurn], object]) -> None:
        """Call `callback` when the first connection attaches to this mirror, and when the last one detaches."""
        self._on_presence_changed = callback

    def set_disconnect_callback(self, grace_s: float, on_abandoned: Callable[[LiveTurn], object]) -> None:
        """Call `on_abandoned` when no connection of this process has been attached for `grace_s`."""
        self._disconnect_grace_s, self._on_abandoned = grace_s, on_abandoned
        if self.log.end and not self._attachments:
            self.start_disconnect_timer()

    def start_disconnect_timer(self, after_s: float = math.inf) -> None:
        """Start the timer of a turn without attachments here, or restart it (law 8).

        After `after_s`, or the grace period if that is shorter, it calls `on_abandoned`, which asks whether another
        instance has an attachment. Do nothing unless the turn is owned and has `on_disconnect: cancel`.
        """
        if self._disconnect_grace_s is None or not self.is_owned:
            return
        self._cancel_disconnect_timer()
        self.disconnect_timer = asyncio.get_running_loop().call_later(
            min(after_s, self._disconnect_grace_s), self._on_abandoned, self
        )

    def _cancel_disconnect_timer(self) -> None:
        if self.disconnect_timer is not None:
            self.disconnect_timer.cancel()
            self.disconnect_timer = None

    def reject(self, result: TurnRecord | ApiError) -> None:
        """End a start that began no turn here. `result` is the turn that already has its id, or the error.

        `accepted` resolves to that turn, or raises the error.
        """
        self.state = transition(self.state, "rejected")
        if isinstance(result, ApiError):
            self.accepted.set_exception(result)
            self.accepted.exception()  # mark it as retrieved, even if its connection has gone
        else:
            self.accepted.set_result(result)
        self.end()

    def set_accepted(self, record: TurnRecord) -> None:
        """Set the values of the turn that the store has accepted: its ids, its model and its epoch."""
        self.model, self.message = record.model, record.message
        self.conversation = self.conversation or record.conversation
        self.log.begin_epoch(record.epoch)

    def set_acceptance(self, acceptance: NewTurn | None, conversation: ConversationRecord | None) -> None:
        """Set the records from which the turn is restored if the store loses it. None frees their memory."""
        self.acceptance, self.conversation_record = acceptance, conversation

    def set_model(self, model: str) -> None:
        """Set the id of the model that answers now."""
        self.model = model

    def set_response_handle(self, handle: ResponseHandle | None, seq: int) -> None:
        """Set the handle for resuming the provider's response, and the event that the log stores it with."""
        self.response_handle, self.response_handle_seq = handle, seq

    def set_batch_observer(self, observer: BatchObserver | None) -> None:
        """Call `observer` for each batch from now on, or no observer if it is None."""
        self.batch_observer = observer

    def mark_stored(self, seq: int) -> None:
        """Record that the store's log ends at `seq`."""
        end = len(self.log.events)
        self.stored_seq = seq if seq < end else end

    def begin_epoch(self, epoch: int) -> None:
        """Begin `epoch`: all later events are written in it.

        A client whose position is ahead of the log holds events that were never written to the log. It gets
        `turn.reset` and starts again from the beginning.
        """
        if epoch == self.epoch:
            return
        self.log.begin_epoch(epoch)
        for attachment in tuple(self._attachments):
            if attachment.cursor > self.log.end:
                self._restart(attachment, "another instance has taken the turn over")
                attachment.outbox.offer(attachment, 0)

    def become_owner(self, epoch: int) -> None:
        """Make this process the owner of the turn, in the new `epoch`, from the end of the store's log on."""
        self.is_owned = True
        self.signal = AbortSignal()
        self.stopped.clear()
        self.end_status = None
        self.mark_stored(self.log.end)
        self.begin_epoch(epoch)
        if not self._attachments:
            self.start_disconnect_timer()

    def become_mirror(self) -> None:
        """Stop owning the turn: its events come only from the store's log from now on."""
        self.is_owned = False

    def stop(self, status: EndStatus | None) -> None:
        """Record that the turn no longer runs. `status`: how it ended, or None if it continues on another instance."""
        self.end_status = status
        self.stopped.set()

    async def wait_ended(self) -> None:
        """Wait until the turn has ended or is closed. A mirror is kept while a caller waits."""
        self.waiters += 1
        try:
            await self.ended.wait()
        finally:
            self.waiters -= 1

    def close(self) -> None:
        """Detach all clients from a turn that can't get any more events, and wake the waiting callers.

        Each client gets a `turn.detached` with the reason "gone".
        """
        for attachment in tuple(self._attachments):
            attachment.outbox.detach(self.turn)
            attachment.outbox.put(TurnDetached(self.turn, "gone"))
        self.end()

    def end(self) -> None:
        """Wake the waiting callers and cancel the timers, because no event follows."""
        self.signal.cancel_timers()
        self._cancel_disconnect_timer()
        self.stopped.set()
        self.ended.set()


def mirror_of(record: TurnRecord) -> LiveTurn:
    """Return an empty mirror of the turn in `record`."""
    live_turn = LiveTurn(record.user, record.turn, record.digest, record.epoch)
    live_turn.set_accepted(record)
    live_turn.become_mirror()
    return live_turn


def was_deleted(record: TurnRecord) -> bool:
    """Return whether the turn has ended and its conversation was deleted."""
    return record.ending is not None and record.conversation is None and record.stateless_message is None


def gone(record: TurnRecord) -> ApiError:
    """Return the error "gone" for an ended turn whose events are no longer kept.

    It names the stored message, unless the conversation was deleted.
    """
    if was_deleted(record):
        return ApiError("gone", "The turn was deleted with its conversation. Start a new one.")
    return ApiError("gone", stored_message=record.message)
