"""The bodies of plain HTTP that start a turn. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from gateway.dialects.base import decode_request
from gateway.dialects.chat_completions_request import ChatMessage
from gateway.protocol.requests import ConversationId, ModelId, UserName

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
