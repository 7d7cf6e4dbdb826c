"""Store a turn's ending before any client gets it (law 3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from msgspec import UNSET, structs

from gateway.limits.fair_queue import FairQueue
from gateway.offload import LARGE_BYTES, offload
from gateway.protocol.codec import JSON
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Ending, TurnCancelled, TurnCompleted, TurnFailed
from gateway.protocol.ids import now_ms
from gateway.protocol.views import MessageBody, cost_from_nano, counters_of, encode_body
from gateway.turns.event_writer import EventWriter
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import unstored
from gateway.turns.log_writer import LogWriter
from gateway.turns.outcome import Outcome
from store.api import TurnStore
from store.errors import Fenced, LogGap, NotFound, StoreError
from store.records import EndedTurn, MessageRecord

log = structlog.stdlib.get_logger("turnwire.turn")

RETRY_FIRST_S = 0.05
RETRY_MAX_S = 2.0


class Endings:
    """Storage for the endings of this instance's turns."""

    def __init__(self, store: TurnStore, writer: LogWriter) -> None:
        self._store = store
        self._writer = writer
        self._large_answers = FairQueue(1, waiters_max=0)

    async def store(self, live_turn: LiveTurn, event_writer: EventWriter, outcome: Outcome) -> bool:
        """Store the answer, its usage and the ending in one step, then publish the ending.

        Retry until the store can be reached. This delays only the turn's own task and, if the answer is large, the
        other large answers. Return False if another instance owns the turn; then nothing was stored or published.
        """
        async with self._large_answer_slot(live_turn):
            message, body, cost_nano = await offload(event_writer.size, _answer, event_writer, outcome)
            ending = _ending(live_turn, outcome, message)
            answer = MessageRecord(
                id=live_turn.message,
                parent=event_writer.parent,
                role="assistant",
                created_ms=now_ms(),
                body=body,
                turn=live_turn.turn,
            )
            counters = counters_of(message.usage, cost_nano)

            def record() -> EndedTurn:
                return EndedTurn(
                    user=live_turn.user,
                    turn=live_turn.turn,
                    epoch=live_turn.epoch,
                    status=outcome.status,
                    events=unstored(live_turn, ending),
                    ending=JSON.encode(ending),
                    answer=answer,
                    usage=counters,
                    now_ms=now_ms(),
                )

            if not await self._store_ending(live_turn, record):
                return False
        live_turn.set_acceptance(None, None)  # an input may be 20 MiB, and the registry keeps an ended turn for a while
        live_turn.publish([ending])
        event_writer.metrics.on_end(outcome, live_turn.model, message.usage, cost_nano, ending.timing)
        live_turn.mark_stored(live_turn.log.end)
        return True

    @asynccontextmanager
    async def _large_answer_slot(self, live_turn: LiveTurn) -> AsyncIterator[None]:
        """Wait until no other large answer is being stored, because each takes several times its size in memory.

        The queue alternates between users. Answers of up to `LARGE_BYTES` don't wait.
        """
        if live_turn.output_bytes <= LARGE_BYTES:
            yield
            return
        await self._large_answers.acquire(live_turn.user)
        try:
            yield
        finally:
            self._large_answers.release()

    async def _store_ending(self, live_turn: LiveTurn, record: Callable[[], EndedTurn]) -> bool:
        """Store the ending, and retry until the store has it. Return False if another instance owns the turn.

        `record` builds the ending for each attempt. Also return True, without storing, if the store doesn't know the
        turn and restoring it isn't possible or didn't help.
        """
        delay_s = RETRY_FIRST_S
        is_restored = False
        while True:
            try:
                await self._store.end(record())
                return True
            except Fenced:
                return False
            except LogGap as gap:
                live_turn.mark_stored(gap.end)
            except NotFound:
                if is_restored or live_turn.acceptance is None:
                    log.warning("ending not stored: the store has lost the turn", turn=live_turn.turn)
                    return True
                is_restored = await self._restore(live_turn)
            except StoreError as error:
                is_restored = False  # the store may lose the turn again until the next attempt
                log.warning("ending can't be stored, retrying", retry_s=delay_s, turn=live_turn.turn, error=str(error))
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MAX_S)

    async def _restore(self, live_turn: LiveTurn) -> bool:
        """Restore a turn that the store has lost. Return whether the store has it again.

        The turn's log and its ending are still to be written then.
        """
        try:
            await self._writer.restore(live_turn)
        except StoreError as error:
            log.warning("turn can't be restored, retrying", turn=live_turn.turn, error=str(error))
            await asyncio.sleep(RETRY_FIRST_S)
            return False
        return True


def _answer(event_writer: EventWriter, outcome: Outcome) -> tuple[MessageBody, bytes, int | None]:
    """Return the answer without its parts, the whole answer encoded for the store, and its cost.

    The cost is in billionths of a dollar, or None if it isn't known.
    """
    parts = event_writer.final_parts()
    usage, cost_nano = event_writer.totals(parts)
    status = outcome.status
    message = MessageBody(
        parts,
        model=event_writer.live_turn.model,
        usage=usage,
        cost=cost_from_nano(cost_nano),
        ended=status,
        finish_reason=outcome.finish_reason if status == "completed" else None,
        stop_sequence=outcome.stop_sequence if status == "completed" else None,
        by=outcome.by if status == "cancelled" else None,
        reason=outcome.reason if status == "cancelled" else None,
        error=(outcome.error or ApiError("internal")).body if status == "failed" else None,
        timing=event_writer.timing(),
        provider=None if event_writer.route is None else event_writer.route.provider,
    )
    return structs.replace(message, parts=[]), encode_body(message), cost_nano


def _ending(live_turn: LiveTurn, outcome: Outcome, message: MessageBody) -> Ending:
    seq = live_turn.log.end + 1
    usage, cost, timing = message.usage, message.cost, message.timing
    assert timing is not None, "every answer has a timing"
    if outcome.status == "completed":
        return TurnCompleted(
            turn=live_turn.turn,
            seq=seq,
            finish_reason=outcome.finish_reason,
            stop_sequence=UNSET if outcome.stop_sequence is None else outcome.stop_sequence,
            usage=usage,
            cost=cost,
            timing=timing,
            message=live_turn.message,
        )
    if outcome.status == "cancelled":
        return TurnCancelled(
            turn=live_turn.turn,
            seq=seq,
            by=outcome.by,
            reason=UNSET if outcome.reason is None else outcome.reason,
            usage=usage,
            cost=cost,
            timing=timing,
            message=live_turn.message,
        )
    assert message.error is not None, "the answer of a failed turn has its error"
    return TurnFailed(
        turn=live_turn.turn,
        seq=seq,
        error=message.error,
        usage=usage,
        cost=cost,
        timing=timing,
        message=live_turn.message,
    )
