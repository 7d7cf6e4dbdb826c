"""The conversation behind a dialect's chat, thread or session: read its history, find what runs, start or attach to a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from msgspec import UNSET, structs

from gateway.dialects.base import failure_of, renamed
from gateway.dialects.kept_history import KeptHistory
from gateway.http.dialects.serving import check_size
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Message
from gateway.protocol.results import Attached, MessagePage, TurnPlaced
from gateway.requests.services import Services
from gateway.streams.outbox import Outbox
from store.errors import NotFound

H = TypeVar("H", bound=KeptHistory)

PAGES_MAX = 8
"""How many pages of a conversation's messages are read, at most, to find the place of a message."""
PAGE_MESSAGES = 200


EMPTY_CONTEXT_TRIES = 20
"""How often to start a turn with an empty context, if other instances start turns in the conversation meanwhile."""

_empty_context_locks: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()
"""The locks of `place_with_empty_context`, by instance, user and conversation. The callers in one instance wait in line."""


class ChatSession(Protocol):
    """The session of one answer: an HTTP request's, or a request's on a socket."""

    user: str
    outbox: Outbox

    async def handle(self, request: p.AnyRequest) -> Any:
        """Return the result of `request`. Raises `ApiError`."""


def never_settled(history: KeptHistory) -> bool:
    """Return False: read as many messages as may be read."""
    return False


async def read_history(
    session: ChatSession, conversation: str, kind: type[H], is_settled: Callable[[H], bool] = never_settled
) -> H:
    """Return the newest messages of a conversation: until `is_settled`, or as many as may be read. Raises `ApiError`."""
    messages: list[Message] = []
    before: str | None = None
    for _ in range(PAGES_MAX):
        request = p.ConversationMessages(conversation=conversation, limit=PAGE_MESSAGES, before=before)
        try:
            page: MessagePage = await session.handle(request)
        except ApiError as error:
            if error.code != "not_found" or before is not None:
                raise
            return kind(exists=False)
        messages = [*page.messages, *messages]
        if not isinstance(page.next, str):
            return kind(messages)
        history = kind(messages, is_complete=False)
        if is_settled(history):
            return history
        before = page.next
    return kind(messages, is_complete=False)


async def place_start(services: Services, session: ChatSession, start: p.TurnStart, path: Callable[[str], str]) -> str:
    """Start a turn, or attach to the one that has its id. Return its id. Raises `ApiError`.

    `path` translates the path of a field in an error to the dialect's names.
    """
    check_size(start, services.settings)
    try:
        placed: TurnPlaced = await session.handle(start)
    except ApiError as error:
        raise renamed(error, path) from None
    if placed.turn not in session.outbox.attachments:
        await attach_to(session, placed.turn)  # raises the error that says why its events are gone
    return placed.turn


async def place_with_empty_context(
    services: Services,
    session: ChatSession,
    conversation: str,
    prepare: Callable[[], Awaitable[p.TurnStart | None]],
    path: Callable[[str], str],
) -> str | None:
    """Stop what runs in a conversation, and start a turn in it with an empty context. Return the turn's id.

    `prepare` reads the history and returns the start, or None if the conversation has changed so that the start mustn't
    do this any more; then return None. If several callers do this at the same time, each stops the turn of the one
    before, so that the last one has its answer. `path`: see `place_start`. Raises `ApiError`.
    """
    lock = _empty_context_locks.setdefault((services.instance, session.user, conversation), asyncio.Lock())
    async with lock:
        for _ in range(EMPTY_CONTEXT_TRIES):
            if await prepare() is None:
                return None
            await session.handle(p.TurnCancel(conversation=conversation))
            start = await prepare()
            if start is None:
                return None
            await session.handle(p.ConversationClear(conversation=conversation))
            try:
                return await place_start(services, session, structs.replace(start, on_busy="reject"), path)
            except ApiError as error:
                # Busy: another instance has started a turn since the context was emptied. It mustn't be in the context.
                if error.code != "busy":
                    raise
    raise ApiError("busy")


async def attach_to(session: ChatSession, turn: str) -> None:
    """Attach the session to a turn, from its beginning. If that is impossible, raise the `ApiError` that says why."""
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
