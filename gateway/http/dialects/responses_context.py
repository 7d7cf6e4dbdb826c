"""The context of a new response: the conversation or the messages that it continues."""

from __future__ import annotations

from typing import Final

from gateway.dialects.responses import Create, Previous, joined, turn_start
from gateway.dialects.responses_ids import conversation_of
from gateway.http.dialects.responses_stored import Kept, StoredResponses, as_inputs, deleted_in, size_of
from gateway.http.session import HttpSession
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import InputMessage, TurnStart
from gateway.protocol.views import decode_body
from gateway.requests.services import Services
from gateway.turns.error_mapping import as_api_error
from store.errors import NotFound, StoreError

NO_ANSWER: Final = "The previous response is still in progress. Wait for its end, or cancel it."


class ResponseContexts:
    """The contexts of one user's responses. `stored` are the stored ones."""

    def __init__(self, services: Services, user: str, stored: StoredResponses) -> None:
        self._store = services.store
        self._context_bytes = services.settings.context_bytes
        self._user = user
        self._stored = stored

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
        size = size_of(previous.messages or ()) + size_of(create.converted.messages)
        start = await offload(size, turn_start, create, previous)
        if start.messages is None:
            return start, Kept(create.settings)
        return start, Kept(create.settings, start.messages, joined(previous.system, *create.converted.system) or None)

    async def _previous(self, session: HttpSession, create: Create) -> Previous:
        """Return what a new response continues. Raises `ApiError` and `StoreError`."""
        if create.request.previous_response_id is not None:
            previous = await self._continued(create.request.previous_response_id)
        elif create.conversation is not None:
            # The head is continued without naming it as `parent`: the answer of the first request moves the head, and a
            # repeated request must have the same content as the first one (law 6).
            record = await self._stored.conversation(create.conversation)
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
            message = await self._stored.find_answer(response)
            if message is None:
                raise missing from None
            found = await self._stored.conversation(conversation_of(response))
            if found is None or response in deleted_in(found):
                raise missing from None
            return Previous(found.id, message.id, found.system, is_new=False)
        if record.ending is None:
            raise ApiError("busy", NO_ANSWER, path="previous_response_id")
        if record.conversation is not None:
            found = await self._stored.conversation(record.conversation)
            if found is None or response in deleted_in(found):
                raise missing
            return Previous(found.id, record.message, found.system, is_new=False)
        kept = await self._stored.find_kept(response)
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
        records, _ = await self._store.branch(self._user, previous.conversation, last, self._context_bytes)
        messages = await offload(sum(len(record.body) for record in records), as_inputs, records)
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


def missing_previous(response: str) -> ApiError:
    """Return the error for a response that can't be continued."""
    return ApiError(
        "not_found",
        f"Previous response {response[:80]} not found. Send the whole context in `input`, without the id.",
        path="previous_response_id",
    )
