"""Our parts as those of UI messages of the AI SDK. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.dialects.ai_sdk_messages import TOOL_PREFIX
from gateway.protocol.errors import ErrorBody
from providers.base import (
    CitationPart,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

_check_json: Final = msgspec.json.Decoder(msgspec.Raw, float_hook=float).decode


def error_text(error: ErrorBody) -> str:
    """Return the text of an error, which clients show to the user."""
    return error.message if error.path is None else f"{error.message} ({error.path})"


def tool_input(arguments: str) -> msgspec.Raw | None:
    """Return the arguments of a tool call as JSON in one line, or None if they aren't JSON."""
    try:
        encoded = (arguments or "{}").encode()
        _check_json(encoded)
        return msgspec.Raw(msgspec.json.format(encoded, indent=-1))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def ui_parts(parts: Sequence[Part], results: dict[str, ToolResultPart], source: str = "") -> list[dict[str, Any]]:
    """Return the parts of a stored message as those of a UI message. `results`: those of its tool calls, by call id.

    `source` is the prefix of the ids of its sources.
    """
    found: list[dict[str, Any]] = []
    for n, part in enumerate(parts):
        if isinstance(part, TextPart | RefusalPart):
            found.append({"type": "text", "text": part.text, "state": "done"})
        elif isinstance(part, ReasoningPart):
            if not part.redacted:
                found.append({"type": "reasoning", "text": part.text, "state": "done"})
        elif isinstance(part, ToolCallPart):
            found.append(_ui_call(part, results.get(part.call)))
        elif isinstance(part, CitationPart):
            if part.url is not None:
                found.append(source_url(f"{source}{n}", part.url, part.title))
        elif isinstance(part, ImagePart | FilePart):
            url = part.url if part.data is None else f"data:{part.media_type};base64,{part.data}"
            named = {} if part.name is None else {"filename": part.name}
            found.append({"type": "file", "mediaType": part.media_type, "url": url or "", **named})
    return found


def source_url(source: str, url: str, title: str | None) -> dict[str, Any]:
    """Return a source as a part or a chunk."""
    return {"type": "source-url", "sourceId": source, "url": url, **({} if title is None else {"title": title})}


def _ui_call(part: ToolCallPart, result: ToolResultPart | None) -> dict[str, Any]:
    given = tool_input(part.arguments)
    call: dict[str, Any] = {
        "type": f"{TOOL_PREFIX}{part.name}",
        "toolCallId": part.call,
        "state": "input-available",
        "input": part.arguments if given is None else given,
    }
    if result is None:
        return call
    if result.error:
        return {**call, "state": "output-error", "errorText": result.output}
    return {**call, "state": "output-available", "output": tool_output(result.output)}


def tool_output(output: str) -> Any:
    """Return the output of a tool as the client sent it: JSON if it is an object or a list, else text."""
    if output[:1] in {"{", "["} and (given := tool_input(output)) is not None:
        return given
    return output
