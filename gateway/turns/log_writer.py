"""Write the new events of all turns of this process to the store, in one round trip for each flush (law 4).

No turn waits for a write. While the store can't be reached, the log writer reports this and keeps trying. Once the
store can be reached again, writing continues at the end of the store's log. Until then, the unwritten events stay in
the turns' own logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec
import structlog
from msgspec import structs

from gateway.tasks import spawn
from gateway.turns.abort import Abort
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import next_append
from store.api import Store, erased_key
from store.errors import NotFound, PartFailed, StoreError
from store.records import Appended

log = structlog.stdlib.get_logger("turnwire.store")

RETRY_FIRST_S = 0.05
RETRY_MAX_S = 1.0
DEGRADED_AFTER_S = 3.5
"""Clients aren't told of a shorter outage of the store."""

_decode_abort = msgspec.json.Decoder(Abort, float_hook=float).decode


class _Lane:
    """Turns with unwritten events that are flushed together. `flush_now`: without waiting for the flush interval."""

    def __init__(self) -> None:
        self.dirty: dict[LiveTurn, None] = {}
        self.has_unwritten = asyncio.Event()
        self.flush_now = asyncio.Event()
        self.lock = asyncio.Lock()

    def add(self, live_turns: Iterable[LiveTurn]) -> None:
        """Have the next flush write the new events of these turns."""
        self.dirty.update(dict.fromkeys(live_turns))
        self.has_unwritten.set()

    def take(self) -> list[LiveTurn]:
        """Return the turns that have unwritten events, and forget them.

        Turns that have ended aren't returned: `Endings` has stored their last events.
        """
        self.has_unwritten.clear()
        self.flush_now.clear()
        taken = [live_turn for live_turn in self.dirty if _is_unwritten(live_turn)]
        self.dirty.clear()
        return taken


class LogWriter:
    """The log writer of this process; there is one.

    Turns whose part of the store fails are flushed apart from the others until that part works again. If one master of a
    cluster doesn't answer, the turns at the other masters therefore don't wait for it.

    `on_state` is called with False when an outage of the store lasts, and with True once the log has caught up.
    """

    def __init__(
        self, store: Store, flush_s: float, on_state: Callable[[bool], None], tasks: asyncio.TaskGroup
    ) -> None:
        self._reachable = True
        self.last_failure_at = float("-inf")
        self._store = store
        self._flush_s = flush_s
        self._on_state = on_state
        self._tasks = tasks
        self.is_degraded = False
        self._outage_since: float | None = None
        self._recovery_seqs: dict[LiveTurn, int] = {}
        """The seq to which the log of each turn must be stored before an outage is over."""
        self._lane, self._failing_lane = _Lane(), _Lane()
        self._failing: set[LiveTurn] = set()
        self._restoring: set[LiveTurn] = set()

    def mark_unwritten(self, live_turn: LiveTurn, *, urgent: bool = False) -> None:
        """Have the next flush write the turn's new events. `urgent`: flush now instead of at the next interval."""
        lane = self._failing_lane if live_turn in self._failing else self._lane
        if live_turn not in lane.dirty:
            lane.dirty[live_turn] = None
            lane.has_unwritten.set()
        if urgent:
            lane.flush_now.set()

    async def run(self) -> None:
        """Flush at the set interval until cancelled. The time that a flush takes is part of the interval."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run(self._failing_lane))
            await self._run(self._lane)

    async def _run(self, lane: _Lane) -> None:
        loop = asyncio.get_running_loop()
        delay_s = RETRY_FIRST_S
        took_s = 0.0
        while True:
            await lane.has_unwritten.wait()
            try:
                async with asyncio.timeout(max(self._flush_s - took_s, self._flush_s / 4)):
                    await lane.flush_now.wait()
            except TimeoutError:
                pass
            began = loop.time()
            try:
                await self._flush(lane)
                delay_s = RETRY_FIRST_S
                took_s = loop.time() - began
            except StoreError as error:
                log.warning("log can't be written, retrying", retry_s=delay_s, error=str(error))
                if isinstance(error, PartFailed) and lane is self._lane:
                    continue  # the others needn't wait for those that failed
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)

    async def flush(self) -> None:
        """Write the unwritten events now. Raise `StoreError` if that fails; the events are kept for the next flush."""
        await self._flush(self._failing_lane)
        await self._flush(self._lane)

    async def _flush(self, lane: _Lane) -> None:
        """Write the unwritten events of a lane; see `flush`. Raise `PartFailed` if only those of some turns fail."""
        async with lane.lock:
            live_turns = lane.take()
            if lane is self._failing_lane:
                self._failing.intersection_update(live_turns)
            if not live_turns:
                return
            began = asyncio.get_running_loop().time()
            try:
                appends = [next_append(live_turn) for live_turn in live_turns]
                replies = await self._store.append(appends)
            except StoreError:
                self._keep(lane, live_turns, began)
                raise
            self._failing.difference_update(live_turns)
            failed: list[LiveTurn] = []
            for live_turn, append, reply in zip(live_turns, appends, replies, strict=True):
                if reply.outcome == "unavailable":
                    failed.append(live_turn)
                    continue
                # Skip a turn that was lost, or taken over again, during the call.
                if live_turn.is_owned and live_turn.log.epoch == append.epoch:
                    self._apply_reply(live_turn, reply)
            if failed:
                self._failing.update(failed)
                self._keep(self._failing_lane, failed, began)
                raise PartFailed
            if not self._failing:
                self._outage_since = None
                self.report_reachable(reachable=True)

    def _keep(self, lane: _Lane, live_turns: list[LiveTurn], began: float) -> None:
        """Have the next flush of `lane` write the events that a flush, begun at `began`, couldn't write."""
        lane.add(live_turns)
        self._recovery_seqs.update((live_turn, live_turn.log.end) for live_turn in live_turns)
        self.report_reachable(reachable=False, since=began)

    def _apply_reply(self, live_turn: LiveTurn, reply: Appended) -> None:
        if reply.cancel is not None:
            apply_cancel(live_turn, reply.cancel)
        if reply.outcome == "fenced":
            live_turn.signal.abort(Abort("lost"))
        elif reply.outcome == "missing":
            self.schedule_restore(live_turn)
        else:
            live_turn.mark_stored(reply.end)
            if live_turn.stored_seq < len(live_turn.log.events):
                self.mark_unwritten(live_turn)

    def schedule_restore(self, live_turn: LiveTurn) -> None:
        """Start a task that restores a turn that the store has lost."""
        if live_turn not in self._restoring and live_turn.acceptance is not None:
            self._restoring.add(live_turn)
            spawn(self._tasks, self._restore(live_turn))

    async def _restore(self, live_turn: LiveTurn) -> None:
        try:
            await self.restore(live_turn)
        except StoreError as error:
            log.warning("turn can't be restored, retrying at the next flush", turn=live_turn.turn, error=str(error))
        finally:
            self._restoring.discard(live_turn)
            self.mark_unwritten(live_turn)

    async def restore(self, live_turn: LiveTurn) -> None:
        """Accept again, with the same ids, a turn that the store has lost. Raises `StoreError`.

        If the store has lost the conversation too, create it again. The next flush writes the log again.
        Do nothing if `acceptance` is None.
        """
        new = live_turn.acceptance
        if new is None:
            return
        (erased_ms,) = await self._store.get_ephemeral([erased_key(live_turn.user)])
        # Ages are compared, because the clocks of the instances may be apart.
        if erased_ms is not None and live_turn.age_ms >= await self._store.clock_ms() - int(erased_ms):
            live_turn.signal.abort(Abort("lost"))
            return
        log.warning("restoring a turn that the store has lost", turn=live_turn.turn)
        new = structs.replace(new, epoch=live_turn.epoch, parent=None, on_busy="parallel", limits=None)
        try:
            await self._store.accept(new)
        except NotFound:
            conversation = live_turn.conversation_record
            if conversation is not None:
                conversation = structs.replace(conversation, head=None, messages=0)
            await self._store.accept(structs.replace(new, conversation=None, new_conversation=conversation))
        live_turn.mark_stored(0)
        if not live_turn.is_attached:
            live_turn.start_disconnect_timer()  # gives the other instances time to report their attachments again

    def is_reachable(self) -> bool:
        """Return whether the last call that was reported reached the store."""
        return self._reachable

    def report_reachable(self, *, reachable: bool, since: float | None = None) -> None:
        """Record whether a call reached the store.

        `reachable`: whether it did. `since`: the loop time in seconds when the call began.

        An outage is reported once it has lasted `DEGRADED_AFTER_S`. Its end is reported once the events that
        couldn't be written are written. Reaching a store that can't write, such as one with a full disk, isn't enough.
        """
        now = asyncio.get_running_loop().time()
        self._reachable = reachable
        if reachable:
            self._recovery_seqs = {
                live_turn: end
                for live_turn, end in self._recovery_seqs.items()
                if _is_unwritten(live_turn) and live_turn.stored_seq < end
            }
            if not self._recovery_seqs:
                self._outage_since = None
        else:
            self.last_failure_at = now
            if self._outage_since is None:
                self._outage_since = now if since is None else since
        is_lasting = not reachable and self._outage_since is not None and now - self._outage_since >= DEGRADED_AFTER_S
        degraded = is_lasting or (self.is_degraded and (not reachable or bool(self._recovery_seqs)))
        if degraded != self.is_degraded:
            self.is_degraded = degraded
            self._on_state(not degraded)


def _is_unwritten(live_turn: LiveTurn) -> bool:
    return live_turn.is_owned and live_turn.stored_seq < len(live_turn.log.events) and live_turn.is_live


def apply_cancel(live_turn: LiveTurn, abort: bytes | None) -> None:
    """Abort the turn if it is running and has a stored cancel request. `abort`: the request as JSON, or None."""
    if abort is not None and live_turn.is_abortable:
        live_turn.signal.abort(_decode_abort(abort))
