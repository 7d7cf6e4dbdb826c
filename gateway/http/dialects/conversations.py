"""The conversation behind a dialect's chat, thread or session: read its history, find what runs, start or attach to a turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from msgspec import UNSET

from gateway.dialects.base import failure_of, renamed
from gateway.dialects.kept_history import KeptHistory
from gateway.http.dialects.serving import check_size
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Message
from gateway.protocol.results import Attached, MessagePage, TurnPlaced
from gateway.requests.services import Services
from gateway.streams.outbox import Outbox
from store.records import NotFound

H = TypeVar("H", bound=KeptHistory)

PAGES_MAX = 8
"""How many pages of a conversation's messages are read, at most, to find the place of a message."""
PAGE_MESSAGES = 200


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


async def begin_again(session: ChatSession, conversation: str) -> None:
    """Stop what runs in a conversation, and let its next turn begin without a context. Raises `ApiError`."""
    await session.handle(p.TurnCancel(conversation=conversation))
    await session.handle(p.ConversationClear(conversation=conversation))


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


async def attach_to(session: ChatSession, turn: str) -> None:
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
