"""Writes the logs of all turns of this process: what is new since the last flush, in one round trip (law 4).

Nobody waits for it. While the store can't be reached it says so, keeps trying, and then writes from where the
store's log ends; what is to be written stays in the turns' own logs until then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog
from msgspec import structs

from gateway.tasks import spawn
from gateway.turns.abort import Abort
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import next_append
from store.api import Store
from store.records import Appended, NotFound, StoreError

log = structlog.stdlib.get_logger("turnwire.store")

RETRY_FIRST_S = 0.05
RETRY_MAX_S = 1.0
DEGRADED_AFTER_S = 3.5
"""A shorter absence of the store is none of the clients' business."""

_decode_abort = msgspec.json.Decoder(Abort, float_hook=float).decode


class LogWriter:
    """The one writer of this process. `on_state` hears that the store is away, and that the log has caught up again."""

    def __init__(
        self, store: Store, flush_s: float, on_state: Callable[[bool], None], tasks: asyncio.TaskGroup
    ) -> None:
        self.reachable = True
        self.failed_at = float("-inf")
        self._store = store
        self._flush_s = flush_s
        self._on_state = on_state
        self._tasks = tasks
        self.degraded = False
        self._away_since: float | None = None
        self._behind: dict[LiveTurn, int] = {}
        self._dirty: dict[LiveTurn, None] = {}
        self._work = asyncio.Event()
        self._urgent = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._restoring: set[LiveTurn] = set()

    def mark_unwritten(self, live_turn: LiveTurn, *, urgent: bool = False) -> None:
        """The stream has new events. `urgent`: don't wait for the next tick."""
        self._dirty[live_turn] = None
        self._work.set()
        if urgent:
            self._urgent.set()

    async def run(self) -> None:
        """Flush until cancelled. What a flush takes is a part of the interval."""
        loop = asyncio.get_running_loop()
        delay_s = RETRY_FIRST_S
        took_s = 0.0
        while True:
            await self._work.wait()
            try:
                async with asyncio.timeout(max(self._flush_s - took_s, self._flush_s / 4)):
                    await self._urgent.wait()
            except TimeoutError:
                pass
            began = loop.time()
            try:
                await self.flush()
                delay_s = RETRY_FIRST_S
                took_s = loop.time() - began
            except StoreError as error:
                log.warning("can't write the log, trying again", retry_s=delay_s, error=str(error))
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)

    async def flush(self) -> None:
        """Write what is unwritten now. Raises `StoreError`; nothing is lost then."""
        async with self._flushing:
            self._work.clear()
            self._urgent.clear()
            live_turns = [
                live_turn for live_turn in self._dirty if live_turn.owned and live_turn.stored < live_turn.log.end
            ]
            self._dirty.clear()
            if not live_turns:
                return
            began = asyncio.get_running_loop().time()
            try:
                appends = [next_append(live_turn) for live_turn in live_turns]
                replies = await self._store.append(appends)
            except StoreError:
                self._dirty.update(dict.fromkeys(live_turns))
                self._work.set()
                self._behind.update((live_turn, live_turn.log.end) for live_turn in live_turns)
                self.report_reachable(reachable=False, since=began)
                raise
            for live_turn, append, reply in zip(live_turns, appends, replies, strict=True):
                if live_turn.owned and live_turn.epoch == append.epoch:  # else it was lost, or taken again, meanwhile
                    self._settle(live_turn, reply)
            self._away_since = None
            self.report_reachable(reachable=True)

    def _settle(self, live_turn: LiveTurn, reply: Appended) -> None:
        apply_cancel(live_turn, reply.cancel)
        if reply.outcome == "fenced":
            live_turn.signal.abort(Abort("lost"))
        elif reply.outcome == "missing":
            self.restore_soon(live_turn)
        else:
            live_turn.stored = min(reply.end, live_turn.log.end)
            if live_turn.stored < live_turn.log.end:
                self.mark_unwritten(live_turn)

    def restore_soon(self, live_turn: LiveTurn) -> None:
        """Restore a turn that the store has lost, in a task of its own."""
        if live_turn not in self._restoring and live_turn.accepted_as is not None:
            self._restoring.add(live_turn)
            spawn(self._tasks, self._restore(live_turn))

    async def _restore(self, live_turn: LiveTurn) -> None:
        try:
            await self.restore(live_turn)
        except StoreError as error:
            log.warning("can't restore a turn now, the next flush will try", turn=live_turn.turn, error=str(error))
        finally:
            self._restoring.discard(live_turn)
            self.mark_unwritten(live_turn)

    async def restore(self, live_turn: LiveTurn) -> None:
        """Accept a turn again that the store has lost, with the same ids; its log is written again by the next flush.

        Its conversation is made again too if the store has lost that as well. Raises `StoreError`.
        """
        new = live_turn.accepted_as
        if new is None:
            return
        log.warning("the store has lost a turn, restoring it", turn=live_turn.turn)
        new = structs.replace(new, epoch=live_turn.epoch, parent=None, on_busy="parallel", limits=None)
        try:
            await self._store.accept(new)
        except NotFound:
            lost = live_turn.conversation_record
            if lost is not None:
                lost = structs.replace(lost, head=None, messages=0)
            await self._store.accept(structs.replace(new, conversation=None, new_conversation=lost))
        live_turn.stored = 0
        if not live_turn.attached:
            live_turn.start_disconnect_timer()  # instances with attachments have to report them again

    def report_reachable(self, *, reachable: bool, since: float | None = None) -> None:
        """Whether the last call, which began at `since`, reached the store.

        That it is away is said once that has lasted; that all is well, when what could not be written is. Whoever
        reaches a store in which the log can't be written, as one whose disk is full, changes nothing of that.
        """
        now = asyncio.get_running_loop().time()
        self.reachable = reachable
        if reachable:
            self._behind = {one: end for one, end in self._behind.items() if one.owned and one.stored < end}
            if not self._behind:
                self._away_since = None
        else:
            self.failed_at = now
            if self._away_since is None:
                self._away_since = now if since is None else since
        lasting = not reachable and self._away_since is not None and now - self._away_since >= DEGRADED_AFTER_S
        degraded = lasting or (self.degraded and (not reachable or bool(self._behind)))
        if degraded != self.degraded:
            self.degraded = degraded
            self._on_state(not degraded)


def apply_cancel(live_turn: LiveTurn, abort: bytes | None) -> None:
    """Stop the turn if a wish to stop it was stored."""
    if abort is not None and live_turn.running:
        live_turn.signal.abort(_decode_abort(abort))
