"""The stored data of responses besides their turns: the fields that each repeats, its context, and which are deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog
from msgspec import UNSET, Struct

from gateway.dialects.responses_ids import conversation_of, is_response_id
from gateway.dialects.responses_object import Object
from gateway.http.session import HttpSession
from gateway.offload import ITEM_BYTES, LONG_FIELDS, offload
from gateway.protocol import requests as p
from gateway.protocol.codec import JSON
from gateway.protocol.errors import ApiError, not_found
from gateway.protocol.events import Message
from gateway.protocol.requests import InputMessage
from gateway.protocol.results import TurnView
from gateway.protocol.views import message_view
from gateway.requests.services import Services
from store.api import user_hash
from store.errors import NotFound, StoreError
from store.records import ConversationRecord, MessageRecord

log = structlog.stdlib.get_logger("turnwire.http")

KEPT_MS: Final = 25 * 3600 * 1000
"""How long the context of a response is kept: as long as a turn's id can't be used again."""
KEPT_BYTES_MAX: Final = 512 * 1024
PAGES_MAX: Final = 5
"""How many pages of a conversation's newest messages are searched for a response whose turn is no longer kept."""
DELETED: Final = "deleted_responses"
"""The key in a conversation's metadata with the ids of its deleted responses."""
DELETED_MAX: Final = 200


class Kept(Struct, omit_defaults=True):
    """The data that is kept of a response, besides its turn.

    `settings` are the fields of its request that it repeats. If it is in no conversation, `messages` and the system
    prompt `system` are its whole context without the answer.
    """

    settings: Object = {}
    messages: list[InputMessage] | None = None
    system: str | None = None
    is_deleted: bool = False


_encode_kept: Final = msgspec.json.Encoder().encode
_decode_kept: Final = msgspec.json.Decoder(Kept, float_hook=float).decode


class StoredResponses:
    """The stored responses of one user. New ones are kept as turns; older ones are only in their conversations."""

    def __init__(self, services: Services, user: str) -> None:
        self._store = services.store
        self._context_bytes = services.settings.context_bytes
        self._user = user

    def _key(self, response: str) -> str:
        return f"response:{user_hash(self._user)}:{response}"

    async def keep(self, response: str, kept: Kept) -> None:
        """Keep the context of a response that was accepted. If it is too long or the store fails, it isn't kept."""
        if not kept.settings and kept.messages is None and not kept.is_deleted:
            return
        if size_of(kept.messages or ()) > KEPT_BYTES_MAX or len(data := _encode_kept(kept)) > KEPT_BYTES_MAX:
            return
        try:
            await self._put(response, data)
        except StoreError as error:
            log.warning("response can't be kept", turn=response, error=str(error))

    async def _put(self, response: str, data: bytes) -> None:
        await self._store.put_ephemeral(self._key(response), data, KEPT_MS, self._user)

    async def kept(self, response: str) -> Kept:
        """Return what is kept of a response. Raise `ApiError` "not_found" if it was deleted."""
        found = await self.find_kept(response)
        if found.is_deleted:
            raise not_found("response", response)
        return found

    async def find_kept(self, response: str) -> Kept:
        """Return what is kept of a response, which may have been deleted."""
        (data,) = await self._store.get_ephemeral([self._key(response)])
        return Kept() if data is None else await offload(len(data), _decode_kept, data)

    async def view(self, session: HttpSession, response: str) -> TurnView:
        """Return the turn of a response, also one that is only in a conversation by now. Raises `ApiError`."""
        try:
            view: TurnView = await session.handle(p.TurnGet(turn=response))
        except ApiError as error:
            if error.code != "not_found":
                raise
            message = await self.find_answer(response)
            if message is None:
                raise not_found("response", response) from None
            view = _view_of(message, conversation_of(response))
        if view.conversation is not None:
            await self.conversation(view.conversation, response)
        if view.status == "completed" and view.message is UNSET:
            raise not_found("response", response)  # its conversation was deleted
        return view

    async def conversation(self, conversation: str, response: str | None = None) -> ConversationRecord | None:
        """Return a conversation, or None. Raise `ApiError` "not_found" if `response` was deleted from it."""
        try:
            record = await self._store.conversation(self._user, conversation)
        except NotFound:
            return None
        if response is not None and response in deleted_in(record):
            raise not_found("response", response)
        return record

    async def input_of(self, view: TurnView) -> list[InputMessage]:
        """Return the message that a turn in a conversation answers."""
        parent = None if view.message is UNSET else view.message.parent
        if parent is None:
            return []
        try:
            record = await self._store.message(self._user, parent)
        except NotFound:
            return []
        return await offload(len(record.body), as_inputs, [record])

    async def delete_from(self, session: HttpSession, conversation: str, response: str) -> None:
        """Note in its conversation that a response is deleted. If all of its responses are, delete the conversation.

        A message can't be deleted alone, because those after it continue it.
        """
        record = await self.conversation(conversation)
        if record is None:
            return
        deleted = [*deleted_in(record), response]
        records, has_more = await self._store.messages(self._user, conversation, 200, None, KEPT_BYTES_MAX)
        if has_more or any(record.role == "assistant" and record.turn not in deleted for record in records):
            metadata = {**JSON.decode_any(record.metadata), DELETED: deleted[-DELETED_MAX:]}
            await session.handle(p.ConversationUpdate(conversation=conversation, metadata=metadata))
        else:
            await session.handle(p.ConversationDelete(conversation=conversation))

    async def find_answer(self, response: str) -> Message | None:
        """Return the answer of a response that is no longer kept as a turn, if its conversation has it."""
        if not is_response_id(response):
            return None
        before: str | None = None
        for _ in range(PAGES_MAX):
            try:
                records, has_more = await self._store.messages(
                    self._user, conversation_of(response), 200, before, self._context_bytes
                )
            except NotFound:
                return None
            for record in records:
                if record.turn == response and record.role == "assistant":
                    return await offload(len(record.body), message_view, record)
            if not has_more or not records:
                return None
            before = records[0].id
        return None


def deleted_in(record: ConversationRecord) -> list[str]:
    """Return the ids of the responses that were deleted from a conversation."""
    metadata: Any = JSON.decode_any(record.metadata)
    found = metadata.get(DELETED) if isinstance(metadata, dict) else None
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def as_inputs(records: Sequence[MessageRecord]) -> list[InputMessage]:
    """Return stored messages as those of a context, without empty ones."""
    messages = [message_view(record) for record in records]
    return [InputMessage(role=message.role, parts=list(message.parts)) for message in messages if message.parts]


def _view_of(message: Message, conversation: str) -> TurnView:
    return TurnView(
        turn=message.turn or "",
        conversation=conversation,
        status=message.ended or "completed",
        epoch=0,
        seq=0,
        model=message.model or "",
        message=message,
        finish_reason=message.finish_reason or UNSET,
        usage=message.usage or UNSET,
        cost=message.cost or UNSET,
        timing=message.timing or UNSET,
        error=message.error or UNSET,
    )


def size_of(messages: Sequence[InputMessage]) -> int:
    """Return about how many bytes the messages have, for `offload`."""
    parts = [part for message in messages for part in message.parts]
    size = ITEM_BYTES * (len(messages) + len(parts))
    return size + sum([len(getattr(part, name, None) or "") for part in parts for name in LONG_FIELDS])
