"""The chats of the AI SDK, for its addresses and its sockets: start what a request asks for, find what runs, stop it."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from gateway.dialects.ai_sdk import Submission, check_repeated
from gateway.dialects.ai_sdk_history import ChatHistory, origin_of
from gateway.dialects.ai_sdk_stream import UiStream
from gateway.dialects.ids import own_id
from gateway.http.dialects.conversations import (
    ChatSession,
    attach_to,
    find_running,
    place_start,
    place_with_empty_context,
    read_history,
)
from gateway.http.dialects.serving import skip_withdrawn
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Message, TurnStarted
from gateway.protocol.results import Cancelled, Conversation, TurnView
from gateway.requests.services import Services


async def start_chat(services: Services, session: ChatSession, submission: Submission, size: int) -> str:
    """Start the turn that a request asks for, or attach to the one that the same request has started. Return its id.

    `size` is that of the request in bytes. Raises `ApiError`.
    """
    if submission.conversation is None:
        return await place_start(services, session, await offload(size, submission.stateless), submission.path)
    conversation = submission.conversation

    async def prepare() -> tuple[p.TurnStart, Message | None, bool]:
        """Return the start, the stored message if it was started before, and whether it begins the chat again."""
        history = await read_history(session, conversation, ChatHistory, submission.is_settled)
        start = await offload(size, submission.start, history)
        stored = history.input_of(start.turn)
        begins_again = stored is None and submission.begins_again and bool(history.messages)
        return start, stored, begins_again and not await _is_of_chat(session, submission)

    async def prepare_first() -> p.TurnStart | None:
        start, _, begins_again = await prepare()
        return start if begins_again else None

    start, stored, begins_again = await prepare()
    if begins_again:
        placed = await place_with_empty_context(services, session, conversation, prepare_first, submission.path)
        if placed is not None:
            return placed
        start, stored, _ = await prepare()
    if stored is not None:
        check_repeated(origin_of(stored), start)
        turn = start.turn or ""
        await attach_to(session, turn)
        if turn not in session.outbox.attachments:
            raise ApiError("gone", stored_message=stored.id)
        return turn
    return await place_start(services, session, start, submission.path)


async def _is_of_chat(session: ChatSession, submission: Submission) -> bool:
    """Return whether the answer that the client shows before its message is a turn of this chat, which may still run."""
    shown = submission.answer_before()
    if not shown:
        return False
    try:
        view: TurnView = await session.handle(p.TurnGet(turn=own_id("ui_", shown)))
    except ApiError as error:
        if error.code != "not_found":
            raise
        return False
    return view.conversation == submission.conversation


async def resume_chat(services: Services, session: ChatSession, conversation: str, stream: UiStream) -> str | None:
    """Attach to the newest turn that runs in a chat, from its beginning. Return its id, or None if nothing runs.

    The stream then makes the whole UI message again, also the steps before this turn. Raises `ApiError`.
    """
    running = await find_running(services, session, conversation)
    while running:
        turn = running.pop()
        try:
            await attach_to(session, turn)
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
    skip_withdrawn(session.outbox, turn, stream)
    log = session.outbox.attachments[turn].log
    first = log.events[0] if log.events else None
    if not isinstance(first, TurnStarted) or first.input is None or first.input.role != "tool":
        return
    history = await read_history(session, conversation, ChatHistory)
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
    history = await read_history(session, conversation, ChatHistory)
    return history.ui_messages(head)
