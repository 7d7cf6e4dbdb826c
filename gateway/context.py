"""What a model is asked: the system prompt, then the branch that ends at the turn's parent."""

from __future__ import annotations

from msgspec import structs

from gateway.acceptance import parts_of
from gateway.errors import ApiError
from gateway.protocol import TurnStart
from gateway.shapes import body_of
from providers.base import ChatMessage, ChatRequest, Part
from store.base import ConversationRecord, MessageRecord, NotFound, Store, TurnRecord


def stated(request: TurnStart, upstream_model: str) -> ChatRequest:
    """The request as it stands, without the history that it will follow."""
    if request.messages is not None:
        messages = tuple(ChatMessage(message.role, tuple(message.parts)) for message in request.messages)
    else:
        messages = (ChatMessage("user", tuple(parts_of(request.input or []))),)
    return ChatRequest(
        model=upstream_model,
        messages=messages,
        system=request.system,
        params=request.params,
        tools=tuple(request.tools or ()),
        tool_choice=request.tool_choice,
    )


async def chat_request(
    store: Store,
    user: str,
    turn: TurnRecord,
    conversation: ConversationRecord | None,
    request: TurnStart,
    upstream_model: str,
) -> ChatRequest:
    """The request with its history. Raises `ApiError`."""
    asked = stated(request, upstream_model)
    if request.messages is not None:
        return asked
    assert turn.conversation is not None, "a turn with a history has a conversation"
    try:
        branch = await store.branch(user, turn.conversation, turn.parent)
    except NotFound as missing:
        raise ApiError("not_found", f"The {missing.what} of the turn was deleted.") from None
    system = asked.system
    if system is None and conversation is not None:
        system = conversation.system
    return structs.replace(asked, messages=tuple(_context(branch)), system=system)


def _context(branch: list[MessageRecord]) -> list[ChatMessage]:
    """Messages with something in them; an answer that was stopped before its first word is left out."""
    found = [ChatMessage(record.role, tuple(body_of(record).parts)) for record in branch]  # type: ignore[arg-type]
    return [message for message in found if message.parts]


def estimate_tokens(parts: list[Part] | tuple[Part, ...]) -> int:
    """About how many tokens `parts` take, for a usage that the provider didn't report (four bytes a token)."""
    size = 0
    for part in parts:
        for name in ("text", "arguments", "output"):
            size += len((getattr(part, name, None) or "").encode())
    return (size + 3) // 4
