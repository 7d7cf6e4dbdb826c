"""Plain HTTP: sessions and their messages."""

from __future__ import annotations

from urllib.parse import quote

import msgspec
from msgspec import UNSET, Struct
from starlette.responses import Response

from gateway.dialects.base import decode_request, renamed
from gateway.dialects.kept_history import KeptHistory
from gateway.dialects.plain_http_fields import Done
from gateway.dialects.plain_http_session_answers import (
    Success,
    chat_history,
    history_messages,
    sent_history,
    session_view,
)
from gateway.http.dialects.conversations import find_running, read_history
from gateway.http.operation import RequestContext
from gateway.http.request_body import convert_request
from gateway.http.responses import NO_STORE, JsonResponse
from gateway.http.session import HttpSession
from gateway.http.user_in_body import act_for_user_in_body, remember_user
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Message
from gateway.protocol.results import Conversation, ConversationPage, TurnView


class SessionGet(p.Request, frozen=True, tag="session.get"):
    """A session of the user, or of the user that a service names."""

    session: p.Key
    user_id: p.UserName | None = None


class ChatHistoryGet(p.Request, frozen=True, tag="history.get"):
    """A session of the user, or of the user that a service names."""

    session_id: p.Key = msgspec.field(name="sessionId")
    user_id: p.UserName | None = None


class SessionList(p.Request, frozen=True, tag="session.list"):
    """A page of the sessions of the user, or of the user that a service names. `before` is a session of the page before."""

    limit: p.PageLimit = 50
    before: p.Key | None = None
    user_id: p.UserName | None = None


class SessionBody(Struct, kw_only=True):
    """The title of a session."""

    title: p.Title | None = None
    user_id: p.UserName | None = None


_session_body = msgspec.json.Decoder(SessionBody, float_hook=float).decode


async def _named_session(context: RequestContext) -> str:
    """Return the session in the path or the query, and act for the user that the query names. Raises `ApiError`."""
    request: SessionGet | ChatHistoryGet
    if "session" in context.path_params:
        request = await context.parse(SessionGet)
        session = request.session
    else:
        request = await context.parse(ChatHistoryGet)
        session = request.session_id
    await act_for_user_in_body(context, request.user_id, session)
    return session


async def branch(context: RequestContext, session: HttpSession, conversation: str) -> list[Message]:
    """Return the newest messages of a conversation's newest branch, the oldest first. Raises `ApiError`.

    While a turn runs, they end with what it answers.
    """
    found: Conversation = await session.handle(p.ConversationGet(conversation=conversation))
    head = found.head
    running = await find_running(context.services, session, conversation)
    if running:
        view: TurnView = await session.handle(p.TurnGet(turn=running[0]))
        head = head if view.message is UNSET else view.message.parent
    return (await read_history(session, conversation, KeptHistory)).path_to(head)


async def _branch_or_nothing(context: RequestContext, conversation: str) -> list[Message]:
    """Return what `branch` does, or nothing if there is no such session, because a session begins with its first message."""
    async with context.session() as session:
        try:
            return await branch(context, session, conversation)
        except ApiError as error:
            if error.code != "not_found":
                raise
            return []


async def get_chat_history(context: RequestContext) -> Response:
    """Return the messages of a session. Raises `ApiError`."""
    name = await _named_session(context)
    return JsonResponse(chat_history(name, await _branch_or_nothing(context, name)), headers=NO_STORE)


async def get_sent_history(context: RequestContext) -> Response:
    """Return the messages of a session. Raises `ApiError`."""
    name = await _named_session(context)
    return JsonResponse(sent_history(name, await _branch_or_nothing(context, name)), headers=NO_STORE)


async def clear_context(context: RequestContext) -> Response:
    """Let a session begin again with an empty context. Raises `ApiError`."""
    name = await _named_session(context)
    await _handle_if_found(context, p.ConversationClear(conversation=name))
    return JsonResponse(Success(), headers=NO_STORE)


async def delete_history(context: RequestContext) -> Response:
    """Delete a session, if there is one. Raises `ApiError`."""
    name = await _named_session(context)
    await _handle_if_found(context, p.ConversationDelete(conversation=name))
    return JsonResponse(Done("The history is deleted."), headers=NO_STORE)


async def _handle_if_found(context: RequestContext, request: p.AnyRequest) -> None:
    async with context.session() as session:
        try:
            await session.handle(request)
        except ApiError as error:
            if error.code != "not_found":
                raise


async def list_sessions(context: RequestContext) -> Response:
    """Return a page of the user's sessions. `Link` has the address of the next page. Raises `ApiError`."""
    request = await context.parse(SessionList)
    await act_for_user_in_body(context, request.user_id)
    async with context.session() as session:
        page: ConversationPage = await session.handle(p.ConversationList(limit=request.limit, before=request.before))
    headers = dict(NO_STORE)
    if page.next is not UNSET:
        query = f"?limit={request.limit}&before={quote(page.next, safe='')}"
        if request.user_id is not None:
            query += f"&user_id={quote(request.user_id, safe='')}"
        headers["link"] = f'<{context.external_path(context.operation.path)}{query}>; rel="next"'
    return JsonResponse([session_view(one) for one in page.conversations], headers=headers)


async def put_session(context: RequestContext) -> Response:
    """Create a session, or give it another title. Raises `ApiError` and `ClientDisconnect`."""
    name, caller = context.path_params["session"], context.principal.user
    body = decode_request(_session_body, await context.body(context.services.settings.frame_bytes) or b"{}")
    await act_for_user_in_body(context, body.user_id, name)
    try:
        create = convert_request(p.ConversationCreate, {"conversation": name, "title": body.title})
        async with context.session() as session:
            found: Conversation = await session.handle(create)
            if body.title is not None and found.title != body.title:
                found = await session.handle(p.ConversationUpdate(conversation=name, title=body.title))
    except ApiError as error:
        raise renamed(error, lambda path: path.replace("conversation", "session")) from None
    await remember_user(context, caller, name)
    return JsonResponse(session_view(found), headers=NO_STORE)


async def delete_session(context: RequestContext) -> Response:
    """Delete a session. Raises `ApiError`."""
    name = await _named_session(context)
    async with context.session() as session:
        await session.handle(p.ConversationDelete(conversation=name))
    return JsonResponse(Success(), headers=NO_STORE)


async def get_session_messages(context: RequestContext) -> Response:
    """Return the messages of a session, as a list. Raises `ApiError`."""
    name = await _named_session(context)
    async with context.session() as session:
        return JsonResponse(history_messages(await branch(context, session, name)), headers=NO_STORE)
