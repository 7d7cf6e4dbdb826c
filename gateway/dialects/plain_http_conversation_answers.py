"""The answers of plain HTTP at `/api/v1/conversations`: conversations and their messages, with usage and cost. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, Struct

from gateway.dialects.base import Shaped, encode_json
from gateway.dialects.plain_http_fields import content_of, cost_number, id_of, without_tool_results
from gateway.protocol.events import Message
from gateway.protocol.requests import Rating
from gateway.protocol.results import Conversation, TurnView
from providers.base import Usage


class TokenUsage(Struct, frozen=True):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class StoredMessage(Struct, frozen=True, kw_only=True):
    """A message of a conversation. The `id` of an answer is that of its turn; only an answer has counts and a cost."""

    id: str
    conversation_id: str
    role: str
    content: str
    provider: str | None
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cost_usd: float | None
    latency_ms: int | None
    created_at: str
    rating: Rating | None = None
    comment: str | None = None


class StoredMessages(Struct, frozen=True):
    """The messages of a conversation, the oldest first."""

    conversation_id: str
    messages: list[StoredMessage]
    count: int


class MessageAnswer(Struct, frozen=True):
    """The answer to a message of a conversation, with the usage and cost of the turn."""

    message: StoredMessage
    conversation_id: str
    usage: TokenUsage | None
    cost_usd: float | None


class ConversationView(Struct, frozen=True, kw_only=True):
    """A conversation, with the usage and cost of all of its turns."""

    id: str
    user_id: str
    title: str
    model: str | None
    system_prompt: str | None
    metadata: dict[str, Any]
    message_count: int
    usage: TokenUsage
    cost_usd: float | None
    created_at: str
    updated_at: str


class ConversationWithMessages(ConversationView, frozen=True, kw_only=True):
    """A conversation with its messages, the oldest first."""

    messages: list[StoredMessage]


class ConversationViews(Struct, frozen=True):
    """A page of conversations, last changed first. `next` is the `before` of the next page."""

    conversations: list[ConversationView]
    count: int
    next: str | None = None


def message_answer(view: TurnView) -> Shaped:
    """Return the answer to a message of a conversation."""
    conversation = view.conversation or ""
    usage, cost = view.usage or None, view.cost or None
    assert view.message is not UNSET
    answer = MessageAnswer(
        stored_message(view.message, conversation), conversation, token_usage(usage), cost_number(cost)
    )
    return Shaped(200, encode_json(answer))


def token_usage(usage: Usage | None) -> TokenUsage | None:
    """Return token counts, or None if they aren't known."""
    if usage is None:
        return None
    return TokenUsage(usage.input_tokens, usage.output_tokens, usage.input_tokens + usage.output_tokens)


def stored_message(message: Message, conversation: str) -> StoredMessage:
    """Return a message of a conversation."""
    usage = token_usage(message.usage)
    return StoredMessage(
        id=id_of(message),
        conversation_id=conversation,
        role=message.role,
        content=content_of(message.parts),
        provider=message.provider,
        model=message.model,
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
        total_tokens=None if usage is None else usage.total_tokens,
        cost_usd=cost_number(message.cost),
        latency_ms=None if message.timing is None else message.timing.total_ms,
        created_at=message.created_at,
        rating=message.rating,
        comment=message.comment,
    )


def stored_messages(conversation: str, messages: Iterable[Message]) -> StoredMessages:
    """Return the messages of a conversation."""
    shown = [stored_message(one, conversation) for one in without_tool_results(messages)]
    return StoredMessages(conversation, shown, len(shown))


def conversation_fields(found: Conversation, user: str) -> dict[str, Any]:
    """Return the fields of a `ConversationView`."""
    return {
        "id": found.id,
        "user_id": user,
        "title": found.title,
        "model": found.model or None,
        "system_prompt": found.system or None,
        "metadata": found.metadata,
        "message_count": found.messages,
        "usage": token_usage(found.usage),
        "cost_usd": cost_number(found.cost),
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }
