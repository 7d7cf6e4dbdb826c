"""The conversation that the header `X-Conversation-Id` names, for dialects whose requests have the whole context. No I/O."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.dialects.ids import conversation_id
from gateway.dialects.request_headers import Headers, on_disconnect
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import TurnStart
from providers.base import TextPart

CONVERSATION_HEADER: Final = "x-conversation-id"


def _named_conversation(headers: Headers) -> str | None:
    """Return the id of the conversation that the header names. None if there is no header, or if it is empty."""
    name = headers.get(CONVERSATION_HEADER, "").strip()
    return conversation_id(name) if name else None


def new_input_from(start: TurnStart) -> int:
    """Return the index of the start's first message after the last one of the assistant."""
    roles = [message.role for message in start.messages or ()]
    return len(roles) - roles[::-1].index("assistant") if "assistant" in roles else 0


def with_conversation(start: TurnStart, headers: Headers) -> TurnStart:
    """Return the start in the conversation that the header names, if there is one. Raises `ApiError`.

    By default, a turn in a conversation goes on without its client, and any other is cancelled.
    """
    conversation = _named_conversation(headers)
    start = msgspec.structs.replace(
        start, on_disconnect=on_disconnect(headers, "cancel" if conversation is None else "continue")
    )
    return start if conversation is None else _in_conversation(start, conversation)


def _in_conversation(start: TurnStart, conversation: str) -> TurnStart:
    """Return the start in a conversation: its input is what follows the last message of the assistant. Raises `ApiError`."""
    rest = (start.messages or [])[new_input_from(start) :]
    if not rest:
        raise ApiError("invalid_request", "The last message must be one of the user or a tool.", path="messages")
    later = [
        part.text
        for message in rest
        if message.role == "system"
        for part in message.parts
        if isinstance(part, TextPart)
    ]
    return msgspec.structs.replace(
        start,
        messages=None,
        system="\n\n".join([*([start.system] if start.system else ()), *later]) or None,
        conversation=conversation,
        create=True,
        input=[part for message in rest if message.role != "system" for part in message.parts],
    )
