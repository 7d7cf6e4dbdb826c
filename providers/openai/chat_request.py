"""The conversion of a chat request to the body of OpenAI's Chat Completions. It does no I/O.

The parameters in the quirks `drops` and `drops_thinking` are left out, because the model rejects them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from providers.base import (
    ChatMessage,
    ChatRequest,
    CitationPart,
    FilePart,
    ImagePart,
    Params,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolName,
    ToolResultPart,
)
from providers.route import Quirks, Route

# The SDK has parameters for these. Every other field goes into its `extra_body`.
_NAMED = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "response_format",
        "reasoning_effort",
        "tools",
        "tool_choice",
    }
)


def chat_arguments(request: ChatRequest, route: Route) -> dict[str, Any]:
    """Return the arguments for `chat.completions.create`."""
    body = chat_body(request, route)
    extra = {name: body.pop(name) for name in list(body) if name not in _NAMED}
    return body | {"extra_body": extra} if extra else body


def chat_body(request: ChatRequest, route: Route) -> dict[str, Any]:
    """Return the whole request body."""
    quirks = route.quirks
    messages: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
    for message in request.messages:
        messages.extend(_messages(message, quirks))
    body: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        "stream": True,
    }
    if quirks.usage_asked:
        body["stream_options"] = {"include_usage": True} | quirks.stream_options
    body |= _tuning(request.params, quirks)
    body |= _reasoning(request, quirks)
    body |= quirks.body
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body |= quirks.tools_body
        if request.tool_choice is not None:
            choice = request.tool_choice
            body["tool_choice"] = (
                {"type": "function", "function": {"name": choice.name}} if isinstance(choice, ToolName) else choice
            )
    return body


def _tuning(params: Params, quirks: Quirks) -> dict[str, Any]:
    drops = quirks.drops if params.reasoning == "none" else quirks.drops | quirks.drops_thinking
    given = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        quirks.max_tokens_field: params.max_tokens,
        "stop": params.stop,
        "seed": params.seed,
        "response_format": params.response_format,
    }
    return {
        quirks.renames.get(name, name): value
        for name, value in given.items()
        if value is not None and name not in drops
    }


def _reasoning(request: ChatRequest, quirks: Quirks) -> dict[str, Any]:
    effort = request.params.reasoning
    if request.tools and quirks.tools_without_reasoning:
        return {"reasoning_effort": "none"}
    if effort is None:
        return {}
    match quirks.reasoning:
        case "effort":
            return {"reasoning_effort": quirks.efforts.get(effort, effort)}
        case "nested":
            return {"reasoning": {"effort": quirks.efforts.get(effort, effort)}}
        case "thinking":
            return {"thinking": {"type": quirks.thinking_off if effort == "none" else "enabled"}}
        case "toggle":
            budget = quirks.budgets.get(effort)
            return {"enable_thinking": effort != "none"} | ({"thinking_budget": budget} if budget else {})
    return {}


def _tool(tool: Tool) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def _messages(message: ChatMessage, quirks: Quirks) -> list[dict[str, Any]]:
    """Return the provider's messages for one of ours: one message, plus one for each tool result."""
    results: list[dict[str, Any]] = [
        {"role": "tool", "tool_call_id": part.call, "content": part.output}
        for part in message.parts
        if isinstance(part, ToolResultPart)
    ]
    if message.role == "assistant":
        return [*_assistant(message.parts, quirks), *results]
    rest = [part for part in message.parts if not isinstance(part, ToolResultPart)]
    if rest:
        role = "user" if message.role == "tool" else message.role
        results.append({"role": role, "content": _content(rest)})
    return results


def _assistant(parts: tuple[Part, ...], quirks: Quirks) -> list[dict[str, Any]]:
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    refusal = "".join(part.text for part in parts if isinstance(part, RefusalPart))
    thought = "".join(part.text for part in parts if isinstance(part, ReasoningPart) and not part.redacted)
    calls = [_call(part, quirks) for part in parts if isinstance(part, ToolCallPart)]
    # A refusal is sent back as the model's text, because few providers have a field for it.
    said: dict[str, Any] = {"role": "assistant", "content": text or refusal or None}
    if calls:
        said["tool_calls"] = calls
    if quirks.reasoning_back and (thought or calls):
        said["reasoning_content"] = thought
    if quirks.reasoning_details and (details := _details(parts)):
        said["reasoning_details"] = details
    return [said] if text or refusal or calls else []


def _call(part: ToolCallPart, quirks: Quirks) -> dict[str, Any]:
    function = {"name": part.name, "arguments": part.arguments or "{}"}
    call = {"id": part.call, "type": "function", "function": function}
    if quirks.signed_calls and part.signature:
        call["extra_content"] = {"google": {"thought_signature": part.signature}}
    return call


def _details(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return the reasoning details from the parts' signatures and texts (see `chat_chunks`)."""
    details: list[dict[str, Any]] = []
    for part in parts:
        if not isinstance(part, ReasoningPart):
            continue
        try:
            detail = json.loads(part.signature or "")
        except (ValueError, RecursionError):
            continue
        if not isinstance(detail, dict):
            continue
        if detail.get("type") == "reasoning.text":
            detail["text"] = part.text
        elif part.text:
            details.append({"type": "reasoning.summary", "summary": part.text})
        details.append(detail)
    return details


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    pieces = [piece for part in parts if (piece := _piece(part)) is not None]
    if all(piece["type"] == "text" for piece in pieces):
        return "\n\n".join(piece["text"] for piece in pieces)
    return pieces


def _piece(part: Part) -> dict[str, Any] | None:
    match part:
        case TextPart() | RefusalPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            url = f"data:{part.media_type};base64,{part.data}" if part.data is not None else part.url
            return {"type": "image_url", "image_url": {"url": url}}
        case CitationPart() if part.text or part.url:
            return {"type": "text", "text": " ".join(filter(None, (part.title, part.text, part.url)))}
        case ToolCallPart():
            return {"type": "text", "text": json.dumps({"tool": part.name, "arguments": part.arguments})}
        case FilePart():
            data = f"data:{part.media_type};base64,{part.data}"
            return {"type": "file", "file": {"filename": part.name or "file", "file_data": data}}
        case ReasoningPart() | ToolResultPart() | CitationPart():
            return None
