"""The UI messages of the AI SDK: their types, and their conversion to our messages. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import Struct

from gateway.dialects.base import encode_json
from gateway.dialects.media import media_part
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import InputMessage
from providers.base import (
    FilePart,
    ImagePart,
    Part,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

STEP: Final = "step-start"
DYNAMIC_TOOL: Final = "dynamic-tool"
TOOL_PREFIX: Final = "tool-"
DENIED: Final = "The user denied this tool call."
UI_ROLES: Final = ("user", "assistant", "system")


class Approval(Struct):
    """The answer of a user who was asked whether a tool may be called."""

    approved: bool | None = None
    reason: str | None = None


class UiPart(Struct, rename="camel"):
    """A part of a UI message. Its `type` says which fields are present. Unknown types are ignored."""

    type: str
    text: str | None = None
    media_type: str | None = None
    url: str | None = None
    filename: str | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    state: str | None = None
    input: Any = None
    output: Any = None
    error_text: str | None = None
    approval: Approval | None = None

    @property
    def tool(self) -> str | None:
        """The name of the tool that a part calls, or None if it calls none."""
        if self.type == DYNAMIC_TOOL:
            return self.tool_name or ""
        return self.type.removeprefix(TOOL_PREFIX) if self.type.startswith(TOOL_PREFIX) else None


class UiMessage(Struct):
    """A UI message."""

    role: str
    parts: list[UiPart]
    id: str = ""


def system_of(messages: Sequence[UiMessage]) -> list[str]:
    """Return the texts of the messages of the system."""
    return [part.text for message in messages if message.role == "system" for part in message.parts if part.text]


def user_parts(message: UiMessage, path: str) -> list[Part]:
    """Return the parts of a user's message. Raises `ApiError`."""
    parts: list[Part] = []
    for n, part in enumerate(message.parts):
        if part.type == "text" and part.text:
            parts.append(TextPart(part.text))
        elif part.type == "file":
            parts.append(_file(part, f"{path}.parts[{n}]"))
    return parts


def _file(part: UiPart, path: str) -> Part:
    url, media_type = part.url or "", (part.media_type or "").lower()
    if url.startswith("data:") or "/" not in media_type or media_type.endswith("*"):
        return media_part(url, f"{path}.url", part.filename, image=media_type.startswith("image"))
    made = ImagePart if media_type.startswith("image/") else FilePart
    return made(media_type, url=url, name=part.filename)


def result_of(part: UiPart) -> ToolResultPart | None:
    """Return the result of a tool call, or None if the part isn't a call or has no result yet."""
    if part.tool is None or part.tool_call_id is None:
        return None
    if part.state == "output-available":
        output = part.output if isinstance(part.output, str) else encode_json(part.output).decode()
        return ToolResultPart(part.tool_call_id, output)
    if part.state == "output-error":
        return ToolResultPart(part.tool_call_id, part.error_text or "The tool failed.", error=True)
    approval = part.approval
    if part.state == "output-denied" or (
        part.state == "approval-responded" and approval and approval.approved is False
    ):
        reason = None if approval is None else approval.reason
        return ToolResultPart(part.tool_call_id, reason or DENIED, error=True)
    return None


def steps_of(message: UiMessage) -> list[list[UiPart]]:
    """Return the parts of an assistant's message by step: each step is the answer of one turn."""
    steps: list[list[UiPart]] = [[]]
    for part in message.parts:
        if part.type == STEP:
            steps.append([])
        else:
            steps[-1].append(part)
    return [step for step in steps if step]


def last_results(message: UiMessage) -> list[ToolResultPart]:
    """Return the results of the tool calls in the last step of an assistant's message."""
    steps = steps_of(message)
    return [result for part in (steps[-1] if steps else ()) if (result := result_of(part)) is not None]


def whole_context(messages: Sequence[UiMessage]) -> tuple[list[InputMessage], list[int]]:
    """Return all messages as those of a turn without a conversation, and the number of each in the request.

    Raises `ApiError`.
    """
    converted: list[InputMessage] = []
    origins: list[int] = []

    def add(message: InputMessage, n: int) -> None:
        if message.parts:
            converted.append(message)
            origins.append(n)

    for n, message in enumerate(messages):
        if message.role == "user":
            add(InputMessage(role="user", parts=user_parts(message, f"messages[{n}]")), n)
        elif message.role == "assistant":
            for step in steps_of(message):
                add(InputMessage(role="assistant", parts=list(_answer_parts(step))), n)
                results: list[Part] = [result for part in step if (result := result_of(part)) is not None]
                add(InputMessage(role="tool", parts=results), n)
    return converted, origins


def _answer_parts(step: Sequence[UiPart]) -> Iterator[Part]:
    for part in step:
        if part.type == "text" and part.text:
            yield TextPart(part.text)
        elif part.tool is not None and part.tool_call_id is not None and part.state != "input-streaming":
            yield ToolCallPart(part.tool_call_id, part.tool, encode_json(part.input or {}).decode())


def spoken_texts(messages: Sequence[UiMessage]) -> list[tuple[str, str]]:
    """Return the role and the text of each message that isn't one of the system."""
    return [
        (message.role, "\n".join([part.text for part in message.parts if part.type == "text" and part.text]))
        for message in messages
        if message.role != "system"
    ]


def check_messages(messages: Sequence[UiMessage]) -> None:
    """Check the roles. Raises `ApiError`."""
    for n, message in enumerate(messages):
        if message.role not in UI_ROLES:
            raise ApiError(
                "invalid_request",
                f"Unknown role {message.role[:80]!r}. Send {', '.join(UI_ROLES)}.",
                path=f"messages[{n}].role",
            )
