"""Plain HTTP: the requests that are answered by a model, and the stream of what runs in a conversation."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from msgspec import UNSET
from starlette.responses import Response

from gateway.dialects.plain_http import (
    PLAIN_HTTP,
    UserStart,
    start_of_chat,
    start_of_content,
    start_of_send,
    start_of_stream,
)
from gateway.dialects.plain_http_session_answers import Sent
from gateway.dialects.plain_http_stream import SNAKE, FollowedStream
from gateway.dialects.request_headers import Headers
from gateway.http.dialects.conversations import find_running
from gateway.http.dialects.plain_http_conversations import NamedConversation
from gateway.http.dialects.serving import (
    TURN_HEADER,
    check_size,
    place,
    respond,
    skip_withdrawn,
    stream_turn,
    view_at,
    view_size,
    wait_for_answer,
)
from gateway.http.event_formats import SSE
from gateway.http.negotiation import preferred_media_type
from gateway.http.operation import RequestContext
from gateway.http.request_body import JSON_TYPE
from gateway.http.responses import NO_STORE, JsonResponse
from gateway.http.session import HttpSession
from gateway.http.turns import attach
from gateway.http.user_in_body import act_for_user_in_body, remember_user
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.results import TurnPlaced, TurnView

POSITION: Final = re.compile(r"([A-Za-z0-9_.-]{1,64})/([0-9]{1,15})-([0-9]{1,15})")
"""The id of an event in the stream of a conversation."""

Decode = Callable[[bytes, Headers], UserStart]


async def chat(context: RequestContext, body: bytes) -> Response | None:
    """Serve a message of a session, whose body has been read. Raises `ApiError` and `ClientDisconnect`."""
    context.adopt(PLAIN_HTTP)
    streams = _wants_stream(context)
    return await _answer(context, body, lambda data, headers: start_of_chat(data, headers, streams=streams))


async def add_message(context: RequestContext) -> Response | None:
    """Serve a message of a conversation. Raises `ApiError` and `ClientDisconnect`."""
    conversation, streams = context.path_params["conversation"], _wants_stream(context)
    return await _answer(
        context,
        await _read(context),
        lambda data, headers: start_of_content(data, headers, conversation, streams=streams),
    )


async def stream(context: RequestContext) -> Response | None:
    """Serve messages without a session, as lines. Raises `ApiError` and `ClientDisconnect`."""
    return await _answer(context, await _read(context), start_of_stream)


async def send(context: RequestContext) -> Response:
    """Start the answer to a message of a session, and return at once. Raises `ApiError` and `ClientDisconnect`."""
    caller = context.principal.user
    named = await _decode(context, await _read(context), start_of_send)
    async with context.session() as session:
        placed = await _place(context, session, named, caller)
    path = f"/v1/turns/{quote(placed.turn)}/events"
    if context.principal.user != caller:
        path += f"?user_id={quote(context.principal.user, safe='')}"
    headers = {
        **NO_STORE,
        **context.answer_headers,
        "link": f'<{context.external_path(path)}>; rel="related"; type="{SSE}"',
    }
    return JsonResponse(Sent(placed.turn, placed.conversation), headers=headers)


async def _read(context: RequestContext) -> bytes:
    context.services.memory.check()
    return await context.body(context.services.settings.body_bytes)


async def _decode(context: RequestContext, body: bytes, decode: Decode) -> UserStart:
    """Return what a body asks for, and act for the user that it names. Raises `ApiError`."""
    named = await offload(len(body), decode, body, context.headers)
    check_size(named.start.request, context.services.settings)
    await act_for_user_in_body(context, named.user, named.session)
    context.answer_headers[TURN_HEADER] = named.start.request.turn or ""
    return named


async def _answer(context: RequestContext, body: bytes, decode: Decode) -> Response | None:
    """Answer a body, as a stream or not. Return None if the answer was streamed."""
    caller = context.principal.user
    named = await _decode(context, body, decode)
    del body
    start = named.start

    async def start_turn(session: HttpSession) -> None:
        await _place(context, session, named, caller)

    if start.translator is not None:
        await stream_turn(context, start.translator(), start_turn)
        return None
    view = await wait_for_answer(context, start.request.turn or "", start_turn)
    return respond(context, await offload(view_size(view), start.answer, view))


async def _place(context: RequestContext, session: HttpSession, named: UserStart, caller: str) -> TurnPlaced:
    placed = await place(context, session, named.start)
    await remember_user(context, caller, placed.conversation)
    return placed


def _wants_stream(context: RequestContext) -> bool:
    return preferred_media_type(context.headers, (JSON_TYPE, SSE)) == SSE


async def follow(context: RequestContext) -> Response | None:
    """Stream what runs in a conversation, from its beginning or after `Last-Event-ID`. Return a 204 response if nothing runs.

    Raises `ApiError`.
    """
    request = await context.parse(NamedConversation)
    await act_for_user_in_body(context, request.user_id, request.conversation)
    async with context.session() as session:
        await session.handle(p.ConversationGet(conversation=request.conversation))
        position = await _position(context, session, request.conversation)
    if position is None:
        return Response(status_code=204, headers=NO_STORE)
    stream = FollowedStream(SNAKE, with_ids=True)
    context.answer_headers[TURN_HEADER] = position.turn or ""

    async def attach_to_turn(session: HttpSession) -> None:
        await attach(session, position)
        turn = position.turn or ""
        if position.after:
            stream.resume(await view_at(session, turn, position.after), position.epoch or 0)
        else:
            skip_withdrawn(session.outbox, turn, stream)

    await stream_turn(context, stream, attach_to_turn)
    return None


async def _position(context: RequestContext, session: HttpSession, conversation: str) -> p.TurnAttach | None:
    """Return where the stream of a conversation begins: where the client was, or with the turn that runs. Raises `ApiError`."""
    sent = POSITION.fullmatch(context.headers.get("last-event-id", "").strip())
    if sent is not None:
        turn, epoch, after = sent.group(1), int(sent.group(2)), int(sent.group(3))
        try:
            view: TurnView = await session.handle(p.TurnGet(turn=turn))
        except ApiError as error:
            if error.code != "not_found":
                raise
        else:
            is_over = view.error is not UNSET or view.status not in {"queued", "running"}
            if view.conversation == conversation and not (is_over and after >= view.seq):
                return p.TurnAttach(turn=turn, epoch=epoch, after=after)
    running = await find_running(context.services, session, conversation)
    return p.TurnAttach(turn=running[0]) if running else None
