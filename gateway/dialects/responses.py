"""OpenAI Responses: the start of the turn that a request asks for, given the context that it continues. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.dialects.base import Dialect, Shaped, checked, decode_request, encode_json, unsupported
from gateway.dialects.chat_completions import EFFORTS
from gateway.dialects.field_paths import with_input, without_data
from gateway.dialects.ids import own_id
from gateway.dialects.openai_errors import error_object
from gateway.dialects.request_headers import TURN_HEADERS, Headers, on_disconnect
from gateway.dialects.responses_ids import CHAIN_PREFIX, new_response_id
from gateway.dialects.responses_input import Converted, convert_items
from gateway.dialects.responses_object import TURN_PREFIX, Object
from gateway.dialects.responses_request import NamedTool, ResponsesRequest, SocketRequest, TextSpec, settings_of
from gateway.protocol.errors import ApiError, ErrorBody
from gateway.protocol.requests import InputMessage, TurnStart
from providers.base import Effort, Params, Part, TextPart, Tool, ToolChoice, ToolName

_MESSAGE_PATH = re.compile(r"messages\[(\d{1,9})\](?:\.parts(?:\[(\d{1,9})\])?)?")


class Previous(Struct):
    """The context that a response continues.

    It is a stored `conversation` or `messages`, each with its `system` prompt. `parent` is the answer in the conversation
    that is continued; None if that is its newest message, whose id is then `head`. `is_new`: the conversation begins
    with the response.
    """

    conversation: str | None = None
    parent: str | None = None
    system: str | None = None
    head: str | None = None
    messages: list[InputMessage] | None = None
    is_new: bool = True


class Create(Struct):
    """A decoded request. `start` lacks only the context. `settings` are the fields that the response repeats."""

    turn: str
    request: ResponsesRequest
    start: TurnStart
    converted: Converted
    settings: Object
    path: Callable[[str], str]

    @property
    def system(self) -> list[str]:
        """The texts of all system messages in the input."""
        later = [message for message in self.converted.messages if message.role == "system"]
        texts = [part.text for message in later for part in message.parts if isinstance(part, TextPart)]
        return [*self.converted.system, *texts]

    @property
    def is_stored(self) -> bool:
        """Whether the response can be continued later."""
        return self.request.store is not False

    @property
    def conversation(self) -> str | None:
        """The id of the conversation that the client names."""
        named = self.request.named_conversation
        return None if named is None else own_id(CHAIN_PREFIX, named)


_decode: Final = msgspec.json.Decoder(ResponsesRequest, float_hook=float).decode
_decode_frame: Final = msgspec.json.Decoder(SocketRequest, float_hook=float).decode


def create_of(body: bytes, headers: Headers) -> Create:
    """Return the decoded request for the body and the headers. Raises `ApiError`."""
    request = decode_request(_decode, body)
    sent = next((value for name in TURN_HEADERS if (value := headers.get(name))), None)
    turn = None if sent is None else own_id(TURN_PREFIX, sent)
    return _create(request, turn or new_response_id(request.previous_response_id), headers)


def frame_of(data: bytes | str) -> SocketRequest:
    """Return the frame of a client on a socket. Raises `ApiError`."""
    encoded = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
    return decode_request(_decode_frame, encoded, is_frame=True)


def create_of_frame(request: SocketRequest, headers: Headers) -> Create:
    """Return the decoded request for a frame and the headers of the socket's opening. Raises `ApiError`."""
    for name in ("background", "stream"):
        if getattr(request, name):
            setattr(request, name, None)  # a socket always streams
    without_turn = {name: value for name, value in headers.items() if name not in TURN_HEADERS}
    return _create(
        request,
        new_response_id(request.previous_response_id),
        without_turn,
        is_answered=request.generate is not False,
    )


def _create(request: ResponsesRequest, turn: str, headers: Headers, *, is_answered: bool = True) -> Create:
    _check_supported(request)
    converted = convert_items(request.input, is_answered=is_answered)
    tools, choice = _tools(request), _tool_choice(request)
    if isinstance(request.tool_choice, NamedTool) and request.tool_choice.type == "allowed_tools":
        allowed = {tool.name for tool in request.tool_choice.tools or ()}
        tools = [tool for tool in tools or () if tool.name in allowed]
    start = TurnStart(
        turn=turn,
        model=request.model,
        params=_params(request),
        tools=tools or None,
        tool_choice=choice,
        on_disconnect=on_disconnect(headers, "continue" if request.background else "cancel"),
        metadata=request.metadata,
    )
    return Create(turn, request, start, converted, settings_of(request), _paths(converted))


def turn_start(create: Create, previous: Previous) -> TurnStart:
    """Return the start of the turn. Raises `ApiError`."""
    converted, instructions = create.converted, create.request.instructions
    changes: dict[str, Any]
    if previous.messages is not None:
        changes = {
            "messages": [*previous.messages, *converted.messages],
            "system": joined(instructions, previous.system, *converted.system) or None,
        }
    else:
        parts: list[Part] = []
        for message in converted.messages:
            parts += message.parts if message.role != "system" else ()
        changes = {
            "conversation": previous.conversation,
            "parent": previous.parent,
            "create": previous.parent is None,
            "input": parts,
            # An empty text means none, where the conversation's own prompt would be the default.
            "system": joined(instructions, previous.system, *create.system),
        }
    return checked(msgspec.structs.replace(create.start, **changes), create.path)


def joined(*texts: str | None) -> str:
    """Return the texts that aren't empty as one system prompt."""
    return "\n\n".join([text for text in texts if text])


def _check_supported(request: ResponsesRequest) -> None:
    """Raise `ApiError` for a field that has no equivalent here, or for two that exclude each other."""
    if request.messages is not None and request.input is None:
        raise ApiError(
            "invalid_request",
            "This is the address of Responses. Send `input`, or send `messages` to /v1/chat/completions.",
            path="messages",
        )
    if request.top_logprobs:
        raise unsupported("top_logprobs")
    if "message.output_text.logprobs" in (request.include or ()):
        raise unsupported("include", "Log probabilities aren't available.")
    if request.prompt is not None:
        raise unsupported("prompt", "Send `instructions` and `input` instead.")
    if request.previous_response_id is not None and request.named_conversation is not None:
        raise ApiError(
            "invalid_request",
            "`previous_response_id` and `conversation` can't be combined. Leave one of them out.",
            path="previous_response_id",
        )
    if request.background and request.store is False:
        raise ApiError("invalid_request", "`background` requires `store`. Leave `store` out.", path="background")
    if request.named_conversation is not None and request.store is False:
        raise ApiError("invalid_request", "`conversation` requires `store`. Leave `store` out.", path="store")


def _params(request: ResponsesRequest) -> Params:
    effort: Effort | None = None
    if request.reasoning is not None and request.reasoning.effort is not None:
        effort = EFFORTS.get(request.reasoning.effort)
        if effort is None:
            raise ApiError("invalid_request", f"`effort` must be one of {', '.join(EFFORTS)}.", path="reasoning.effort")
    return Params(
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=request.max_output_tokens,
        reasoning=effort,
        response_format=_response_format(request.text),
        demo=request.demo,
    )


def _response_format(text: TextSpec | None) -> dict[str, Any] | None:
    """Return the format of the text in the form of Chat Completions, which is ours."""
    if text is None or text.format is None or text.format.get("type") == "text":
        return None
    if text.format.get("type") != "json_schema":
        return text.format
    inner = {name: value for name, value in text.format.items() if name != "type" and value is not None}
    return {"type": "json_schema", "json_schema": {"name": "answer", **inner}}


def _tools(request: ResponsesRequest) -> list[Tool] | None:
    if request.tools is None:
        return None
    tools = []
    for n, tool in enumerate(request.tools):
        if tool.type != "function":
            raise unsupported(f"tools[{n}].type", "Only tools of the type `function` are.")
        if tool.name is None:
            raise ApiError("invalid_request", "The tool has no `name`. Send it.", path=f"tools[{n}].name")
        tools.append(Tool(tool.name, tool.description or "", tool.parameters or {}))
    return tools


def _tool_choice(request: ResponsesRequest) -> ToolChoice | None:
    choice = request.tool_choice
    if not isinstance(choice, NamedTool):
        return choice
    if choice.type == "allowed_tools":
        return choice.mode
    if choice.type != "function" or choice.name is None:
        raise unsupported("tool_choice.type", "Send auto, none, required, a function or allowed_tools.")
    return ToolName(choice.name)


def _paths(converted: Converted) -> Callable[[str], str]:
    """Return the function that translates our paths to the names of this request's fields."""
    own_names = {
        "params.max_tokens": "max_output_tokens",
        "params.reasoning": "reasoning.effort",
        "messages": "input",
        "parent": "previous_response_id",
    }
    inputs = [
        f"input[{n}]"
        for message, numbers in zip(converted.messages, converted.origins, strict=False)
        for n in numbers
        if message.role != "system"
    ]

    def item(message: int, part: int) -> str:
        known = message < len(converted.origins)
        numbers = converted.origins[message] if known else []
        return f"input[{numbers[part]}]" if part < len(numbers) else "input"

    def path(ours: str) -> str:
        if ours in own_names:
            return own_names[ours]
        ours = without_data(ours.removeprefix("params."))
        if _MESSAGE_PATH.match(ours):
            return _MESSAGE_PATH.sub(lambda match: item(int(match[1]), int(match[2] or 0)), ours)
        ours = with_input(ours, inputs, "input")
        return ours.replace("response_format", "text.format") if ours.startswith("response_format") else ours

    return path


def is_missing_previous(error: ErrorBody) -> bool:
    """Return whether the error says that there is no response with the id `previous_response_id`."""
    return error.code == "not_found" and error.path == "previous_response_id"


def refuse(error: ErrorBody, status: int) -> Shaped:
    """Return the answer of a refused or failed request."""
    if is_missing_previous(error):
        status = 400  # as at OpenAI
    return Shaped(status, encode_json({"error": error_object(error, status)}))


RESPONSES: Final = Dialect("responses", refuse)
