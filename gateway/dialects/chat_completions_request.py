"""The body of a request of OpenAI Chat Completions."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class ImageUrl(Struct):
    """The address of an image."""

    url: str


class FileData(Struct):
    """A file: its data as a `data:` address, or the id of an upload."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class ContentPart(Struct):
    """A part of a message's content. Its `type` says which field is present."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    file: FileData | None = None


class CalledFunction(Struct):
    """The function of a tool call, with its arguments as JSON text."""

    name: str
    arguments: str = "{}"


class CalledTool(Struct):
    """A tool call of the model."""

    id: str
    function: CalledFunction | None = None


class ChatMessage(Struct):
    """A message of the request."""

    role: str
    content: str | list[ContentPart] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CalledTool] | None = None
    tool_call_id: str | None = None


class FunctionSpec(Struct):
    """The function of a tool."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolSpec(Struct):
    """A tool that the model may call. Only functions are supported."""

    type: str
    function: FunctionSpec | None = None


class NamedFunction(Struct):
    """The name of a function."""

    name: str


class NamedTool(Struct):
    """A choice of one tool."""

    type: str
    function: NamedFunction | None = None


class StreamOptions(Struct):
    """Options of a stream."""

    include_usage: bool | None = None


class ChatCompletionRequest(Struct):
    """A request of OpenAI Chat Completions. Unknown fields are ignored, as OpenAI-compatible servers do."""

    messages: list[ChatMessage]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    response_format: dict[str, Any] | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    metadata: dict[str, Any] | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, Any] | None = None
    audio: Any = None
    modalities: list[str] | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    parallel_tool_calls: bool | None = None
    input: Any = None
    system: Any = None
    demo: dict[str, Any] | None = None
