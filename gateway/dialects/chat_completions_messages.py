"""The messages of OpenAI Chat Completions, converted to the messages of a turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.dialects.base import unsupported
from gateway.dialects.chat_completions_request import ChatMessage, ContentPart, FileData
from gateway.dialects.media import media_part
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import InputMessage
from providers.base import FilePart, Part, ReasoningPart, RefusalPart, Role, TextPart, ToolCallPart, ToolResultPart


class Converted(NamedTuple):
    """The converted messages. `origins` has the number of each one in the request."""

    system: str | None
    messages: list[InputMessage]
    origins: list[int]


ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


def convert_messages(messages: Sequence[ChatMessage]) -> Converted:
    """Return the messages of a turn. Those of the system at the beginning become its `system`. Raises `ApiError`.

    A message of the assistant without any content is left out. If all messages are of the system, the last one is what
    the model answers, as at OpenAI; most providers take it only from the user.
    """
    system: list[tuple[str, int]] = []
    converted: list[InputMessage] = []
    origins: list[int] = []
    for n, message in enumerate(messages):
        role = ROLES.get(message.role)
        if role is None:
            advice = f"Send one of {', '.join(ROLES)}."
            raise ApiError(
                "invalid_request", f"Unknown role {message.role[:80]!r}. {advice}", path=f"messages[{n}].role"
            )
        parts = _parts(message, role, f"messages[{n}]")
        if role == "system" and not converted:
            system += [(part.text, n) for part in parts if isinstance(part, TextPart) and part.text]
        elif parts or role != "assistant":
            converted.append(InputMessage(role=role, parts=parts))
            origins.append(n)
    if system and not converted:
        text, origin = system.pop()
        converted.append(InputMessage(role="user", parts=[TextPart(text)]))
        origins.append(origin)
    return Converted("\n\n".join([text for text, _ in system]) or None, converted, origins)


def _parts(message: ChatMessage, role: Role, path: str) -> list[Part]:
    if role == "tool":
        if message.tool_call_id is None:
            raise ApiError("invalid_request", "Send the id of the tool call.", path=f"{path}.tool_call_id")
        return [ToolResultPart(message.tool_call_id, _text(message.content, f"{path}.content"))]
    parts: list[Part] = []
    if message.reasoning_content:
        parts.append(ReasoningPart(message.reasoning_content))
    content = message.content
    if isinstance(content, str):
        parts += [TextPart(content)] if content else []
    else:
        parts += [_part(part, f"{path}.content[{n}]") for n, part in enumerate(content or ())]
    if message.refusal:
        parts.append(RefusalPart(message.refusal))
    for n, call in enumerate(message.tool_calls or ()):
        if call.function is None:
            raise unsupported(f"{path}.tool_calls[{n}]", "Only calls of functions are.")
        parts.append(ToolCallPart(call.id, call.function.name, call.function.arguments))
    return parts


def _text(content: str | list[ContentPart] | None, path: str) -> str:
    """Return the content of a tool's result, which is only text."""
    if not isinstance(content, list):
        return content or ""
    for n, part in enumerate(content):
        if part.text is None:
            raise unsupported(f"{path}[{n}]", "The result of a tool has only text here.")
    return "".join([part.text or "" for part in content])


def _part(part: ContentPart, path: str) -> Part:
    found: Any = getattr(part, part.type, None) if part.type in {"text", "refusal", "image_url", "file"} else UNKNOWN
    if found is UNKNOWN:
        raise unsupported(f"{path}.type", f"A part can't be {part.type[:80]!r}. Send text, image_url or file.")
    if found is None:
        raise ApiError("invalid_request", f"The part has no `{part.type}`. Send it.", path=f"{path}.{part.type}")
    if part.type == "text":
        return TextPart(found)
    if part.type == "refusal":
        return RefusalPart(found)
    if part.type == "image_url":
        return media_part(found if isinstance(found, str) else found.url, f"{path}.image_url.url", image=True)
    return _file(found, f"{path}.file")


def _file(file: FileData, path: str) -> Part:
    if file.file_data is None:
        raise unsupported(f"{path}.file_id", "Send the file in `file_data`.")
    if not file.file_data.startswith("data:"):
        return FilePart("application/pdf", data=file.file_data, name=file.filename)
    return media_part(file.file_data, f"{path}.file_data", file.filename)


UNKNOWN = object()
