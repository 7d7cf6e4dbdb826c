"""Plain HTTP: a chat without a protocol of its own. Its requests as `turn.start`, and its errors. No I/O.

The errors are those of our own HTTP API.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec import Struct, structs

from gateway.dialects.base import Dialect, Shaped, Start, checked, encode_json
from gateway.dialects.chat_completions_messages import convert_messages
from gateway.dialects.field_paths import with_messages
from gateway.dialects.plain_http_conversation_answers import message_answer
from gateway.dialects.plain_http_request import (
    ChatBody,
    ContentBody,
    SendBody,
    StreamBody,
    chat_body,
    content_body,
    send_body,
    stream_body,
)
from gateway.dialects.plain_http_session_answers import chat_answer, placed_answer
from gateway.dialects.plain_http_stream import CAMEL, SNAKE, ContentLines, ContentStream, error_line
from gateway.dialects.request_headers import Headers, on_disconnect, turn_id
from gateway.protocol.errors import ErrorBody
from gateway.protocol.requests import TurnStart
from providers.base import Params

TURN_PREFIX: Final = "rest_"

Paths = Callable[[str], str]


class UserStart(Struct):
    """A request that starts a turn. `user` and `session` are those that it names."""

    start: Start
    user: str | None
    session: str | None


def start_of_chat(body: bytes, headers: Headers, *, streams: bool) -> UserStart:
    """Return the start for a message of a session. `streams`: the answer is streamed. Raises `ApiError`."""
    request = chat_body(body)
    start = _in_session(request, request.message, request.session_id, headers)
    path = _paths({"input": "message", "conversation": "sessionId", "max_tokens": "maxTokens"})
    translator = partial(ContentStream, CAMEL) if streams else None
    return UserStart(
        Start(checked(start, path), chat_answer, translator, path), request.user_id or request.user, request.session_id
    )


def start_of_send(body: bytes, headers: Headers) -> UserStart:
    """Return the start for a message of a session that is answered later. Raises `ApiError`."""
    request = send_body(body)
    start = _in_session(request, request.message, request.session_id, headers)
    path = _paths({"input": "message", "conversation": "session_id"})
    return UserStart(Start(checked(start, path), placed_answer, path=path), request.user_id, request.session_id)


def start_of_content(body: bytes, headers: Headers, conversation: str, *, streams: bool) -> UserStart:
    """Return the start for a message of an existing conversation. `streams`: the answer is streamed. Raises `ApiError`."""
    request = content_body(body)
    start = structs.replace(_in_session(request, request.content, conversation, headers), create=False)
    path = _paths({"input": "content"})
    translator = partial(ContentStream, SNAKE) if streams else None
    return UserStart(Start(checked(start, path), message_answer, translator, path), request.user_id, conversation)


def start_of_stream(body: bytes, headers: Headers) -> UserStart:
    """Return the start for messages without a session. Raises `ApiError`."""
    request = stream_body(body)
    converted = convert_messages(request.messages)
    start = TurnStart(
        turn=turn_id(headers, TURN_PREFIX),
        model=request.model,
        messages=converted.messages,
        system=converted.system,
        params=_params(request),
        on_disconnect=on_disconnect(headers, "cancel"),
    )

    def path(ours: str) -> str:
        ours = with_messages(ours.removeprefix("params."), converted.origins).replace("].parts", "].content")
        return "maxTokens" if ours == "max_tokens" else ours

    translator = partial(ContentLines, CAMEL)
    return UserStart(Start(checked(start, path), chat_answer, translator, path), request.user_id or request.user, None)


def _in_session(
    request: ChatBody | SendBody | ContentBody, text: str, session: str | None, headers: Headers
) -> TurnStart:
    """Return the start of the answer to a text. A session answers one message at a time."""
    return TurnStart(
        turn=turn_id(headers, TURN_PREFIX),
        conversation=session,
        create=session is not None,
        model=request.model,
        input=text,
        params=_params(request),
        on_busy="queue",
        on_disconnect=on_disconnect(headers, "continue"),
    )


def _params(request: ChatBody | SendBody | ContentBody | StreamBody) -> Params:
    return Params(temperature=request.temperature, max_tokens=request.max_tokens, demo=request.demo)


def _paths(names: dict[str, str]) -> Paths:
    """Return the function that translates our paths to the names of a body's fields."""

    def path(ours: str) -> str:
        ours = ours.removeprefix("params.")
        return names.get(ours.partition("[")[0], ours)

    return path


def refuse(error: ErrorBody, status: int) -> Shaped:
    """Return the answer of a refused or failed request."""
    return Shaped(status, encode_json({"error": error}))


def refuse_line(error: ErrorBody, status: int) -> Shaped:
    """Return the answer of a refused or failed request whose answer would be lines: it is the last line."""
    return Shaped(status, error_line(error))


PLAIN_HTTP: Final = Dialect("plain_http", refuse)
"""Requests that have one JSON answer, or server-sent events."""
PLAIN_LINES: Final = Dialect("plain_http", refuse_line)
"""Requests that are answered with lines of JSON."""
