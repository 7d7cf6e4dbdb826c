"""The addresses of the AI SDK: its chat transport, with resume and stop, and a chat's messages for a page that loads."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from gateway.dialects.ai_sdk import AI_SDK, Submission
from gateway.dialects.ai_sdk_request import (
    UI_HEADER,
    UI_VERSION,
    StopRequest,
    UiRequest,
    is_ui_body,
    request_of,
    stop_of,
)
from gateway.dialects.ai_sdk_stream import UiStream
from gateway.dialects.ids import conversation_id
from gateway.dialects.plain_http import PLAIN_HTTP
from gateway.dialects.plain_http_request import ChatBody, is_chat_body
from gateway.dialects.request_headers import Headers
from gateway.http.dialects import plain_http_turns
from gateway.http.dialects.ai_sdk_chats import resume_chat, start_chat, stop_chat, ui_messages
from gateway.http.dialects.conversations import find_running
from gateway.http.dialects.serving import TURN_HEADER, stream_turn
from gateway.http.operation import Operation, RequestContext, ResponseSpec
from gateway.http.responses import NO_STORE, HttpError, JsonResponse
from gateway.http.session import HttpSession
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError


class ChatGet(p.Request, frozen=True, tag="chat.get"):
    """Get the messages of a chat, or what runs in it. `chat` is its id."""

    chat: str


class ChatStop(p.Request, frozen=True, tag="chat.stop"):
    """Stop what runs in a chat."""

    chat: str


class ChatMessages(msgspec.Struct, frozen=True):
    """A chat and its UI messages, the oldest first, as `useChat` takes them."""

    id: str
    messages: list[dict[str, Any]]


class ChatStopped(msgspec.Struct, frozen=True):
    """The turns that ran in a chat, and whether each was cancelled or had ended before."""

    turns: dict[str, str]


async def chat(context: RequestContext) -> Response | None:
    """Serve a body of the AI SDK or of plain HTTP. Raises `ApiError` and `ClientDisconnect`."""
    context.services.memory.check()
    body = await context.body(context.services.settings.body_bytes)
    if not await offload(len(body), is_ui_body, body, context.headers):
        if await offload(len(body), is_chat_body, body):
            return await plain_http_turns.chat(context, body)
        raise ApiError(
            "invalid_request", "Send the `messages` of an AI SDK chat, or the `message` of a session.", path="messages"
        )
    context.adopt(AI_SDK)
    await _answer(context, body)
    return None


async def _answer(context: RequestContext, body: bytes) -> None:
    size = len(body)
    submission = await offload(size, _submission, body, context.headers)
    del body
    stream = UiStream(submission.message_id)
    context.answer_headers[UI_HEADER] = UI_VERSION

    async def start(session: HttpSession) -> None:
        context.answer_headers[TURN_HEADER] = await start_chat(context.services, session, submission, size)
        context.release_body()

    await stream_turn(context, stream, start)


def _submission(body: bytes, headers: Headers) -> Submission:
    return Submission(request_of(body), headers)


async def resume(context: RequestContext) -> Response | None:
    """Stream the answer that is being written in a chat, from its beginning. Return a 204 response if there is none.

    Raises `ApiError`.
    """
    conversation = conversation_id(context.path_params["chat"])
    async with context.session() as session:
        if not await find_running(context.services, session, conversation):
            return Response(status_code=204, headers=NO_STORE)
    stream = UiStream()
    context.answer_headers[UI_HEADER] = UI_VERSION
    has_ended = False

    async def attach_to_running(session: HttpSession) -> None:
        nonlocal has_ended
        turn = await resume_chat(context.services, session, conversation, stream)
        if turn is None:
            has_ended = True
            raise ApiError("gone")
        context.answer_headers[TURN_HEADER] = turn

    try:
        await stream_turn(context, stream, attach_to_running)
    except ApiError:
        if not has_ended:
            raise
        return Response(status_code=204, headers=NO_STORE)
    return None


async def stop(context: RequestContext) -> Response:
    """Stop what runs in a chat. Raises `ApiError` and `ClientDisconnect`."""
    chat_id = context.path_params["chat"]
    body = await context.body(context.services.settings.body_bytes)
    wanted = (await offload(len(body), stop_of, body)).active_stream_id
    async with context.session() as session:
        return JsonResponse(ChatStopped(await stop_chat(session, conversation_id(chat_id), wanted)), headers=NO_STORE)


async def messages(context: RequestContext) -> Response:
    """Return the messages of a chat. Raises `ApiError`."""
    chat_id = context.path_params["chat"]
    async with context.session() as session:
        found = await ui_messages(context.services, session, conversation_id(chat_id))
    return JsonResponse(ChatMessages(chat_id, found), headers=NO_STORE)


async def refuse_without_upgrade(context: RequestContext) -> Response:
    """Raise `HttpError`: the socket's address was requested without a WebSocket handshake."""
    context.answer_headers["upgrade"] = "websocket"
    raise HttpError(
        426,
        "This is the address of a WebSocket. Connect with WebSocketChatTransport, or let the proxy pass the upgrade on.",
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST",
        "/api/chat",
        "AI SDK: answer the messages of a chat, as a stream. Plain HTTP: answer a message of a session",
        chat,
        (ResponseSpec("The stream of a UI message; or the answer, or a stream of its text.", is_binary=True),),
        dialect=AI_SDK,
        body=UiRequest,
        other_dialect=PLAIN_HTTP,
        other_body=ChatBody,
    ),
    Operation(
        "GET",
        "/api/chat/{chat}/stream",
        "AI SDK: resume the stream of a chat",
        resume,
        (
            ResponseSpec("The whole stream of a UI message.", is_binary=True),
            ResponseSpec("Nothing runs in this chat.", status=204),
        ),
        ChatGet,
        "read",
        dialect=AI_SDK,
    ),
    Operation(
        "POST",
        "/api/chat/{chat}/stop",
        "AI SDK: stop what runs in a chat",
        stop,
        (ResponseSpec("The answers have ended.", ChatStopped),),
        ChatStop,
        "cancel",
        dialect=AI_SDK,
        body=StopRequest,
        is_body_optional=True,
    ),
    Operation(
        "GET",
        "/api/chat/{chat}/messages",
        "AI SDK: get the messages of a chat",
        messages,
        (ResponseSpec("The messages.", ChatMessages),),
        ChatGet,
        "read",
        dialect=AI_SDK,
    ),
    Operation(
        "GET",
        "/ai-sdk/ws",
        "AI SDK: the socket of its WebSocketChatTransport",
        refuse_without_upgrade,
        (ResponseSpec("The address needs a WebSocket handshake.", status=426, is_binary=True),),
        dialect=AI_SDK,
    ),
)
