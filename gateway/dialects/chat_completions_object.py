"""The completion of OpenAI Chat Completions: its message, finish reason and usage. The chunks of a stream share them. No I/O."""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET, UnsetType

from gateway.dialects.base import Shaped, encode_json
from gateway.protocol.events import CancelledBy, Message
from gateway.protocol.ids import from_rfc3339
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

FINISH_REASONS: Final[dict[FinishReason, str]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "stop",
}


def completion(view: TurnView, *, one_call: bool = False) -> Shaped:
    """Return the answer of a turn that has ended without an error. With `one_call`, later tool calls are left out."""
    parts = [] if view.message is UNSET else view.message.parts
    body: dict[str, Any] = {
        "id": view.turn,
        "object": "chat.completion",
        "created": created_of(view),
        "model": view.model,
        "choices": [
            {
                "index": 0,
                "message": _message(parts, one_call),
                "logprobs": None,
                "finish_reason": finish_reason_of(view.finish_reason, view.message),
            }
        ],
    }
    if view.usage is not UNSET:
        body["usage"] = usage_body(view.usage)
    return Shaped(200, encode_json(body))


def _message(parts: list[Part], one_call: bool) -> dict[str, Any]:
    text = "".join([part.text for part in parts if isinstance(part, TextPart)])
    refusal = "".join([part.text for part in parts if isinstance(part, RefusalPart)])
    reasoning = "".join([part.text for part in parts if isinstance(part, ReasoningPart)])
    calls = [
        {"id": part.call, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in parts
        if isinstance(part, ToolCallPart)
    ]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text or (None if calls or refusal else ""),
        "refusal": refusal or None,
    }
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls[:1] if one_call else calls
    images = [
        image_body(part.url or f"data:{part.media_type};base64,{part.data}")
        for part in parts
        if isinstance(part, ImagePart)
    ]
    if images:
        message["images"] = images
    citations = [citation_body(part.url, part.title) for part in parts if isinstance(part, CitationPart) and part.url]
    if citations:
        message["annotations"] = citations
    return message


def finish_reason_of(reason: FinishReason | UnsetType, message: Message | UnsetType) -> str:
    """Return the finish reason of an answer."""
    if isinstance(reason, str):
        return FINISH_REASONS[reason]
    return reason_of_cancelled(message.by if isinstance(message, Message) else None)


def reason_of_cancelled(by: CancelledBy | None) -> str:
    """Return the finish reason of a cancelled turn: `length` if nobody chose to stop it, so that it doesn't look complete."""
    return "length" if by in {"limit", "disconnect"} else "stop"


def image_body(url: str) -> dict[str, Any]:
    """Return an image of an answer, as OpenAI-compatible servers send it."""
    return {"type": "image_url", "image_url": {"url": url}}


def citation_body(url: str, title: str | None) -> dict[str, Any]:
    """Return a citation in OpenAI's shape. Its place in the text isn't known, so both indexes are 0."""
    return {
        "type": "url_citation",
        "url_citation": {"url": url, "title": title or "", "start_index": 0, "end_index": 0},
    }


def created_of(view: TurnView) -> int:
    """Return the time at which the turn was accepted, in seconds since 1970."""
    return 0 if view.message is UNSET else from_rfc3339(view.message.created_at) // 1000


def usage_body(usage: Usage) -> dict[str, Any]:
    """Return usage in OpenAI's shape."""
    body: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    if usage.cache_read_tokens is not None:
        body["prompt_tokens_details"] = {"cached_tokens": usage.cache_read_tokens}
    if usage.reasoning_tokens is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return body
