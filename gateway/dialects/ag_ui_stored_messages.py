"""Stored messages as messages of AG-UI. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.dialects.ag_ui_messages import AgCall, AgFunction, AgMessage, AgPart, AgSource
from gateway.protocol.events import Message
from providers.base import (
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)


def user_message(message_id: str, parts: Sequence[Part]) -> AgMessage:
    """Return a user's message with these parts."""
    if len(parts) == 1 and isinstance(parts[0], TextPart):
        return AgMessage(message_id, "user", parts[0].text)
    return AgMessage(message_id, "user", list(_content(parts)))


def _content(parts: Sequence[Part]) -> Iterator[AgPart]:
    for part in parts:
        if isinstance(part, TextPart | RefusalPart):
            yield AgPart("text", text=part.text)
        elif isinstance(part, ImagePart | FilePart):
            kind = "image" if isinstance(part, ImagePart) else "document"
            source = AgSource("url" if part.data is None else "data", part.data or part.url or "", part.media_type)
            yield AgPart(kind, source=source, filename=part.name)


def tool_message(message_id: str, result: ToolResultPart) -> AgMessage:
    """Return the message of a tool with this result."""
    error = result.output if result.error else None
    return AgMessage(message_id, "tool", result.output, tool_call_id=result.call, error=error)


def reasoning_id(message: str, part: int) -> str:
    """Return the id of the message with the reasoning in part number `part` of an answer."""
    return f"{message}.{part}"


def is_of_answer(message_id: str, answer: str) -> bool:
    """Return whether a message is that of an answer, or has its reasoning."""
    return message_id == answer or message_id.startswith(f"{answer}.")


def answer_messages(stored: Message) -> list[AgMessage]:
    """Return a stored answer: a message for each piece of reasoning, and one for everything else."""
    found: list[AgMessage] = []
    answer: AgMessage | None = None
    texts: list[str] = []
    calls: list[AgCall] = []
    for n, part in enumerate(stored.parts):
        if isinstance(part, ReasoningPart) and not part.redacted:
            found.append(AgMessage(reasoning_id(stored.id, n), "reasoning", part.text))
        elif isinstance(part, TextPart | RefusalPart | ToolCallPart):
            if answer is None:
                answer = AgMessage(stored.id, "assistant")
                found.append(answer)
            if isinstance(part, ToolCallPart):
                calls.append(AgCall(part.call, "function", AgFunction(part.name, part.arguments)))
            else:
                texts.append(part.text)
    if answer is not None:
        answer.content = "".join(texts) if texts else None
        answer.tool_calls = calls or None
    return found
