"""Anthropic's Messages API: its requests, as `turn.start` or `turn.estimate`. No I/O."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final

import msgspec

from gateway.dialects.anthropic_errors import refuse
from gateway.dialects.anthropic_messages_content import Converted, ToolNames, convert_messages
from gateway.dialects.anthropic_messages_object import message_answer
from gateway.dialects.anthropic_messages_request import CountTokensRequest, MessagesRequest, ThinkingParam, ToolParam
from gateway.dialects.anthropic_messages_stream import MessagesStream
from gateway.dialects.base import Dialect, Start, checked, decode_request, unsupported
from gateway.dialects.conversation_header import new_input_from, with_conversation
from gateway.dialects.field_paths import with_input
from gateway.dialects.request_headers import Headers, turn_id
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import TurnStart
from providers.base import Effort, Params, Tool, ToolChoice, ToolName

EFFORTS: Final[dict[str, Effort]] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "max", "max": "max"}
BUDGETS: Final[tuple[tuple[int, Effort], ...]] = ((2_048, "low"), (8_192, "medium"), (16_384, "high"))
"""The most tokens for thinking that each effort stands for. More is `max`."""
CHOICES: Final[dict[str, ToolChoice]] = {"auto": "auto", "any": "required", "none": "none"}
OWN_NAMES: Final = {
    "input": "messages",
    "params.stop": "stop_sequences",
    "params.reasoning": "thinking",
    "params.response_format": "output_config.format",
}
_MESSAGE_PATH = re.compile(r"^messages\[(\d{1,9})\](?:\.parts(?:\[(\d{1,9})\])?)?")
_TOOL_PATH = re.compile(r"^(tools\[\d{1,9}\])\.parameters")

_decode: Final = msgspec.json.Decoder(MessagesRequest, float_hook=float).decode
_decode_count: Final = msgspec.json.Decoder(CountTokensRequest, float_hook=float).decode


def start_of(body: bytes, headers: Headers) -> Start:
    """Return the start for the body and the headers of a request. Raises `ApiError`."""
    request = decode_request(_decode, body)
    _check_supported(request)
    names = ToolNames()
    converted = convert_messages(request.system, request.messages, names)
    stateless = msgspec.structs.replace(
        _turn_start(request, converted, turn_id(headers, "msg_"), names), metadata=request.metadata
    )
    path = _paths(converted, new_input_from(stateless))
    start = with_conversation(stateless, headers)
    one_call = request.tool_choice is not None and request.tool_choice.disable_parallel_tool_use is True
    return Start(
        checked(start, path),
        answer=partial(message_answer, one_call=one_call, tool_names=names.original),
        translator=partial(MessagesStream, one_call=one_call, tool_names=names.original) if request.stream else None,
        path=path,
    )


def _check_supported(request: MessagesRequest) -> None:
    """Raise `ApiError` for a field that has no equivalent here, unless its value asks for nothing."""
    if request.n is not None and request.n != 1:
        raise unsupported("n", "A turn has one answer. Send 1, and start more turns instead.")
    for name in ("logprobs", "audio"):
        if getattr(request, name):
            raise unsupported(name)
    if request.thread is not None:
        raise unsupported("thread", "Send all messages in each request, or name a conversation in X-Conversation-Id.")
    if request.compaction is not None:
        raise unsupported("compaction", "Shorten the messages in the client.")


def count_of(body: bytes, headers: Headers) -> Start:
    """Return a start with the content of the request in a body, whose tokens are to be estimated. Raises `ApiError`."""
    request = decode_request(_decode_count, body)
    names = ToolNames()
    converted = convert_messages(request.system, request.messages, names)
    path = _paths(converted, 0)
    start = _turn_start(request, converted, turn_id(headers, "msg_"), names)
    return Start(checked(start, path), message_answer, path=path)


def _turn_start(request: CountTokensRequest, converted: Converted, turn: str, names: ToolNames) -> TurnStart:
    if request.input is not None:
        raise unsupported("input", "Send `messages`, or send this body to /v1/responses.")
    if request.functions:
        raise unsupported("functions", "Send `tools` instead.")
    if request.mcp_servers:
        raise unsupported("mcp_servers", "Call the servers in the client, and send their tools in `tools`.")
    return TurnStart(
        turn=turn,
        model=request.model,
        messages=converted.messages,
        system=converted.system,
        params=_params(request),
        tools=None if request.tools is None else [_tool(tool, n, names) for n, tool in enumerate(request.tools)],
        tool_choice=_tool_choice(request, names),
    )


def _params(request: CountTokensRequest) -> Params:
    params = Params(reasoning=_effort(request), response_format=_response_format(request))
    if not isinstance(request, MessagesRequest):
        return params
    return msgspec.structs.replace(
        params,
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=request.max_tokens,
        stop=request.stop_sequences,
        demo=request.demo,
    )


def _effort(request: CountTokensRequest) -> Effort | None:
    """Return the effort of reasoning. Without a number of tokens, thinking has the effort "high", as at Anthropic."""
    thinking = request.thinking
    named = request.output_config.effort if request.output_config is not None else None
    if named is not None and named not in EFFORTS:
        raise ApiError("invalid_request", f"`effort` must be one of {', '.join(EFFORTS)}.", path="output_config.effort")
    if thinking is not None and thinking.type == "disabled":
        return "none"
    if named is not None:
        return EFFORTS[named]
    return None if thinking is None else _thinking_effort(thinking)


def _thinking_effort(thinking: ThinkingParam) -> Effort:
    tokens = thinking.budget_tokens
    if thinking.type != "enabled" or tokens is None:
        return "high"
    return next((effort for tokens_max, effort in BUDGETS if tokens <= tokens_max), "max")


def _response_format(request: CountTokensRequest) -> dict[str, Any] | None:
    output = request.output_config
    found = request.output_format if output is None or output.format is None else output.format
    if found is None or found.get("type") != "json_schema":
        return found
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": found.get("schema") or {}}}


def _tool(tool: ToolParam, n: int, names: ToolNames) -> Tool:
    if tool.type not in {None, "custom"}:
        raise unsupported(f"tools[{n}].type", "Only tools that the client runs, with an `input_schema`, are.")
    return Tool(names.shorten(tool.name), tool.description or "", tool.input_schema or {})


def _tool_choice(request: CountTokensRequest, names: ToolNames) -> ToolChoice | None:
    choice = request.tool_choice
    if choice is None:
        return None
    if choice.type == "tool":
        if choice.name is None:
            raise ApiError("invalid_request", "Send the `name` of the tool.", path="tool_choice.name")
        return ToolName(names.shorten(choice.name))
    if choice.type not in CHOICES:
        raise unsupported("tool_choice.type", f"Send {', '.join(CHOICES)} or tool.")
    return CHOICES[choice.type]


def _paths(converted: Converted, input_from: int) -> Any:
    """Return the function that translates our paths to the names of this request's fields.

    `input_from`: the number of the first message that is the input, if the start is in a conversation.
    """
    origins = converted.origins
    inputs = [
        origin
        for message, places in zip(converted.messages[input_from:], origins[input_from:], strict=True)
        if message.role != "system"
        for origin in places
    ]

    def message_path(match: re.Match[str]) -> str:
        places = origins[int(match.group(1))] if int(match.group(1)) < len(origins) else []
        part = int(match.group(2) or 0)
        return places[part] if part < len(places) else "messages"

    def path(ours: str) -> str:
        if ours in OWN_NAMES:
            return OWN_NAMES[ours]
        ours = with_input(_MESSAGE_PATH.sub(message_path, ours.removeprefix("params.")), inputs, "messages")
        return _TOOL_PATH.sub(r"\1.input_schema", ours)

    return path


MESSAGES: Final = Dialect("messages", refuse)
