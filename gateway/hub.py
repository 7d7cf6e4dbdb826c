"""Live fan-out: the turns that this process knows, who follows each, and who watches which conversation.

A `TurnStream` outlives its connections. Ended ones are kept for resuming, bounded in time and in size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.abort import AbortSignal
from gateway.events import EndStatus, TurnEvent, TurnReset
from gateway.outbox import Attachment, Outbox
from gateway.turn import ENDED, State, step
from gateway.turn_log import TurnLog, event_size
from store.base import ConversationRecord, NewTurn, TurnRecord

ENDED_BYTES_MAX = 64 * 1024 * 1024
EVENT_MEMORY_BYTES = 160
TURN_MEMORY_BYTES = 4096


class TurnStream:
    """One turn as this process knows it: its log, its state, its signal, and the attachments that follow it.

    `owned`: this process runs it; else it mirrors what the owner logs. `stored`: up to where the store has the log.
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
        self.stored = 0
        self.waited_for = 0
        self.accepted_as: NewTurn | None = None
        self.conversation_record: ConversationRecord | None = None
        self.conversation: str | None = None
        self.model = self.message = ""
        self.bytes_out = 0
        self._attachments: set[Attachment] = set()
        self._disconnect_grace_s: float | None = None
        self._on_abandoned: Callable[[TurnStream], object] = lambda _: None
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

    def publish(self, events: list[TurnEvent]) -> None:
        """Append `events`, which continue the log, and offer them to every attachment."""
        log = self.log
        state = self.state
        size = 0
        for event in events:
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
        self._attachments.add(attachment)
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
            self.watch_for_abandonment()

    def watch(self, grace_s: float, on_abandoned: Callable[[TurnStream], object]) -> None:
        """Call `on_abandoned` when nobody here was attached for `grace_s`."""
        self._disconnect_grace_s, self._on_abandoned = grace_s, on_abandoned
        if self.log.end and not self._attachments:
            self.watch_for_abandonment()

    def watch_for_abandonment(self) -> None:
        """Nobody here is attached: with `on_disconnect: cancel`, ask after the grace whether anybody is (law 8)."""
        if self._disconnect_grace_s is None or not self.owned:
            return
        if self._disconnect_timer is not None:
            self._disconnect_timer.cancel()
        self._disconnect_timer = asyncio.get_running_loop().call_later(
            self._disconnect_grace_s,
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

    def own_again(self, epoch: int) -> None:
        """This process runs it from now on, in a new epoch, from where the store's log ends."""
        self.owned = True
        self.signal = AbortSignal()
        self.stopped.clear()
        self.outcome = None
        self.stored = self.log.end
        self.begin_epoch(epoch)
        if not self._attachments:
            self.watch_for_abandonment()

    async def wait_ended(self) -> None:
        """Until its ending is here; a mirror is kept for that."""
        self.waited_for += 1
        try:
            await self.ended.wait()
        finally:
            self.waited_for -= 1

    def end(self) -> None:
        """Nothing follows: wake who waits, drop the timers."""
        self.signal.release()
        if self._disconnect_timer is not None:
            self._disconnect_timer.cancel()
        self.stopped.set()
        self.ended.set()


class Hub:
    """Finds turns by user and id, live ones by conversation, and watchers of conversations."""

    def __init__(self, ended_ttl_s: float) -> None:
        self._ended_ttl_s = ended_ttl_s
        self._streams: dict[tuple[str, str], TurnStream] = {}
        self._live: dict[tuple[str, str], TurnStream] = {}
        self._ended: dict[tuple[str, str], float] = {}
        self._ended_bytes = 0
        self._watchers: dict[tuple[str, str], set[Outbox]] = {}
        self._live_in: dict[str, list[TurnStream]] = {}

    def get(self, user: str, turn: str) -> TurnStream | None:
        """The turn, live or still remembered."""
        return self._streams.get((user, turn))

    def add(self, stream: TurnStream, conversation: str | None) -> None:
        """Know a new turn, in its conversation if that has an id yet."""
        key = (stream.user, stream.turn)
        self._streams[key] = self._live[key] = stream
        if conversation is not None:
            self.place(stream, conversation)

    def place(self, stream: TurnStream, conversation: str) -> None:
        """Say which conversation a live turn belongs to."""
        if stream.conversation is None:
            stream.conversation = conversation
            self._live_in.setdefault(conversation, []).append(stream)

    def discard(self, stream: TurnStream) -> None:
        """Forget a turn that was not accepted."""
        self._streams.pop((stream.user, stream.turn), None)
        self._forget_live(stream)

    def _forget_live(self, stream: TurnStream) -> None:
        self._live.pop((stream.user, stream.turn), None)
        siblings = self._live_in.get(stream.conversation or "")
        if siblings is not None and stream in siblings:
            siblings.remove(stream)
            if not siblings:
                del self._live_in[stream.conversation or ""]

    def live(self, user: str | None = None) -> list[TurnStream]:
        """Turns without an ending, of `user` or of all, oldest first."""
        return [stream for stream in self._live.values() if user is None or stream.user == user]

    def live_in(self, user: str, conversation: str) -> list[TurnStream]:
        """Turns of a conversation without an ending, oldest first."""
        return [stream for stream in self._live_in.get(conversation, ()) if stream.user == user]

    def remember_ended(self, stream: TurnStream) -> None:
        """Keep an ended turn for those who resume it, and let the oldest go past the bounds."""
        now = asyncio.get_running_loop().time()
        key = (stream.user, stream.turn)
        self._forget_live(stream)
        self._ended[key] = now + self._ended_ttl_s
        self._ended_bytes += _memory(stream)
        while self._ended:
            oldest = next(iter(self._ended))
            if self._ended[oldest] > now and self._ended_bytes <= ENDED_BYTES_MAX:
                return
            del self._ended[oldest]
            self._ended_bytes -= _memory(self._streams.pop(oldest))

    def forget(self, user: str, conversation: str) -> None:
        """The conversation was deleted: its ended turns can't be resumed any more."""
        for key in list(self._ended):
            stream = self._streams[key]
            if stream.user == user and stream.conversation == conversation:
                del self._ended[key]
                self._ended_bytes -= _memory(self._streams.pop(key))

    def watch(self, user: str, conversation: str, outbox: Outbox) -> None:
        """Attach `outbox` to every turn that `user` has in the conversation from now on."""
        self._watchers.setdefault((user, conversation), set()).add(outbox)

    def unwatch(self, user: str, conversation: str, outbox: Outbox) -> None:
        """The end of `watch`."""
        watchers = self._watchers.get((user, conversation))
        if watchers is not None:
            watchers.discard(outbox)
            if not watchers:
                del self._watchers[user, conversation]

    def watched(self, user: str, conversation: str) -> bool:
        """Whether somebody watches it."""
        return (user, conversation) in self._watchers

    def attach_watchers(self, stream: TurnStream) -> None:
        """A turn of a watched conversation begins."""
        for outbox in self._watchers.get((stream.user, stream.conversation or ""), ()):
            if stream.turn not in outbox.attachments:
                stream.attach(outbox, None, 0)

    def tell_watchers(self, user: str, conversation: str, frame: object) -> None:
        """Send a frame that belongs to a conversation."""
        for outbox in tuple(self._watchers.get((user, conversation), ())):
            outbox.put(frame)


def _memory(stream: TurnStream) -> int:
    """About how many bytes an ended turn keeps."""
    return TURN_MEMORY_BYTES + stream.log.end * EVENT_MEMORY_BYTES + stream.bytes_out
