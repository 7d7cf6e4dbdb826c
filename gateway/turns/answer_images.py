"""Find the data of an image in an answer: in a running turn on any instance, or in an answer without a conversation."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.offload import offload
from gateway.protocol.events import TurnEvent
from gateway.protocol.views import MessageBody, decode_body
from gateway.turns.live_turn import LiveTurn, mirror_of
from gateway.turns.message_fold import fold_image
from gateway.turns.mirror import read_log
from gateway.turns.registry import TurnRegistry
from providers.base import ImagePart
from store.api import HistoryStore, TurnStore
from store.errors import NotFound
from store.records import TurnRecord

WAIT_S = 2.0
"""How long to wait for data that another instance hasn't written to the log yet."""
POLL_S = 0.1


class AnswerStore(HistoryStore, TurnStore, Protocol):
    """A store of messages and of turns."""


async def stateless_body(store: TurnStore, user: str, turn: str, message: str) -> MessageBody:
    """Return the answer `message` of an ended turn without a conversation. Raises `NotFound` and `StoreError`."""
    record = await store.turn(user, turn)
    if record.message != message or record.stateless_message is None:
        raise NotFound("message")
    return await offload(len(record.stateless_message), decode_body, record.stateless_message)


async def find_image(
    store: AnswerStore, registry: TurnRegistry, user: str, message: str, number: int, turn: str | None
) -> ImagePart:
    """Return the image that is part `number` of an answer that isn't stored as a message, or isn't stored yet.

    `turn` is the turn of the answer, if it is known. Wait up to `WAIT_S` for the image to be complete. Raises
    `NotFound` and `StoreError`.
    """
    give_up_at = asyncio.get_running_loop().time() + WAIT_S
    while True:
        live_turn = _known_turn(registry, user, message, turn)
        record = None
        if live_turn is None or not live_turn.is_owned:
            record = await _find_record(store, user, message, live_turn.turn if live_turn else turn)
            turn = record.turn
        if record is not None and record.ending is not None:
            return await _ended_image(store, record, message, number)
        events = live_turn.log.events if live_turn is not None and live_turn.is_owned else await _read(store, record)
        image = await offload(len(events) * 256, fold_image, list(events), number)
        if image is not None:
            return image
        if (live_turn is not None and not live_turn.is_live) or asyncio.get_running_loop().time() > give_up_at:
            raise NotFound("part")
        await asyncio.sleep(POLL_S)


def _known_turn(registry: TurnRegistry, user: str, message: str, turn: str | None) -> LiveTurn | None:
    if turn is not None:
        known = registry.get(user, turn)
        return known if known is not None and known.message == message else None
    return next((known for known in registry.live(user) if known.message == message), None)


async def _find_record(store: AnswerStore, user: str, message: str, turn: str | None) -> TurnRecord:
    """Return the turn that writes `message`. Without `turn`, it is one of the user's running turns, which are few."""
    for one in await store.active(user, None) if turn is None else [turn]:
        record = await store.turn(user, one)
        if record.message == message:
            return record
    raise NotFound("message")


async def _ended_image(store: AnswerStore, record: TurnRecord, message: str, number: int) -> ImagePart:
    if record.stateless_message is not None:
        body = await stateless_body(store, record.user, record.turn, message)
    else:
        stored = (await store.message(record.user, message)).body
        body = await offload(len(stored), decode_body, stored)
    part = body.parts[number] if number < len(body.parts) else None
    if not isinstance(part, ImagePart):
        raise NotFound("part")
    return part


async def _read(store: TurnStore, record: TurnRecord | None) -> list[TurnEvent]:
    assert record is not None, "a turn of another instance has its record"
    turn_log, _ = await read_log(store, mirror_of(record))
    return turn_log.events
