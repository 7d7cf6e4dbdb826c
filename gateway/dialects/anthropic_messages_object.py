"""The message of an answer of Anthropic's Messages API: its content blocks, why it stopped, and its usage. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import UNSET

from gateway.dialects.base import (
    Shaped,
    encode_json,
)
from gateway.protocol.events import (
    CancelledBy,
    Message,
)
from gateway.protocol.results import TurnView
from providers.base import (
    CitationPart,
    FinishReason,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    Usage,
)

Object = dict[str, Any]
NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})
NO_USAGE: Final = Usage(0, 0)
STOP_REASONS: Final[dict[FinishReason, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
}
_decode_object = msgspec.json.Decoder(dict[str, Any], float_hook=float).decode


def message_answer(view: TurnView, *, one_call: bool = False, tool_names: Mapping[str, str] = NO_NAMES) -> Shaped:
    """Return the answer of a turn that has ended without an error. With `one_call`, later tool calls are left out.

    `tool_names`: see `ToolNames`.
    """
    reason = view.finish_reason if isinstance(view.finish_reason, str) else None
    message = view.message if isinstance(view.message, Message) else None
    by, sequence = (None, None) if message is None else (message.by, message.stop_sequence)
    body = message_object(
        view.turn,
        view.model,
        content=[] if message is None else content_of(message.parts, one_call=one_call, tool_names=tool_names),
        usage=usage_object(NO_USAGE if view.usage is UNSET else view.usage),
        **stop_fields(reason, by, sequence),
    )
    return Shaped(200, encode_json(body))


def message_object(
    turn: str,
    model: str,
    *,
    content: list[Object],
    usage: Object,
    stop_reason: str | None = None,
    stop_sequence: str | None = None,
    stop_details: Object | None = None,
) -> Object:
    """Return a message of the assistant."""
    return {
        "id": turn,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "stop_details": stop_details,
        "usage": usage,
    }


def stop_fields(reason: FinishReason | None, by: CancelledBy | None, sequence: str | None = None) -> Object:
    """Return the fields that say why an answer stopped. Without `reason`, it was cancelled by `by`.

    `sequence`: the stop sequence at which it stopped, if that is known.
    """
    if sequence is not None and reason == "stop":
        return {"stop_reason": "stop_sequence", "stop_sequence": sequence, "stop_details": None}
    stopped = (
        ("max_tokens" if by in {"limit", "disconnect"} else "end_turn") if reason is None else STOP_REASONS[reason]
    )
    details = {"type": "refusal", "category": None, "explanation": None} if stopped == "refusal" else None
    return {"stop_reason": stopped, "stop_sequence": None, "stop_details": details}


def usage_object(usage: Usage) -> Object:
    """Return usage in Anthropic's shape, whose input excludes the cached tokens."""
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    found: Object = {
        "input_tokens": max(0, usage.input_tokens - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens is not None:
        found["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return found


def content_of(parts: list[Part], *, one_call: bool, tool_names: Mapping[str, str]) -> list[Object]:
    """Return the content blocks of a whole answer. With `one_call`, tool calls after the first are left out.

    `tool_names`: see `ToolNames`.
    """
    blocks: list[Object] = []
    citations: list[Object] = []
    for part in parts:
        if isinstance(part, CitationPart):
            if part.url:
                citations.append(citation_object(part.url, part.title, part.text))
        elif (block := _content_block(part, tool_names)) is not None:
            if not (one_call and block["type"] == "tool_use" and any(each["type"] == "tool_use" for each in blocks)):
                blocks.append(block)
        last = blocks[-1] if blocks else None
        if citations and last is not None and last["type"] == "text":
            last["citations"] = [*(last.get("citations") or ()), *citations]
            citations = []
    return blocks


def _content_block(part: Part, tool_names: Mapping[str, str]) -> Object | None:
    """Return the content block of a part, or None if it isn't shown."""
    match part:
        case TextPart() | RefusalPart():
            return {"type": "text", "text": part.text} if part.text else None
        case ReasoningPart(redacted=True):
            return {"type": "redacted_thinking", "data": part.signature or ""}
        case ReasoningPart():
            shown = part.text or part.signature
            return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""} if shown else None
        case ToolCallPart():
            arguments = arguments_of(part.arguments) if part.arguments else {}
            arguments = {"arguments": part.arguments} if arguments is None else arguments
            return tool_block(part.call, tool_names.get(part.name, part.name), arguments)
        case ImagePart(url=str(url)):
            return image_block(url)
        case ImagePart(data=str(data)):
            return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": data}}
    return None


def tool_block(call: str, name: str, arguments: Object) -> Object:
    """Return a tool call."""
    return {"type": "tool_use", "id": call, "name": name, "input": arguments}


def image_block(url: str) -> Object:
    """Return an image of an answer, in the shape of one in a request."""
    return {"type": "image", "source": {"type": "url", "url": url}}


def citation_object(url: str, title: str | None, text: str | None) -> Object:
    """Return a citation in the shape of one from a web search."""
    return {
        "type": "web_search_result_location",
        "url": url,
        "title": title,
        "cited_text": text or "",
        "encrypted_index": "",
    }


def arguments_of(text: str) -> Object | None:
    try:
        return _decode_object(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
