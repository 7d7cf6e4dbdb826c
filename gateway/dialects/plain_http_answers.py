"""The answers of plain HTTP: turns, messages and conversations as its clients read them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

from msgspec import UNSET, Struct

from gateway.dialects.base import Shaped, encode_json
from gateway.protocol.events import Cost, Message
from gateway.protocol.requests import Rating
from gateway.protocol.results import Conversation, TurnView
from providers.base import Part, RefusalPart, TextPart, Usage

CAMEL_TOKENS: Final = ("promptTokens", "completionTokens", "totalTokens")


class CamelUsage(Struct, frozen=True, rename="camel"):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TokenUsage(Struct, frozen=True):
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


class Done(Struct, frozen=True):
    """The request succeeded."""

    message: str
    status: Literal["success"] = "success"


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


def content_of(parts: Iterable[Part]) -> str:
    """Return the text of an answer or a message, without its reasoning, tool calls and files."""
    return "".join([part.text for part in parts if isinstance(part, TextPart | RefusalPart)])


def id_of(message: Message) -> str:
    """Return the id of a message as clients of plain HTTP know it: an answer has the id of its turn."""
    return message.turn if message.role == "assistant" and message.turn is not None else message.id


def usage_numbers(usage: Usage | None, names: tuple[str, str, str] = CAMEL_TOKENS) -> dict[str, int] | None:
    """Return token counts, or None if they aren't known. `names` are those of the input, the output and the total."""
    if usage is None:
        return None
    counts = (usage.input_tokens, usage.output_tokens, usage.input_tokens + usage.output_tokens)
    return dict(zip(names, counts, strict=True))


def cost_number(cost: Cost | None) -> float | None:
    """Return a cost in US dollars, or None if it isn't known."""
    return None if cost is None else float(cost.amount)


def finish_reason_of(view: TurnView) -> str:
    """Return the finish reason of a turn that has ended without an error."""
    if view.finish_reason is not UNSET:
        return view.finish_reason
    return "length" if view.message is not UNSET and view.message.by == "limit" else "cancelled"


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


def spoken(messages: Iterable[Message]) -> list[Message]:
    """Return the messages that somebody said, without the results of tools."""
    return [message for message in messages if message.role != "tool"]


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


def chat_history(session: str, messages: Iterable[Message]) -> ChatHistoryView:
    """Return the history of a session."""
    shown = history_messages(messages)
    return ChatHistoryView(session, shown, len(shown))


def history_messages(messages: Iterable[Message]) -> list[HistoryMessage]:
    """Return the messages of a session."""
    return [HistoryMessage(id_of(one), one.role, content_of(one.parts), one.created_at) for one in spoken(messages)]


def sent_history(session: str, messages: Iterable[Message]) -> SentHistory:
    """Return the history of a session."""
    shown = [SentMessage(id_of(one), one.role, content_of(one.parts), one.created_at) for one in spoken(messages)]
    return SentHistory(session, shown, len(shown))


def stored_messages(conversation: str, messages: Iterable[Message]) -> StoredMessages:
    """Return the messages of a conversation."""
    shown = [stored_message(one, conversation) for one in spoken(messages)]
    return StoredMessages(conversation, shown, len(shown))


def session_view(found: Conversation) -> ChatSessionView:
    """Return a conversation as a session."""
    return ChatSessionView(found.id, found.title, found.created_at, found.updated_at)


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
