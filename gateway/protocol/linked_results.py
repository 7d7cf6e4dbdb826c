"""Whether each tool result follows the call that it answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.protocol.errors import ApiError
from gateway.protocol.requests import InputMessage
from providers.base import ChatMessage, ToolCallPart, ToolResultPart


def unlinked_result(call: str, action: str, path: str) -> ApiError:
    """Return the error for a tool result that doesn't directly follow its call. `action` says what to do."""
    message = f"The message before this tool result has no tool call {call[:80]}. {action}"
    return ApiError("invalid_request", message, path=path)


def result_without_call(messages: Iterable[InputMessage]) -> str | None:
    """Return the call id of the first tool result that has no tool call before it, or None if there is none."""
    calls = set()
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                calls.add(part.call)
            elif isinstance(part, ToolResultPart) and part.call not in calls:
                return part.call
    return None


def linked_results(messages: Sequence[ChatMessage | InputMessage]) -> list[set[str]]:
    """Return, for each message, the call ids of its tool results that are in the right place.

    Providers accept a result only directly after the message that has the call, before any other content.
    """
    linked: list[set[str]] = []
    open_calls: set[str] = set()
    for message in messages:
        if message.role == "assistant" and message.parts:
            open_calls = {part.call for part in message.parts if isinstance(part, ToolCallPart)}
        linked.append(open_calls & {part.call for part in message.parts if isinstance(part, ToolResultPart)})
        if message.role != "assistant" and not all(isinstance(part, ToolResultPart) for part in message.parts):
            open_calls = set()
    return linked


def misplaced_result(messages: Sequence[ChatMessage | InputMessage]) -> str | None:
    """Return the call id of the first result in the last message that isn't in the right place (`linked_results`).

    Return None if there is none.
    """
    if not messages:
        return None
    linked = linked_results(messages)[-1]
    results = (part.call for part in messages[-1].parts if isinstance(part, ToolResultPart))
    return next((call for call in results if call not in linked), None)
