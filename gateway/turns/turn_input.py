"""Read what a turn needs from the store once it runs: its request, if it has waited, and its context.

The turn is accepted, so it must not fail because the store can't be reached: reading is retried until the store answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import structlog

from gateway.offload import offload
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import TurnStart, decode_turn_start
from gateway.turns.acceptance import restored_acceptance
from gateway.turns.context import History, build_chat_request
from gateway.turns.continued_answer import ContinuedAnswer, load_answer
from gateway.turns.instance import Instance
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_writer import LogWriter
from providers.base import ChatRequest
from store.errors import NotFound, StoreError
from store.records import ConversationRecord, MessageRecord, TurnRecord

log = structlog.stdlib.get_logger("turnwire.turn")

T = TypeVar("T")

CONTEXT_RETRY_S = 0.2


class InputReader:
    """The reader of the input of turns. Its methods raise `StoreError` if the store has lost what is read."""

    def __init__(self, instance: Instance, writer: LogWriter) -> None:
        self._store = instance.store
        self._settings = instance.settings
        self._lease_ms = instance.lease_ms
        self._writer = writer

    async def load_request(self, live_turn: LiveTurn) -> TurnStart:
        """Return the request of a turn that has waited, and set its acceptance."""
        return await _retry(live_turn, partial(self._load, live_turn))

    async def chat_request(
        self,
        live_turn: LiveTurn,
        turn: TurnRecord,
        conversation: ConversationRecord | None,
        request: TurnStart,
        upstream_model: str,
        first: MessageRecord | None = None,
    ) -> ChatRequest:
        """Return the request to the provider, with its history. `first`: see `History`. Raises `ApiError`."""
        return await _retry(
            live_turn, partial(self._build, live_turn, turn, conversation, request, upstream_model, first)
        )

    async def answer(self, live_turn: LiveTurn, request: TurnStart) -> ContinuedAnswer:
        """Return the answer that the request continues. Raises `ApiError`."""
        return await _retry(live_turn, partial(load_answer, self._store, live_turn.user, request))

    async def _load(self, live_turn: LiveTurn) -> TurnStart:
        """Read from the store the request of a turn that has waited, and set its acceptance. Raises `StoreError`."""
        record = await self._store.turn(live_turn.user, live_turn.turn, with_request=True)
        input_message = None if record.input is None else await self._store.message(live_turn.user, record.input)
        stored = record.request or b""
        request = await offload(len(stored), decode_turn_start, stored)
        acceptance = restored_acceptance(record, input_message, self._lease_ms)
        live_turn.set_acceptance(acceptance, live_turn.conversation_record)
        return request

    async def _build(
        self,
        live_turn: LiveTurn,
        turn: TurnRecord,
        conversation: ConversationRecord | None,
        request: TurnStart,
        upstream_model: str,
        first: MessageRecord | None,
    ) -> ChatRequest:
        """Return the request with its history. Raises `ApiError` and `StoreError`.

        A store that was rolled back may have lost the turn itself. Then the turn is restored first.
        """

        async def read() -> ChatRequest:
            settings = self._settings
            history = History(self._store, live_turn.user, settings.context_bytes, settings.request_items, first=first)
            return await build_chat_request(
                history, turn, conversation, request, upstream_model, settings.system_prompt
            )

        try:
            return await read()
        except ApiError as missing:
            if missing.code != "not_found" or live_turn.acceptance is None or await self._is_stored(live_turn):
                raise
        await self._writer.restore(live_turn)
        return await read()

    async def _is_stored(self, live_turn: LiveTurn) -> bool:
        try:
            await self._store.turn(live_turn.user, live_turn.turn)
        except NotFound:
            return False
        return True


async def _retry(live_turn: LiveTurn, read: Callable[[], Awaitable[T]]) -> T:
    """Call `read` until the store answers, and return its result.

    Raise `StoreError` if the store has lost what is read.
    """
    while True:
        try:
            return await read()
        except NotFound as error:
            raise StoreError(f"The input of the turn is lost: {error}.") from error
        except StoreError as error:
            log.warning("turn input can't be read, retrying", turn=live_turn.turn, error=str(error))
            await asyncio.sleep(CONTEXT_RETRY_S)
