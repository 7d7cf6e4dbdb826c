"""The chats of the AI SDK, for its addresses and its sockets: start what a request asks for, find what runs, stop it."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import UNSET

from gateway.dialects.ai_sdk import Ask, check_repeated
from gateway.dialects.ai_sdk_history import ChatHistory, origin_of
from gateway.dialects.ai_sdk_stream import UiStream
from gateway.dialects.base import renamed
from gateway.dialects.stream import failure_of
from gateway.http.dialects.serving import check_size
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Message, TurnReset, TurnStarted
from gateway.protocol.results import Attached, Cancelled, Conversation, MessagePage, TurnPlaced, TurnView
from gateway.requests.services import Services
from gateway.streams.outbox import Outbox
from store.records import NotFound

PAGES_MAX = 8
"""How many pages of a chat's messages are read, at most, to find the place of a message."""
PAGE_MESSAGES = 200


class ChatSession(Protocol):
    """The session of one answer: an HTTP request's, or a request's on a socket."""

    user: str
    outbox: Outbox

    async def handle(self, request: p.AnyRequest) -> Any:
        """Return the result of `request`. Raises `ApiError`."""


async def read_history(session: ChatSession, conversation: str, ask: Ask | None = None) -> ChatHistory:
    """Return the newest messages of a chat: as many as `ask` needs, or as may be read. Raises `ApiError`."""
    messages: list[Message] = []
    before: str | None = None
    for _ in range(PAGES_MAX):
        request = p.ConversationMessages(conversation=conversation, limit=PAGE_MESSAGES, before=before)
        try:
            page: MessagePage = await session.handle(request)
        except ApiError as error:
            if error.code != "not_found" or before is not None:
                raise
            return ChatHistory(exists=False)
        messages = [*page.messages, *messages]
        if not isinstance(page.next, str):
            return ChatHistory(messages)
        history = ChatHistory(messages, is_complete=False)
        if ask is not None and ask.is_settled(history):
            return history
        before = page.next
    return ChatHistory(messages, is_complete=False)


async def start_chat(services: Services, session: ChatSession, ask: Ask, size: int) -> str:
    """Start the turn that a request asks for, or attach to the one that the same request has started. Return its id.

    `size` is that of the request in bytes. Raises `ApiError`.
    """
    if ask.conversation is None:
        return await _place(services, session, ask, await offload(size, ask.stateless))
    history = await read_history(session, ask.conversation, ask)
    start = await offload(size, ask.start, history)
    stored = history.input_of(start.turn)
    if stored is not None:
        check_repeated(origin_of(stored), start)
        turn = start.turn or ""
        await _attach(session, turn)
        if turn not in session.outbox.attachments:
            raise ApiError("gone", stored_message=stored.id)
        return turn
    if ask.begins_again and history.messages:
        await session.handle(p.TurnCancel(conversation=ask.conversation))
        await session.handle(p.ConversationClear(conversation=ask.conversation))
    return await _place(services, session, ask, start)


async def _place(services: Services, session: ChatSession, ask: Ask, start: p.TurnStart) -> str:
    check_size(start, services.settings)
    try:
        placed: TurnPlaced = await session.handle(start)
    except ApiError as error:
        raise renamed(error, ask.path) from None
    if placed.turn not in session.outbox.attachments:
        await _attach(session, placed.turn)  # raises the error that says why its events are gone
    return placed.turn


async def _attach(session: ChatSession, turn: str) -> None:
    """Attach the session to a turn, from its beginning. Raise the `ApiError` if that is impossible."""
    attached: Attached = await session.handle(p.TurnAttach(turn=turn))
    error = attached.turns[turn].error
    if error is not UNSET:
        raise failure_of(error)


async def find_running(services: Services, session: ChatSession, conversation: str) -> list[str]:
    """Return the turns of a chat that have no ending, the oldest first. Raises `ApiError` and `StoreError`."""
    user, limits = session.user, services.limits
    if not services.registry.live_in(user, conversation):
        limits.check_unknown_ids(user)
    try:
        return await services.store.active(user, conversation)
    except NotFound:
        limits.charge_unknown_ids(user, 1)
        return []


async def resume_chat(services: Services, session: ChatSession, conversation: str, stream: UiStream) -> str | None:
    """Attach to the newest turn that runs in a chat, from its beginning. Return its id, or None if nothing runs.

    The stream then makes the whole UI message again, also the steps before this turn. Raises `ApiError`.
    """
    running = await find_running(services, session, conversation)
    while running:
        turn = running.pop()
        try:
            await _attach(session, turn)
        except ApiError as error:
            if error.code not in {"gone", "not_found"}:
                raise
            continue
        if turn in session.outbox.attachments:
            await _prepare_replay(services, session, conversation, turn, stream)
            return turn
    return None


async def _prepare_replay(
    services: Services, session: ChatSession, conversation: str, turn: str, stream: UiStream
) -> None:
    """Let the stream leave out what a reset has withdrawn, and begin with the steps before this turn."""
    log = session.outbox.attachments[turn].log
    resets = [event.seq for event in log.events if isinstance(event, TurnReset)]
    if resets:
        stream.skip_until(resets[-1])
    first = log.events[0] if log.events else None
    if not isinstance(first, TurnStarted) or first.input is None or first.input.role != "tool":
        return
    history = await read_history(session, conversation)
    origin = origin_of(first.input)
    stream.message_id = None if origin is None else origin.message
    stream.earlier = history.earlier_chunks(first.parent)


async def stop_chat(session: ChatSession, conversation: str, turn: str | None) -> dict[str, Any]:
    """Stop what runs in a chat, or only `turn`. Return the outcome for each turn. Raises `ApiError`."""
    request = p.TurnCancel(conversation=conversation) if turn is None else p.TurnCancel(turn=turn)
    try:
        cancelled: Cancelled = await session.handle(request)
    except ApiError as error:
        if error.code != "not_found":
            raise
        return {}
    return {one: outcome for one, outcome in cancelled.turns.items() if outcome != "not_found"}


async def ui_messages(services: Services, session: ChatSession, conversation: str) -> list[dict[str, Any]]:
    """Return the messages of a chat as the client shows them: those of its newest branch. Raises `ApiError`.

    While a turn runs, they end with what it answers: the client then resumes it.
    """
    found: Conversation = await session.handle(p.ConversationGet(conversation=conversation))
    running = await find_running(services, session, conversation)
    head = found.head
    if running:
        view: TurnView = await session.handle(p.TurnGet(turn=running[-1]))
        head = head if view.message is UNSET else view.message.parent
    history = await read_history(session, conversation)
    return history.ui_messages(head)
