"""The body of a request of OpenAI Chat Completions."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from gateway.dialects.chat_completions_messages import ChatMessage


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
