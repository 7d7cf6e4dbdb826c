"""The answers of plain HTTP about sessions: an answer to a message, the history, and a list of sessions. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import UNSET, Struct

from gateway.dialects.base import Shaped, encode_json
from gateway.dialects.plain_http_fields import content_of, finish_reason_of, id_of, without_tool_results
from gateway.protocol.events import Message
from gateway.protocol.results import Conversation, TurnView


class CamelUsage(Struct, frozen=True, rename="camel"):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatAnswer(Struct, frozen=True, rename="camel"):
    """The answer to a message of a session."""

    message: str
    session_id: str | None
    message_id: str
    model: str
    usage: CamelUsage | None
    finish_reason: str


class HistoryMessage(Struct, frozen=True, rename="camel"):
    """A message of a session. The `id` of an answer is that of its turn."""

    id: str
    role: str
    content: str
    created_at: str


class ChatHistoryView(Struct, frozen=True, rename="camel"):
    """The messages of a session, the oldest first."""

    session_id: str
    messages: list[HistoryMessage]
    count: int


class ChatSessionView(Struct, frozen=True, rename="camel"):
    """A session."""

    session_id: str
    title: str
    created_at: str
    updated_at: str


class Success(Struct, frozen=True):
    """The request succeeded."""

    success: Literal[True] = True


class Sent(Struct, frozen=True):
    """The message was accepted. `message_id` is the id of the answer and of its turn."""

    message_id: str
    session_id: str | None
    status: Literal["streaming"] = "streaming"


class SentMessage(Struct, frozen=True):
    """A message of a session. The `id` of an answer is that of its turn."""

    id: str
    role: str
    content: str
    created_at: str


class SentHistory(Struct, frozen=True):
    """The messages of a session, the oldest first."""

    session_id: str
    messages: list[SentMessage]
    count: int


def chat_answer(view: TurnView) -> Shaped:
    """Return the answer to a message of a session."""
    usage = view.usage or None
    answer = ChatAnswer(
        message="" if view.message is UNSET else content_of(view.message.parts),
        session_id=view.conversation,
        message_id=view.turn,
        model=view.model,
        usage=None
        if usage is None
        else CamelUsage(usage.input_tokens, usage.output_tokens, usage.input_tokens + usage.output_tokens),
        finish_reason=finish_reason_of(view),
    )
    return Shaped(200, encode_json(answer))


def placed_answer(view: TurnView) -> Shaped:
    """Return the answer to a message that is answered later."""
    return Shaped(200, encode_json(Sent(view.turn, view.conversation)))


def chat_history(session: str, messages: Iterable[Message]) -> ChatHistoryView:
    """Return the history of a session."""
    shown = history_messages(messages)
    return ChatHistoryView(session, shown, len(shown))


def history_messages(messages: Iterable[Message]) -> list[HistoryMessage]:
    """Return the messages of a session."""
    return [
        HistoryMessage(id_of(one), one.role, content_of(one.parts), one.created_at)
        for one in without_tool_results(messages)
    ]


def sent_history(session: str, messages: Iterable[Message]) -> SentHistory:
    """Return the history of a session."""
    shown = [
        SentMessage(id_of(one), one.role, content_of(one.parts), one.created_at)
        for one in without_tool_results(messages)
    ]
    return SentHistory(session, shown, len(shown))


def session_view(found: Conversation) -> ChatSessionView:
    """Return a conversation as a session."""
    return ChatSessionView(found.id, found.title, found.created_at, found.updated_at)
