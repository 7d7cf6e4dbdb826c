"""The view of a turn, as `turn.get` returns it: of one that runs, or as the store has it."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import msgspec
from msgspec import UNSET

from gateway.offload import offload
from gateway.protocol import results as r
from gateway.protocol.events import Ending, Message, TurnCompleted, TurnFailed
from gateway.protocol.ids import rfc3339
from gateway.protocol.views import message_view
from gateway.turns.live_turn import LiveTurn
from gateway.turns.message_fold import fold_shown, model_of
from gateway.turns.state import shown_status
from providers.base import Part
from store.api import HistoryStore
from store.errors import NotFound
from store.records import MessageRecord, TurnRecord

_decode_ending = msgspec.json.Decoder(Ending, float_hook=float).decode


async def live_view(live_turn: LiveTurn, record: TurnRecord) -> r.TurnView:
    """Return the view of a turn that runs, with the parts of its answer so far."""
    log, epoch, seq, status = live_turn.log, live_turn.epoch, live_turn.log.end, shown_status(live_turn.state)

    def answer() -> tuple[list[Part], str]:
        events = log.events[:seq]  # more events may follow meanwhile
        return fold_shown(events), model_of(events, live_turn.model)

    parts, model = await offload(live_turn.output_bytes, answer)
    message = Message(
        id=live_turn.message,
        role="assistant",
        parts=parts,
        parent=record.parent,
        created_at=rfc3339(record.accepted_ms),
        turn=live_turn.turn,
        model=model,
    )
    return r.TurnView(live_turn.turn, live_turn.conversation, status, epoch, seq, model, message)


async def stored_view(store: HistoryStore, record: TurnRecord) -> r.TurnView:
    """Return the view of an ended turn, or of one whose events this process doesn't have. Raises `StoreError`."""
    message = await _stored_message(store, record)
    ending = None if record.ending is None else _decode_ending(record.ending)
    return r.TurnView(
        turn=record.turn,
        conversation=record.conversation,
        status=cast(r.TurnState, record.status),
        epoch=record.epoch,
        seq=record.seq,
        model=(message and message.model) or record.model,
        message=message or UNSET,
        finish_reason=ending.finish_reason if isinstance(ending, TurnCompleted) else UNSET,
        usage=(ending and ending.usage) or UNSET,
        cost=(ending and ending.cost) or UNSET,
        timing=UNSET if ending is None else ending.timing,
        error=ending.error if isinstance(ending, TurnFailed) else UNSET,
    )


async def _stored_message(store: HistoryStore, record: TurnRecord) -> Message | None:
    if record.stateless_message is None:
        with suppress(NotFound):
            message = await store.message(record.user, record.message)
            return await offload(len(message.body), message_view, message)
        return None
    message = MessageRecord(
        id=record.message,
        parent=None,
        role="assistant",
        created_ms=record.accepted_ms,
        body=record.stateless_message,
        turn=record.turn,
    )
    return await offload(len(message.body), message_view, message, stateless_turn=record.turn)
