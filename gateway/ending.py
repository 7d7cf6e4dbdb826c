"""A turn's ending on its way into the store, before anyone hears of it (law 3)."""

from __future__ import annotations

import asyncio
import logging

from msgspec import UNSET

from gateway.codec import JSON
from gateway.delivery import Delivery
from gateway.errors import ApiError
from gateway.events import Ending, TurnCancelled, TurnCompleted, TurnFailed
from gateway.hub import Hub, TurnStream
from gateway.ids import now_ms
from gateway.outcome import Outcome
from gateway.shapes import MessageBody, counters_of, encode_body
from providers.base import Usage
from store.base import EndedTurn, MessageRecord, NotFound, Store, StoreError

log = logging.getLogger("turnwire.turn")

RETRY_FIRST_S = 0.05
RETRY_MAX_S = 2.0


async def store_ending(store: Store, hub: Hub, stream: TurnStream, delivery: Delivery, outcome: Outcome) -> None:
    """Store the answer, its usage and the ending in one step, then publish the ending.

    A store that can't be reached is tried again until it can; the turn's task is what waits.
    """
    parts = delivery.parts()
    usage = delivery.usage(parts)
    ending = _ending(stream, delivery, outcome, usage)
    record = EndedTurn(
        user=stream.user,
        turn=stream.turn,
        epoch=stream.epoch,
        status=outcome.status,
        seq=ending.seq,
        ending=JSON.encode(ending),
        answer=MessageRecord(
            id=stream.message,
            parent=delivery.parent,
            role="assistant",
            created_ms=now_ms(),
            body=encode_body(MessageBody(parts, stream.model, usage, None, outcome.status)),
            turn=stream.turn,
        ),
        usage=counters_of(usage),
        now_ms=now_ms(),
    )
    delay_s = RETRY_FIRST_S
    while True:
        try:
            await store.end(record)
            break
        except NotFound:
            log.info("turn ended after its record was deleted turn=%s", stream.turn)
            break
        except StoreError as error:
            log.warning("can't store an ending, trying again in %g s turn=%s: %s", delay_s, stream.turn, error)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_MAX_S)
    if stream.log.events:
        stream.publish([ending])


def _ending(stream: TurnStream, delivery: Delivery, outcome: Outcome, usage: Usage | None) -> Ending:
    seq = stream.log.end + 1
    timing = delivery.timing()
    if outcome.status == "completed":
        return TurnCompleted(
            turn=stream.turn,
            seq=seq,
            finish_reason=outcome.finish_reason,
            usage=usage,
            cost=None,
            timing=timing,
            message=stream.message,
        )
    if outcome.status == "cancelled":
        return TurnCancelled(
            turn=stream.turn,
            seq=seq,
            by=outcome.by,
            reason=UNSET if outcome.reason is None else outcome.reason,
            usage=usage,
            cost=None,
            timing=timing,
            message=stream.message,
        )
    error = outcome.error or ApiError("internal")
    return TurnFailed(
        turn=stream.turn,
        seq=seq,
        error=error.body,
        usage=usage,
        cost=None,
        timing=timing,
        message=stream.message,
    )
