"""The request of OpenAI Responses, and what a response repeats of it."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from gateway.dialects.responses_object import DEFAULTS, Object

UNTYPED_SETTINGS: Final = ("prompt_cache_key", "safety_identifier", "service_tier", "truncation", "user")
NAME_CHARS_MAX: Final = 512


class Content(Struct):
    """A part of an item's content. Its `type` says which field is present."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None


class InputItem(Struct):
    """An item of the input: a message, a call of a function, its output, reasoning, or an image of an answer."""

    type: str | None = None
    role: str | None = None
    content: str | list[Content] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Any = None
    output: Any = None
    summary: list[Content] | None = None
    encrypted_content: str | None = None
    result: str | None = None
    url: str | None = None
    output_format: str | None = None


class ToolSpec(Struct):
    """A tool that the model may call. Only functions are supported."""

    type: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedTool(Struct):
    """A choice of one function, or of some of the tools."""

    type: str
    name: str | None = None
    mode: Literal["auto", "none", "required"] = "auto"
    tools: list[ToolSpec] | None = None


class ReasoningSpec(Struct):
    """The effort of reasoning."""

    effort: str | None = None
    summary: str | None = None


class TextSpec(Struct):
    """The form of the text."""

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ConversationRef(Struct):
    """The conversation of a response."""

    id: str


class ResponsesRequest(Struct):
    """A request of OpenAI Responses. Unknown fields are ignored, as compatible servers do."""

    model: str | None = None
    input: str | list[InputItem] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationRef | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    reasoning: ReasoningSpec | None = None
    text: TextSpec | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, Any] | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    messages: Any = None
    prompt: Any = None
    prompt_cache_key: Any = None
    safety_identifier: Any = None
    service_tier: Any = None
    truncation: Any = None
    user: Any = None
    demo: dict[str, Any] | None = None

    @property
    def named_conversation(self) -> str | None:
        """The conversation that the client names. An empty name is none."""
        named = self.conversation.id if isinstance(self.conversation, ConversationRef) else self.conversation
        return named or None


class SocketRequest(ResponsesRequest):
    """A frame of a client on a socket. Those with the same `stream_id` are answered in order.

    If `generate` is false, no model is asked yet.
    """

    type: str = ""
    stream_id: str | None = None
    generate: bool | None = None


def settings_of(request: ResponsesRequest) -> Object:
    """Return the values of the fields in `DEFAULTS` that aren't the default ones."""
    text, reasoning = request.text, request.reasoning
    found: Object = {
        "background": request.background,
        "conversation": None if request.named_conversation is None else {"id": request.named_conversation},
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "metadata": request.metadata,
        "parallel_tool_calls": request.parallel_tool_calls,
        "previous_response_id": request.previous_response_id,
        "reasoning": None if reasoning is None else {"effort": reasoning.effort, "summary": reasoning.summary},
        "store": request.store,
        "temperature": request.temperature,
        "text": None if text is None else _text_settings(text),
        "tool_choice": _choice_settings(request),
        "tools": [_tool_settings(tool) for tool in request.tools or ()],
        "top_p": request.top_p,
        **{
            name: value
            for name in UNTYPED_SETTINGS
            if isinstance(value := getattr(request, name), str) and len(value) <= NAME_CHARS_MAX
        },
    }
    return {name: value for name, value in found.items() if value is not None and value != DEFAULTS[name]}


def _text_settings(text: TextSpec) -> Object:
    found: Object = {"format": text.format or {"type": "text"}}
    return found if text.verbosity is None else {**found, "verbosity": text.verbosity}


def _choice_settings(request: ResponsesRequest) -> Any:
    choice = request.tool_choice
    if not isinstance(choice, NamedTool):
        return choice
    if choice.type == "allowed_tools":
        tools = [{"type": tool.type, "name": tool.name} for tool in choice.tools or ()]
        return {"type": "allowed_tools", "mode": choice.mode, "tools": tools}
    return {"type": "function", "name": choice.name}


def _tool_settings(tool: ToolSpec) -> Object:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters or {},
        "strict": tool.strict is not False,
    }
