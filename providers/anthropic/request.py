"""The conversion of a chat request to a request body of Anthropic's Messages API. This module does no I/O.

`seed` and the parameters in the quirk `drops` (`temperature`, `top_p`) are left out, because the API doesn't have
them or rejects them. Reasoning without a signature can't be sent back and is left out too.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final

from providers.anthropic.caching import add_breakpoints
from providers.anthropic.thinking import fit_thinking, thinking_fields
from providers.base import (
    ChatMessage,
    ChatRequest,
    CitationPart,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolName,
    ToolResultPart,
)
from providers.continuation import said_text
from providers.route import Route, find_schema

DEFAULT_MAX_TOKENS: Final = 32_000
UNLISTED_MAX_TOKENS: Final = 8_192
"""The default of `max_tokens` for a model whose limit isn't known."""
_DATA_URL: Final = re.compile(r"data:([\w.+-]{1,100}/[\w.+-]{1,100});base64,([A-Za-z0-9+/=]++)")
_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}


def messages_body(request: ChatRequest, route: Route) -> dict[str, Any]:
    """Return the arguments for `messages.create`. `Route.check` has already rejected what the API can't take."""
    params, quirks = request.params, route.quirks
    max_tokens = params.max_tokens or min(route.max_output or UNLISTED_MAX_TOKENS, DEFAULT_MAX_TOKENS)
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": max_tokens,
        "messages": [converted for message in request.messages if (converted := _message(message)) is not None],
        "stream": True,
    }
    if request.partial_answer:
        # The API refuses white space at the end of the answer to continue.
        start = said_text(request.partial_answer).rstrip()
        body["messages"].append({"role": "assistant", "content": [{"type": "text", "text": start}]})
    if system := _system(request):
        body["system"] = system
    for name, value in (("temperature", params.temperature), ("top_p", params.top_p)):
        if value is not None and name not in quirks.drops:
            body["extra_body"] = body.get("extra_body", {}) | {name: value}
    if params.stop:
        body["stop_sequences"] = params.stop
    body |= thinking_fields(request.params.reasoning, quirks, max_tokens)
    fit_thinking(body, quirks)
    if params.response_format is not None and (schema := find_schema(params.response_format)) is not None:
        body["output_config"] = body.get("output_config", {}) | {"format": {"type": "json_schema", "schema": schema}}
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.schema} for tool in request.tools
        ]
        if request.tool_choice is not None:
            body["tool_choice"] = (
                {"type": "tool", "name": request.tool_choice.name}
                if isinstance(request.tool_choice, ToolName)
                else {"type": _CHOICES[request.tool_choice]}
            )
    add_breakpoints(body, quirks.prompt_cache)
    return body


def _system(request: ChatRequest) -> str:
    """Return the system prompt and the system messages of the conversation as one text."""
    texts = [request.system or ""]
    for message in request.messages:
        if message.role == "system":
            texts.extend(part.text for part in message.parts if isinstance(part, TextPart))
    return "\n\n".join(filter(None, texts))


def _message(message: ChatMessage) -> dict[str, Any] | None:
    if message.role == "system":
        return None
    blocks = [block for part in message.parts if (block := _block(part)) is not None]
    # Reasoning is sent back with the block after it. The API rejects it as the last block.
    while message.role == "assistant" and blocks and blocks[-1]["type"] in ("thinking", "redacted_thinking"):
        blocks.pop()
    if not blocks:
        return None
    return {"role": "assistant" if message.role == "assistant" else "user", "content": blocks}


def _block(part: Part) -> dict[str, Any] | None:
    match part:
        case TextPart(text=text) | RefusalPart(text=text):
            # The API rejects a text block without text.
            return {"type": "text", "text": text} if text.strip() else None
        case ReasoningPart(signature=str(signature), redacted=True):
            return {"type": "redacted_thinking", "data": signature}
        case ReasoningPart(signature=str(signature)):
            return {"type": "thinking", "thinking": part.text, "signature": signature}
        case ToolCallPart():
            return {"type": "tool_use", "id": part.call, "name": part.name, "input": _input(part.arguments)}
        case ToolResultPart():
            result = {"type": "tool_result", "tool_use_id": part.call, "content": part.output}
            return result | {"is_error": True} if part.error else result
        case ImagePart():
            return {"type": "image", "source": _source(part)}
        case FilePart():
            document = {"type": "document", "source": _source(part)}
            return document | {"title": part.name} if part.name else document
        case ReasoningPart() | CitationPart():
            return None


def _source(part: ImagePart | FilePart) -> dict[str, Any]:
    """Return the `source` of a block.

    The API takes no data URLs, so a data URL is split into its media type and its base64 data. A text file is sent as
    plain text.
    """
    media_type, data = part.media_type, part.data
    if data is None and (match := _DATA_URL.fullmatch(part.url or "")):
        media_type, data = match.groups()
    if data is None:
        return {"type": "url", "url": part.url}
    if isinstance(part, FilePart) and media_type.startswith("text/"):
        text = base64.b64decode(data).decode("utf-8", "replace")
        return {"type": "text", "media_type": "text/plain", "data": text}
    return {"type": "base64", "media_type": media_type, "data": data}


def _input(arguments: str) -> dict[str, Any]:
    """Return a call's arguments as the object that the API needs, even if they are truncated JSON."""
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        parsed = None
    return parsed if isinstance(parsed, dict) else {"arguments": arguments}
