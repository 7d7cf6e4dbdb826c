"""Plain HTTP: a chat without a protocol of its own. Its requests as `turn.start`, and its errors. No I/O.

The errors are those of our own HTTP API.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct, structs

from gateway.dialects.base import (
    Dialect,
    Headers,
    Shaped,
    Start,
    checked,
    decode_request,
    encode_json,
    on_disconnect,
    turn_id,
)
from gateway.dialects.chat_completions_messages import ChatMessage, convert_messages
from gateway.dialects.plain_http_answers import chat_answer, message_answer, placed_answer
from gateway.dialects.plain_http_stream import CAMEL, SNAKE, ContentLines, ContentStream, error_line
from gateway.protocol.errors import ErrorBody
from gateway.protocol.requests import ConversationId, ModelId, TurnStart, UserName
from providers.base import Params

TURN_PREFIX: Final = "rest_"
_MESSAGE_PATH = re.compile(r"messages\[(\d{1,9})\]")

Paths = Callable[[str], str]
B = TypeVar("B", bound=Struct)


class ChatBody(Struct, kw_only=True, rename="camel"):
    """A message of a session, and how to answer it. Without `sessionId`, it begins a session."""

    message: str
    session_id: ConversationId | None = None
    model: ModelId | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    user_id: UserName | None = None
    user: UserName | None = msgspec.field(default=None, name="user_id")
    demo: dict[str, Any] | None = None


class SendBody(Struct, kw_only=True):
    """A message of a session, which is answered later."""

    message: str
    session_id: ConversationId | None = None
    user_id: UserName | None = None
    model: ModelId | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    demo: dict[str, Any] | None = None


class ContentBody(Struct, kw_only=True):
    """A message of a conversation."""

    content: str
    user_id: UserName | None = None
    model: ModelId | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    demo: dict[str, Any] | None = None


class StreamBody(Struct, kw_only=True, rename="camel"):
    """The messages to answer: the whole context. Their content is as in OpenAI Chat Completions."""

    messages: list[ChatMessage]
    model: ModelId | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    user_id: UserName | None = None
    user: UserName | None = msgspec.field(default=None, name="user_id")
    demo: dict[str, Any] | None = None


class Asked(Struct):
    """A request that starts a turn. `user` and `session` are those that it names."""

    start: Start
    user: str | None
    session: str | None


def _decoder(kind: type[B]) -> Callable[[bytes], B]:
    decode = msgspec.json.Decoder(kind, float_hook=float).decode
    return lambda body: decode_request(decode, body or b"{}")


chat_body: Final = _decoder(ChatBody)
send_body: Final = _decoder(SendBody)
content_body: Final = _decoder(ContentBody)
stream_body: Final = _decoder(StreamBody)


class _Probe(Struct, rename="camel"):
    """The fields that tell a message of a session from the bodies of other protocols."""

    message: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    session_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_probe: Final = msgspec.json.Decoder(_Probe, float_hook=float).decode


def is_chat_body(body: bytes) -> bool:
    """Return whether a body that isn't the AI SDK's is a message of a session, or can't be decoded at all."""
    try:
        found = _probe(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return True
    return found.message is not msgspec.UNSET or found.session_id is not msgspec.UNSET


def chat_asked(body: bytes, headers: Headers, *, streams: bool) -> Asked:
    """Return what a message of a session starts. `streams`: the answer is streamed. Raises `ApiError`."""
    request = chat_body(body)
    start = _in_session(request, request.message, request.session_id, headers)
    path = _paths({"input": "message", "conversation": "sessionId", "max_tokens": "maxTokens"})
    translator = partial(ContentStream, CAMEL) if streams else None
    return Asked(
        Start(checked(start, path), chat_answer, translator, path), request.user_id or request.user, request.session_id
    )


def send_asked(body: bytes, headers: Headers) -> Asked:
    """Return what a message starts that is answered later. Raises `ApiError`."""
    request = send_body(body)
    start = _in_session(request, request.message, request.session_id, headers)
    path = _paths({"input": "message", "conversation": "session_id"})
    return Asked(Start(checked(start, path), placed_answer, path=path), request.user_id, request.session_id)


def content_asked(body: bytes, headers: Headers, conversation: str, *, streams: bool) -> Asked:
    """Return what a message of an existing conversation starts. `streams`: the answer is streamed. Raises `ApiError`."""
    request = content_body(body)
    start = structs.replace(_in_session(request, request.content, conversation, headers), create=False)
    path = _paths({"input": "content"})
    translator = partial(ContentStream, SNAKE) if streams else None
    return Asked(Start(checked(start, path), message_answer, translator, path), request.user_id, conversation)


def stream_asked(body: bytes, headers: Headers) -> Asked:
    """Return what messages without a session start. Raises `ApiError`."""
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

    def message_path(match: re.Match[str]) -> str:
        n = int(match.group(1))
        return f"messages[{converted.origins[n] if n < len(converted.origins) else n}]"

    def path(ours: str) -> str:
        ours = _MESSAGE_PATH.sub(message_path, ours.removeprefix("params.")).replace("].parts", "].content")
        return "maxTokens" if ours == "max_tokens" else ours

    translator = partial(ContentLines, CAMEL)
    return Asked(Start(checked(start, path), chat_answer, translator, path), request.user_id or request.user, None)


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
