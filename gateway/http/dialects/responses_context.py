"""The context of a response: the conversation or the messages that it continues, and what is kept of it for later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog
from msgspec import UNSET, Struct

from gateway.dialects.responses import Create, Previous, joined, turn_start
from gateway.dialects.responses_ids import conversation_of, is_response_id
from gateway.dialects.responses_object import Object
from gateway.http.session import HttpSession
from gateway.offload import ITEM_BYTES, LONG_FIELDS, offload
from gateway.protocol import requests as p
from gateway.protocol.codec import JSON
from gateway.protocol.errors import ApiError, not_found
from gateway.protocol.events import Message
from gateway.protocol.requests import InputMessage, TurnStart
from gateway.protocol.results import TurnView
from gateway.protocol.views import decode_body, message_view
from gateway.requests.services import Services
from gateway.turns.error_mapping import as_api_error
from store.api import user_hash
from store.records import ConversationRecord, MessageRecord, NotFound, StoreError

log = structlog.stdlib.get_logger("turnwire.http")

KEPT_MS: Final = 25 * 3600 * 1000
"""How long the context of a response is kept: as long as a turn's id can't be used again."""
KEPT_BYTES_MAX: Final = 512 * 1024
PAGES_MAX: Final = 5
"""How many pages of a conversation's newest messages are searched for a response whose turn is no longer kept."""
DELETED: Final = "deleted_responses"
"""The key in a conversation's metadata with the ids of its deleted responses."""
DELETED_MAX: Final = 200
NO_ANSWER: Final = "The previous response is still in progress. Wait for its end, or cancel it."


class Kept(Struct, omit_defaults=True):
    """The data that is kept of a response, besides its turn.

    `settings`: what it repeats of its request. `messages`, with the system prompt `system`: its whole context without the
    answer, if it is in no conversation.
    """

    settings: Object = {}
    messages: list[InputMessage] | None = None
    system: str | None = None
    is_deleted: bool = False


_encode_kept: Final = msgspec.json.Encoder().encode
_decode_kept: Final = msgspec.json.Decoder(Kept, float_hook=float).decode


class ResponseContexts:
    """The contexts of one user's responses."""

    def __init__(self, services: Services, user: str) -> None:
        self._store = services.store
        self._settings = services.settings
        self._user = user

    def _key(self, response: str) -> str:
        return f"response:{user_hash(self._user)}:{response}"

    async def start_of(
        self, session: HttpSession, create: Create, previous: Previous | None = None
    ) -> tuple[TurnStart, Kept]:
        """Return the start of a response, and what to keep of it once it is accepted. Raises `ApiError`.

        `previous`: what it continues, if the caller knows it.
        """
        try:
            previous = previous or await self._previous(session, create)
        except StoreError as error:
            raise as_api_error(error) from None
        size = _size(previous.messages or ()) + _size(create.converted.messages)
        start = await offload(size, turn_start, create, previous)
        if start.messages is None:
            return start, Kept(create.settings)
        return start, Kept(create.settings, start.messages, joined(previous.system, *create.converted.system) or None)

    async def keep(self, response: str, kept: Kept) -> None:
        """Keep the context of a response that was accepted. If it is too long or the store fails, it isn't kept."""
        if not kept.settings and kept.messages is None and not kept.is_deleted:
            return
        if _size(kept.messages or ()) > KEPT_BYTES_MAX or len(data := _encode_kept(kept)) > KEPT_BYTES_MAX:
            return
        try:
            await self._put(response, data)
        except StoreError as error:
            log.warning("response can't be kept", turn=response, error=str(error))

    async def _put(self, response: str, data: bytes) -> None:
        await self._store.put_ephemeral(self._key(response), data, KEPT_MS, self._user)

    async def kept(self, response: str) -> Kept:
        """Return what is kept of a response. Raise `ApiError` "not_found" if it was deleted."""
        (data,) = await self._store.get_ephemeral([self._key(response)])
        found = Kept() if data is None else await offload(len(data), _decode_kept, data)
        if found.is_deleted:
            raise not_found("response", response)
        return found

    async def view(self, session: HttpSession, response: str) -> TurnView:
        """Return the turn of a response, also one that is only in a conversation by now. Raises `ApiError`."""
        try:
            view: TurnView = await session.handle(p.TurnGet(turn=response))
        except ApiError as error:
            if error.code != "not_found":
                raise
            message = await self._find_answer(response)
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
        return await offload(len(record.body), _as_inputs, [record])

    async def delete_from(self, session: HttpSession, conversation: str, response: str) -> None:
        """Delete a response from its conversation: the conversation itself, if all of its responses are deleted.

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

    async def _previous(self, session: HttpSession, create: Create) -> Previous:
        if create.request.previous_response_id is not None:
            previous = await self._continued(create.request.previous_response_id)
        elif create.conversation is not None:
            # No `parent`, because the head is the default: so a repeated request has the same content (law 6), though the
            # first one's answer has moved the head.
            record = await self.conversation(create.conversation)
            previous = Previous(create.conversation)
            if record is not None:
                previous = Previous(record.id, system=record.system, head=record.head, is_new=False)
        elif not create.is_stored:
            return Previous(messages=[])
        else:
            previous = Previous(conversation_of(create.turn))
        if previous.messages is not None:
            return previous
        if not (create.is_stored and create.converted.is_new_input):
            return await self._as_messages(previous)
        return await self._with_system(session, create, previous)

    async def _continued(self, response: str) -> Previous:
        """Return the context for a request whose `previous_response_id` is `response`. Raises `ApiError`."""
        missing = missing_previous(response)
        try:
            record = await self._store.turn(self._user, response)
        except NotFound:
            message = await self._find_answer(response)
            if message is None:
                raise missing from None
            found = await self.conversation(conversation_of(response))
            if found is None or response in deleted_in(found):
                raise missing from None
            return Previous(found.id, message.id, found.system, is_new=False)
        if record.ending is None:
            raise ApiError("busy", NO_ANSWER, path="previous_response_id")
        if record.conversation is not None:
            found = await self.conversation(record.conversation)
            if found is None or response in deleted_in(found):
                raise missing
            return Previous(found.id, record.message, found.system, is_new=False)
        (data,) = await self._store.get_ephemeral([self._key(response)])
        kept = Kept() if data is None else await offload(len(data), _decode_kept, data)
        if kept.messages is None or record.stateless_message is None:
            raise missing
        body = record.stateless_message
        answer = InputMessage(role="assistant", parts=(await offload(len(body), decode_body, body)).parts)
        return Previous(messages=[*kept.messages, *([answer] if answer.parts else ())], system=kept.system)

    async def _as_messages(self, previous: Previous) -> Previous:
        """Return the messages of a conversation, for a response that isn't stored in it."""
        last = previous.parent or previous.head
        if previous.conversation is None or last is None:
            return Previous(messages=[], system=previous.system)
        bytes_max = self._settings.context_bytes
        records, _ = await self._store.branch(self._user, previous.conversation, last, bytes_max)
        messages = await offload(sum(len(record.body) for record in records), _as_inputs, records)
        return Previous(messages=messages, system=previous.system)

    async def _with_system(self, session: HttpSession, create: Create, previous: Previous) -> Previous:
        """Store the system messages of the input in the conversation; instructions are for this response alone."""
        texts = joined(*create.system)
        assert previous.conversation is not None
        if previous.is_new:
            if create.request.instructions:
                first = p.ConversationCreate(
                    conversation=previous.conversation, system=texts or None, model=create.request.model
                )
                await session.handle(first)
        elif texts:
            before = (previous.system or "").removesuffix(texts).rstrip()
            whole = joined(before, texts)
            if whole != previous.system:
                await session.handle(p.ConversationUpdate(conversation=previous.conversation, system=whole))
            previous.system = before or None
        return previous

    async def _find_answer(self, response: str) -> Message | None:
        """Return the answer of a response that is no longer kept as a turn, if its conversation has it."""
        if not is_response_id(response):
            return None
        before: str | None = None
        for _ in range(PAGES_MAX):
            try:
                records, has_more = await self._store.messages(
                    self._user, conversation_of(response), 200, before, self._settings.context_bytes
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


def missing_previous(response: str) -> ApiError:
    """Return the error for a response that can't be continued."""
    return ApiError(
        "not_found",
        f"Previous response {response[:80]} not found. Send the whole context in `input`, without the id.",
        path="previous_response_id",
    )


def deleted_in(record: ConversationRecord) -> list[str]:
    """Return the ids of the responses that were deleted from a conversation."""
    metadata: Any = JSON.decode_any(record.metadata)
    found = metadata.get(DELETED) if isinstance(metadata, dict) else None
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _as_inputs(records: Sequence[MessageRecord]) -> list[InputMessage]:
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


def _size(messages: Sequence[InputMessage]) -> int:
    """Return about how many bytes the messages have, for `offload`."""
    parts = [part for message in messages for part in message.parts]
    size = ITEM_BYTES * (len(messages) + len(parts))
    return size + sum([len(getattr(part, name, None) or "") for part in parts for name in LONG_FIELDS])
