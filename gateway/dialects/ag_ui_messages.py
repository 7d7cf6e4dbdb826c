"""The messages of AG-UI: their types, and their conversion to our parts. No I/O."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from gateway.dialects.media import media_part
from providers.base import (
    FilePart,
    ImagePart,
    Part,
    TextPart,
    ToolResultPart,
)

SPEAKERS: Final = ("user", "assistant", "tool")
"""The roles of the messages that are stored one by one."""


class AgSource(Struct, rename="camel", omit_defaults=True):
    """The source of a media part: its bytes, their address, or the name by which a provider knows them."""

    type: str
    value: str
    mime_type: str | None = None


class AgPart(Struct, rename="camel", omit_defaults=True):
    """A part of a message's content. `mime_type`, `data`, `url` and `filename` are those of clients before 1.0."""

    type: str
    text: str | None = None
    source: AgSource | None = None
    mime_type: str | None = None
    data: str | None = None
    url: str | None = None
    filename: str | None = None
    metadata: Any = None


class AgFunction(Struct):
    """The function of a tool call, with its arguments as JSON text."""

    name: str
    arguments: str


class AgCall(Struct, rename="camel", omit_defaults=True):
    """A tool call of the model."""

    id: str
    type: str
    function: AgFunction
    encrypted_value: str | None = None
    metadata: dict[str, Any] | None = None


class AgMessage(Struct, rename="camel", omit_defaults=True):
    """A message. Its `role` says which fields are present. Messages with unknown roles are ignored."""

    id: str
    role: str
    content: str | list[AgPart] | dict[str, Any] | None = None
    tool_calls: list[AgCall] | None = None
    tool_call_id: str | None = None
    error: str | None = None
    name: str | None = None
    encrypted_value: str | None = None
    subagent_run_id: str | None = None
    metadata: dict[str, Any] | None = None


def text_of(message: AgMessage) -> str:
    """Return the text of a message's content."""
    content = message.content
    if isinstance(content, list):
        return "".join([part.text or "" for part in content if part.type == "text"])
    return content if isinstance(content, str) else ""


def data_chars(message: AgMessage) -> int:
    """Return how many characters the sources of a message's content have."""
    content = message.content
    if not isinstance(content, list):
        return 0
    return sum(len(part.data or "") if part.source is None else len(part.source.value) for part in content)


def user_parts(message: AgMessage, path: str) -> list[Part]:
    """Return the parts of a user's message. What no model can be given is left out. Raises `ApiError`."""
    content = message.content
    if not isinstance(content, list):
        return [TextPart(content)] if isinstance(content, str) and content else []
    found = [_part(part, f"{path}.content[{n}]") for n, part in enumerate(content)]
    return [part for part in found if part is not None]


def _part(part: AgPart, path: str) -> Part | None:
    if part.type == "text":
        return TextPart(part.text) if part.text else None
    source = part.source
    if part.type == "binary":
        value = part.data if part.data is not None else part.url
        kind = "data" if part.data is not None else "url"
        source = None if value is None else AgSource(kind, value, part.mime_type)
    if source is None or part.type not in {"image", "document", "binary"} or source.type not in {"data", "url"}:
        return None  # sound, a video, or a handle of a provider
    media_type = (source.mime_type or "").lower()
    is_image = part.type == "image" or (part.type == "binary" and media_type.startswith("image/"))
    if source.value.startswith("data:") or "/" not in media_type or media_type.endswith("*"):
        if source.type == "data" and not source.value.startswith("data:"):
            made = ImagePart if is_image else FilePart
            return made("image/jpeg" if is_image else "application/pdf", data=source.value, name=part.filename)
        return media_part(source.value, f"{path}.source.value", part.filename, image=is_image)
    made = ImagePart if is_image else FilePart
    if source.type == "data":
        return made(media_type, data=source.value, name=part.filename)
    return made(media_type, url=source.value, name=part.filename)


def result_of(message: AgMessage) -> ToolResultPart:
    """Return the result of a tool call in a message of a tool."""
    error = message.error
    return ToolResultPart(message.tool_call_id or "", text_of(message) or error or "", error=error is not None)
