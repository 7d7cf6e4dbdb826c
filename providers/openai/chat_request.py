"""The conversion of a chat request to a request body of OpenAI's Chat Completions API. This module does no I/O.

The parameters in the quirks `drops` and `drops_thinking` are left out, because the model rejects them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

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
from providers.continuation import said_text
from providers.openai.request_parts import accepted, data_url, merge_texts, sdk_arguments
from providers.quirks import Quirks
from providers.route import Route

NO_THOUGHT: Final = " "
"""The reasoning of a message that has tool calls but no reasoning. Kimi and DeepSeek treat an empty one as missing."""
_SDK_PARAMETERS: Final = frozenset(
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
    return sdk_arguments(chat_body(request, route), _SDK_PARAMETERS)


def chat_body(request: ChatRequest, route: Route) -> dict[str, Any]:
    """Return the whole request body."""
    quirks = route.quirks
    messages: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
    for message in request.messages:
        messages.extend(_messages(message, quirks))
    if request.partial_answer:
        messages.append(_prefix(request, quirks))
    body: dict[str, Any] = {"model": request.model, "messages": messages, "stream": True}
    if quirks.usage_asked:
        body["stream_options"] = {"include_usage": True} | quirks.stream_options
    body |= _params(request.params, quirks)
    body |= _reasoning(request, quirks)
    body |= quirks.body
    if request.partial_answer:
        body |= quirks.prefill_body
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body |= quirks.tools_body
        if request.tool_choice is not None:
            choice = request.tool_choice
            body["tool_choice"] = (
                {"type": "function", "function": {"name": choice.name}} if isinstance(choice, ToolName) else choice
            )
    return body


def _prefix(request: ChatRequest, quirks: Quirks) -> dict[str, Any]:
    """Return the last message: the start of the answer, which the model continues."""
    message: dict[str, Any] = {"role": "assistant", "content": said_text(request.partial_answer)}
    return message | {quirks.prefill_mark: True} if quirks.prefill_mark else message


def _params(params: Params, quirks: Quirks) -> dict[str, Any]:
    values = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        quirks.max_tokens_field: params.max_tokens,
        "stop": params.stop,
        "seed": params.seed,
        "response_format": params.response_format,
    }
    values = accepted(values, params.reasoning, quirks)
    return {quirks.renames.get(name, name): value for name, value in values.items()}


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
    function = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    return {"type": "function", "function": function}


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
        pieces = [piece for part in rest if (piece := _piece(part)) is not None]
        results.append({"role": role, "content": merge_texts(pieces, "text")})
    return results


def _assistant(parts: tuple[Part, ...], quirks: Quirks) -> list[dict[str, Any]]:
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    refusal = "".join(part.text for part in parts if isinstance(part, RefusalPart))
    thought = "".join(part.text for part in parts if isinstance(part, ReasoningPart) and not part.redacted)
    calls = [_call(part, quirks) for part in parts if isinstance(part, ToolCallPart)]
    if calls and quirks.unsigned_call and not any("extra_content" in call for call in calls):
        calls[0]["extra_content"] = {"google": {"thought_signature": quirks.unsigned_call}}
    # A refusal is sent back as the model's text, because few providers have a field for it.
    answer: dict[str, Any] = {"role": "assistant", "content": text or refusal or None}
    if calls:
        answer["tool_calls"] = calls
    if quirks.reasoning_back and (thought or calls):
        answer["reasoning_content"] = thought or NO_THOUGHT
    if quirks.reasoning_details and (details := _details(parts)):
        _link_details(details, calls)
        answer["reasoning_details"] = details
    return [answer] if text or refusal or calls else []


def _call(part: ToolCallPart, quirks: Quirks) -> dict[str, Any]:
    function = {"name": part.name, "arguments": part.arguments or "{}"}
    call = {"id": part.call, "type": "function", "function": function}
    if quirks.signed_calls and part.signature:
        call["extra_content"] = {"google": {"thought_signature": part.signature}}
    return call


def _details(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return the reasoning details from the parts' signatures and texts (see `reasoning_fields`)."""
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


def _link_details(details: list[dict[str, Any]], calls: list[dict[str, Any]]) -> None:
    """Replace the ids of calls in Gemini's details with the ids that these calls have now. Both have the same order."""
    new_ids = [call["id"] for call in calls]
    linked: dict[str, str] = {}
    for detail in details:
        named = detail.get("id")
        if isinstance(named, str) and str(detail.get("format")).startswith("google-gemini"):
            if named not in linked:
                linked[named] = new_ids[len(linked)] if len(linked) < len(new_ids) else named
            detail["id"] = linked[named]


def _piece(part: Part) -> dict[str, Any] | None:
    match part:
        case TextPart() | RefusalPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            return {"type": "image_url", "image_url": {"url": data_url(part)}}
        case CitationPart() if part.text or part.url:
            return {"type": "text", "text": part.as_text()}
        case ToolCallPart():
            return {"type": "text", "text": json.dumps({"tool": part.name, "arguments": part.arguments})}
        case FilePart():
            return {"type": "file", "file": {"filename": part.name or "file", "file_data": data_url(part)}}
        case ReasoningPart() | ToolResultPart() | CitationPart():
            return None
