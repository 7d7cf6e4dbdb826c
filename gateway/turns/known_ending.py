"""The ending of a turn that the store has lost, from what this instance still knows of the turn.

After a failover, the new Redis master may lack the last seconds: there, a turn that ended is still running.
"""

from __future__ import annotations

import structlog

from gateway.offload import offload
from gateway.protocol.codec import JSON
from gateway.protocol.events import Cost, EndStatus, TurnCancelled, TurnCompleted, TurnFailed
from gateway.protocol.ids import now_ms
from gateway.protocol.views import MessageBody, counters_of, encode_body, nano_from_cost
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import encode_events
from gateway.turns.message_fold import fold_final
from store.api import TurnStore
from store.errors import Fenced
from store.records import Append, EndedTurn, MessageRecord, TurnRecord

log = structlog.stdlib.get_logger("turnwire.turn")

STATUSES: dict[type, EndStatus] = {TurnCompleted: "completed", TurnCancelled: "cancelled", TurnFailed: "failed"}


def has_ending(live_turn: LiveTurn) -> bool:
    """Return whether this instance knows how the turn has ended."""
    events = live_turn.log.events
    return not live_turn.is_live and bool(events) and type(events[-1]) in STATUSES


async def restore_ending(store: TurnStore, live_turn: LiveTurn) -> bool:
    """Store an ending that this instance knows and that the store has lost: clients may have it (laws 2 and 3).

    Return False if the turn went on elsewhere, in a newer epoch or beyond that ending. Raises `NotFound` and `StoreError`.
    """
    record = await store.turn(live_turn.user, live_turn.turn)
    if record.seq > live_turn.log.end:
        return False
    epoch = live_turn.log.epoch_of(live_turn.log.end)
    ended = await offload(live_turn.output_bytes, known_ending, live_turn, record, epoch)
    try:
        await store.end(ended)
    except Fenced:
        return False
    log.warning("an ending that the store had lost is stored again", turn=live_turn.turn)
    return True


def known_ending(live_turn: LiveTurn, record: TurnRecord, epoch: int) -> EndedTurn:
    """Return the ending to store in `epoch`, with the events that the store's log lacks, if it lacks any.

    `record`: the turn as the store has it. The work is linear in the size of the answer.
    """
    events = live_turn.log.events
    ending = events[-1]
    assert isinstance(ending, TurnCompleted | TurnCancelled | TurnFailed), "`has_ending` has checked this"
    end = live_turn.log.end
    first = record.seq + 1
    body = MessageBody(
        fold_final(events),
        model=live_turn.model,
        usage=ending.usage,
        cost=ending.cost if isinstance(ending.cost, Cost) else None,
        ended=STATUSES[type(ending)],
        finish_reason=ending.finish_reason if isinstance(ending, TurnCompleted) else None,
        stop_sequence=_stop_sequence(ending),
        by=ending.by if isinstance(ending, TurnCancelled) else None,
        reason=ending.reason if isinstance(ending, TurnCancelled) and isinstance(ending.reason, str) else None,
        error=ending.error if isinstance(ending, TurnFailed) else None,
        timing=ending.timing,
    )
    return EndedTurn(
        user=live_turn.user,
        turn=live_turn.turn,
        epoch=epoch,
        status=STATUSES[type(ending)],
        events=Append(live_turn.user, live_turn.turn, epoch, first, end, encode_events(events[first - 1 :])),
        ending=JSON.encode(ending),
        answer=MessageRecord(
            id=record.message,
            parent=record.parent,
            role="assistant",
            created_ms=now_ms(),
            body=encode_body(body),
            turn=live_turn.turn,
        ),
        usage=counters_of(body.usage, nano_from_cost(body.cost)),
        now_ms=now_ms(),
    )


def _stop_sequence(ending: TurnCompleted | TurnCancelled | TurnFailed) -> str | None:
    found = ending.stop_sequence if isinstance(ending, TurnCompleted) else None
    return found if isinstance(found, str) else None
