"""The addresses of all dialects: their operations, their sockets, and the dialect of an address that none of these has."""

from __future__ import annotations

from starlette.types import ASGIApp

from gateway.dialects.ag_ui import AG_UI
from gateway.dialects.ai_sdk import AI_SDK
from gateway.dialects.anthropic_messages import MESSAGES
from gateway.dialects.base import Dialect
from gateway.dialects.chat_completions import CHAT_COMPLETIONS
from gateway.dialects.plain_http import PLAIN_HTTP
from gateway.dialects.responses import RESPONSES
from gateway.http.dialects import ag_ui, ai_sdk, anthropic_messages, chat_completions, plain_http, responses
from gateway.http.dialects.ai_sdk_socket import UiSocket
from gateway.http.dialects.responses_socket import ResponsesSocket
from gateway.http.operation import Operation

DIALECT_OPERATIONS: tuple[Operation, ...] = (
    *chat_completions.OPERATIONS,
    *responses.OPERATIONS,
    *ai_sdk.OPERATIONS,
    *ag_ui.OPERATIONS,
    *anthropic_messages.OPERATIONS,
    *plain_http.OPERATIONS,
)

SOCKETS: tuple[tuple[str, ASGIApp], ...] = (
    ("/v1/responses", ResponsesSocket()),
    ("/openai/v1/responses", ResponsesSocket()),
    ("/ai-sdk/ws", UiSocket()),
)
"""The addresses of the dialects' WebSockets, and the applications that serve them."""

BASES: tuple[tuple[str, Dialect], ...] = (
    ("/openai/v1/responses", RESPONSES),
    ("/openai/", CHAT_COMPLETIONS),
    ("/v1/responses", RESPONSES),
    ("/v1/chat/", CHAT_COMPLETIONS),
    ("/api/chat/history", PLAIN_HTTP),
    ("/api/chat/context", PLAIN_HTTP),
    ("/api/chat/sessions", PLAIN_HTTP),
    ("/api/chat", AI_SDK),
    ("/ai-sdk/", AI_SDK),
    ("/ag-ui", AG_UI),
    ("/v1/messages/count_tokens", MESSAGES),
    ("/v1/messages/batches", MESSAGES),
)
"""The beginnings of paths whose errors have a dialect's shape, also of paths that don't exist."""


def dialect_at(path: str) -> Dialect | None:
    """Return the dialect of the errors at `path`, or None if they have the shape of our own API."""
    if path == "/v1/messages":
        return MESSAGES  # the messages of our own API are below it
    return next((dialect for base, dialect in BASES if path.startswith(base)), None)
