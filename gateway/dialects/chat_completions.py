"""OpenAI Chat Completions: the start of the turn that a request asks for. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from gateway.dialects.base import Dialect, Start, checked, decode_request, unsupported
from gateway.dialects.chat_completions_messages import Converted, convert_messages
from gateway.dialects.chat_completions_object import completion
from gateway.dialects.chat_completions_request import ChatCompletionRequest, NamedTool, ToolSpec
from gateway.dialects.chat_completions_stream import ChatStream
from gateway.dialects.conversation_header import new_input_from, with_conversation
from gateway.dialects.field_paths import with_input, with_messages, without_data
from gateway.dialects.openai_errors import refuse
from gateway.dialects.request_headers import Headers, turn_id
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import TurnStart
from providers.base import Effort, Params, Tool, ToolChoice, ToolName

EFFORTS: Final[dict[str, Effort]] = {
    "none": "none",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}
_TOOL_PATH = re.compile(r"^(tools\[\d{1,9}\])\.(name|parameters)")


_decode: Final = msgspec.json.Decoder(ChatCompletionRequest, float_hook=float).decode


def start_of(body: bytes, headers: Headers) -> Start:
    """Return the start for the body and the headers of a request. Raises `ApiError`."""
    request = decode_request(_decode, body)
    _check_supported(request)
    converted = convert_messages(request.messages)
    stateless = TurnStart(
        turn=turn_id(headers, "chatcmpl-"),
        model=request.model,
        messages=converted.messages,
        system=converted.system,
        params=_params(request),
        tools=None if request.tools is None else [_tool(tool, n) for n, tool in enumerate(request.tools)],
        tool_choice=_tool_choice(request),
        metadata=request.metadata,
    )
    path = _paths(request, converted, new_input_from(stateless))
    start = with_conversation(stateless, headers)
    options = request.stream_options
    with_usage = options is not None and options.include_usage is True
    with_ids, one_call = start.on_disconnect == "continue", request.parallel_tool_calls is False
    return Start(
        checked(start, path),
        answer=partial(completion, one_call=one_call),
        translator=partial(ChatStream, with_usage=with_usage, with_ids=with_ids, one_call=one_call)
        if request.stream
        else None,
        path=path,
    )


def _check_supported(request: ChatCompletionRequest) -> None:
    """Raise `ApiError` for a field that has no equivalent here, unless its value asks for nothing."""
    if request.n not in {None, 1}:
        raise unsupported("n", "A turn has one answer. Send 1, and start more turns instead.")
    if request.logprobs or request.top_logprobs:
        raise unsupported("logprobs" if request.logprobs else "top_logprobs")
    if request.audio is not None:
        raise unsupported("audio")
    if any(modality != "text" for modality in request.modalities or ()):
        raise unsupported("modalities", 'Only ["text"] is.')
    if request.logit_bias:
        raise unsupported("logit_bias")
    if request.functions:
        raise unsupported("functions", "Send `tools` instead.")
    if request.input is not None:
        raise unsupported("input", "Send `messages`, or send this body to /v1/responses.")
    if request.system is not None:
        raise unsupported("system", "Send a message with the role `system`, or send this body to /v1/messages.")
    if request.function_call is not None:
        raise unsupported("function_call", "Send `tool_choice` instead.")


def _params(request: ChatCompletionRequest) -> Params:
    effort = request.reasoning_effort
    if effort is not None and effort not in EFFORTS:
        raise ApiError(
            "invalid_request", f"`reasoning_effort` must be one of {', '.join(EFFORTS)}.", path="reasoning_effort"
        )
    max_tokens = request.max_completion_tokens
    return Params(
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=request.max_tokens if max_tokens is None else max_tokens,
        stop=[request.stop] if isinstance(request.stop, str) else request.stop,
        seed=request.seed,
        reasoning=None if effort is None else EFFORTS[effort],
        response_format=request.response_format,
        demo=request.demo,
    )


def _tool(tool: ToolSpec, n: int) -> Tool:
    if tool.function is None:
        raise unsupported(f"tools[{n}].type", "Only tools of the type `function` are.")
    return Tool(tool.function.name, tool.function.description or "", tool.function.parameters or {})


def _tool_choice(request: ChatCompletionRequest) -> ToolChoice | None:
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        if choice.function is None:
            raise unsupported("tool_choice.type", "Send auto, none, required or a function.")
        return ToolName(choice.function.name)
    return choice


def _paths(request: ChatCompletionRequest, converted: Converted, input_from: int) -> Callable[[str], str]:
    """Return the function that translates our paths to the names of this request's fields.

    `input_from`: the number of the first message that is the input, if the start is in a conversation.
    """
    max_tokens = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    own_names = {"params.max_tokens": max_tokens, "params.reasoning": "reasoning_effort"}
    inputs = [
        f"messages[{origin}].content[{n}]" if message.role == "user" else f"messages[{origin}]"
        for message, origin in zip(converted.messages[input_from:], converted.origins[input_from:], strict=True)
        if message.role != "system"
        for n in range(len(message.parts))
    ]

    def path(ours: str) -> str:
        if ours in own_names:
            return own_names[ours]
        ours = with_messages(without_data(ours.removeprefix("params.")), converted.origins)
        ours = with_input(ours, inputs, "messages")
        return _TOOL_PATH.sub(r"\1.function.\2", ours.replace("].parts", "].content"))

    return path


CHAT_COMPLETIONS: Final = Dialect("chat_completions", refuse)
