"""Trim a request: leave out the oldest exchanges of its messages, so that it fits the model's context window."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from msgspec import structs

from gateway.turns.token_estimate import fixed_tokens, message_tokens, request_tokens
from providers.base import ChatMessage, ChatRequest, ToolResultPart

TRIM_STEPS = 4
"""Messages are dropped in steps. The size of a step is the room for messages, divided by this number. See `trim`."""


def trim(chat_request: ChatRequest, context_window: int | None, answer_tokens: int) -> ChatRequest:
    """Drop the oldest exchanges so that the request and its answer fit `context_window`, in tokens (None: no limit).

    An exchange is a user message with all messages up to the next one, so a tool call and its result stay together.
    The last exchange is kept even if it doesn't fit; the provider reports that.

    Exchanges are dropped in steps of about a quarter of what fits, so that the next turns begin with the same messages:
    providers cache a prompt up to its first difference. The result doesn't depend on what was dropped for earlier turns.
    """
    if context_window is None:
        return chat_request
    room = remaining = context_window - answer_tokens - fixed_tokens(chat_request)
    starts = [number for number, message in enumerate(chat_request.messages) if _starts_exchange(message)]
    first = len(chat_request.messages)
    for start in reversed(starts):
        size = sum(message_tokens(message.parts) for message in chat_request.messages[start:first])
        if size > remaining and first < len(chat_request.messages):
            break
        remaining -= size
        first = start
    if not starts or first == starts[0]:
        return chat_request
    first = _end_of_step(chat_request.messages, starts, first, room)
    return structs.replace(chat_request, messages=chat_request.messages[first:])


def _end_of_step(messages: Sequence[ChatMessage], starts: list[int], first: int, room: int) -> int:
    """Return the number of the first message to keep. It is `first` or later: the messages from `first` on fit `room`.

    The tokens of the dropped messages come as close to the next multiple of a step as whole exchanges allow, and don't
    exceed it. `starts`: the numbers of the messages that begin an exchange.
    """
    step = room // TRIM_STEPS
    if step <= 0:
        return first
    sizes = [message_tokens(message.parts) for message in messages]
    limit = -(-(sum(sizes) - room) // step) * step
    dropped = list(accumulate(sizes, initial=0))
    if dropped[first] > limit:
        limit += step  # drop the next step at once, so that the first message changes only once in a step
    return max((start for start in starts if start > first and dropped[start] <= limit), default=first)


def fits(chat_request: ChatRequest, context_window: int | None, answer_tokens: int) -> bool:
    """Return whether the request and its answer are estimated to fit `context_window`, in tokens; None: no limit."""
    return context_window is None or request_tokens(chat_request) + answer_tokens <= context_window


def from_first_exchange(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Drop the messages before the first one that starts an exchange. Return all of them if none does."""
    starts = (number for number, message in enumerate(messages) if _starts_exchange(message))
    return messages[next(starts, 0) :]


def _starts_exchange(message: ChatMessage) -> bool:
    return message.role == "user" and not any(isinstance(part, ToolResultPart) for part in message.parts)
