"""The conversion of a chat request to a request body of OpenAI's Responses API. This module does no I/O.

`stop` and `seed` are left out, because the API doesn't have them, and so are the parameters in the quirks `drops` and
`drops_thinking`.
"""

from __future__ import annotations

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
from providers.openai.request_parts import accepted, data_url, merge_texts, sdk_arguments
from providers.openai.responses_items import SIGNATURE_MARK
from providers.quirks import Quirks
from providers.route import Route

ENCRYPTED: Final = "reasoning.encrypted_content"

_SDK_PARAMETERS: Final = frozenset(
    {
        "model",
        "input",
        "instructions",
        "stream",
        "stream_options",
        "store",
        "include",
        "background",
        "temperature",
        "top_p",
        "max_output_tokens",
        "text",
        "reasoning",
        "tools",
        "tool_choice",
    }
)


def responses_arguments(request: ChatRequest, route: Route) -> dict[str, Any]:
    """Return the arguments for `responses.create`."""
    return sdk_arguments(responses_body(request, route), _SDK_PARAMETERS)


def retrieve_arguments(route: Route) -> dict[str, Any]:
    """Return the arguments for `responses.retrieve` that replay an answer as it was requested."""
    arguments: dict[str, Any] = {"stream": True} | route.quirks.stream_options
    return arguments | {"include": [ENCRYPTED]} if route.thinks else arguments


def responses_body(request: ChatRequest, route: Route) -> dict[str, Any]:
    """Return the whole request body.

    The provider stores nothing, except with the quirk `background`. Therefore the request asks for the encrypted
    reasoning, and sends back that of earlier answers.
    """
    quirks = route.quirks
    body: dict[str, Any] = {
        "model": request.model,
        "input": [item for message in request.messages for item in _items(message, quirks)],
        "stream": True,
        "store": False,
    }
    if route.thinks:
        body["include"] = [ENCRYPTED]
    if request.system:
        body["instructions"] = request.system
    if quirks.stream_options:
        body["stream_options"] = quirks.stream_options
    body |= _params(request.params, quirks)
    if reasoning := _reasoning(request.params, quirks):
        body["reasoning"] = reasoning
    if quirks.background:
        # An answer can be replayed only if the provider stores it.
        body |= {"background": True, "store": True}
    body |= quirks.body
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body |= quirks.tools_body
        if request.tool_choice is not None:
            choice = request.tool_choice
            body["tool_choice"] = {"type": "function", "name": choice.name} if isinstance(choice, ToolName) else choice
    return body


def _params(params: Params, quirks: Quirks) -> dict[str, Any]:
    values = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "max_output_tokens": params.max_tokens,
        "text": None if params.response_format is None else {"format": _format(params.response_format)},
    }
    return accepted(values, params.reasoning, quirks)


def _format(response_format: dict[str, Any]) -> dict[str, Any]:
    """Return `response_format` of Chat Completions as Responses needs it: with the schema one level higher."""
    inner = response_format.get("json_schema")
    return {"type": "json_schema", "name": "answer"} | inner if isinstance(inner, dict) else response_format


def _reasoning(params: Params, quirks: Quirks) -> dict[str, Any]:
    effort = params.reasoning
    if quirks.reasoning != "effort":
        return {}
    if effort is None:
        return {"summary": "auto"} if quirks.thinking_shown else {}
    name = quirks.efforts.get(effort, effort)
    return {"effort": name} if name == "none" else {"effort": name, "summary": "auto"}


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.schema,
        # The default is true, and most schemas don't meet the requirements of strict mode.
        "strict": False,
    }


def _items(message: ChatMessage, quirks: Quirks) -> list[dict[str, Any]]:
    """Return the items of one message: each tool call, tool result and reasoning is an item of its own."""
    if message.role == "assistant":
        return _answer_items(message.parts, quirks)
    items: list[dict[str, Any]] = [_result(part) for part in message.parts if isinstance(part, ToolResultPart)]
    pieces = [piece for part in message.parts if (piece := _piece(part)) is not None]
    if content := merge_texts(pieces, "input_text"):
        items.append({"role": "user" if message.role == "tool" else message.role, "content": content})
    return items


def _answer_items(parts: Sequence[Part], quirks: Quirks) -> list[dict[str, Any]]:
    """Return the items of an answer. Reasoning is sent only with an item after it.

    The API rejects reasoning alone, as at the end of an answer that was stopped.
    """
    items: list[dict[str, Any]] = []
    reasoning: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case ReasoningPart():
                reasoning += _reasoning_items(part, quirks)
                continue
            # A refusal is sent back as the model's text.
            case TextPart(text=str(text)) | RefusalPart(text=str(text)) if text.strip():
                item: dict[str, Any] = {"role": "assistant", "content": text}
            case ToolCallPart():
                arguments = part.arguments or "{}"
                item = {"type": "function_call", "call_id": part.call, "name": part.name, "arguments": arguments}
            case ToolResultPart():
                item = _result(part)
            case _:
                continue
        items += [*reasoning, item]
        reasoning = []
    return items


def _reasoning_items(part: ReasoningPart, quirks: Quirks) -> list[dict[str, Any]]:
    if part.signature is not None:
        name, _, encrypted = part.signature.rpartition(SIGNATURE_MARK)
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        item = {"type": "reasoning", "summary": summary, "encrypted_content": encrypted}
        return [item | {"id": name} if name else item]
    if quirks.reasoning_back and part.text:
        content = [{"type": "reasoning_text", "text": part.text}]
        return [{"type": "reasoning", "summary": [], "content": content}]
    return []


def _result(part: ToolResultPart) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": part.call, "output": part.output}


def _piece(part: Part) -> dict[str, Any] | None:
    match part:
        case TextPart(text=text) | RefusalPart(text=text):
            return {"type": "input_text", "text": text}
        case ImagePart():
            return {"type": "input_image", "detail": "auto", "image_url": data_url(part)}
        case FilePart(data=str()):
            return {"type": "input_file", "filename": part.name or "file", "file_data": data_url(part)}
        case FilePart():
            return {"type": "input_file", "file_url": part.url}
        case CitationPart() if part.text or part.url:
            return {"type": "input_text", "text": part.as_text()}
        case ToolCallPart() | ReasoningPart() | ToolResultPart() | CitationPart():
            return None
