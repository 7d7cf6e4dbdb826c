"""The body of a request of Anthropic's Messages API."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Source(Struct):
    """The data of an image or a document, or its address. Its `type` says which field is present."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: str | list[Block] | None = None


class Block(Struct):
    """A block of a message's content. Its `type` says which fields are present."""

    type: str
    text: str | None = None
    source: Source | str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None
    tool_use_id: str | None = None
    content: str | list[Block] | None = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    title: str | None = None
    context: str | None = None


class MessageParam(Struct):
    """A message of the request."""

    role: str
    content: str | list[Block]


class SystemBlock(Struct):
    """A block of the system prompt."""

    text: str
    type: str = "text"


class ToolParam(Struct):
    """A tool that the model may call. Only those of the client are supported."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class ToolChoiceParam(Struct):
    """The choice of the tools that the model may or must use."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingParam(Struct):
    """The thinking of the model: its `type`, and the most tokens for it."""

    type: str
    budget_tokens: int | None = None


class OutputConfig(Struct):
    """The effort and the form of the answer."""

    effort: str | None = None
    format: dict[str, Any] | None = None


class CountTokensRequest(Struct):
    """A request to count the tokens of a message. Unknown fields are ignored."""

    messages: list[MessageParam]
    model: str | None = None
    system: str | list[SystemBlock] | None = None
    tools: list[ToolParam] | None = None
    tool_choice: ToolChoiceParam | None = None
    thinking: ThinkingParam | None = None
    output_config: OutputConfig | None = None
    output_format: dict[str, Any] | None = None
    mcp_servers: list[Any] | None = None
    input: Any = None
    functions: Any = None


class MessagesRequest(CountTokensRequest):
    """A request of Anthropic's Messages API. Unknown fields are ignored, so that newer clients can be served."""

    max_tokens: int | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: list[str] | None = None
    metadata: dict[str, Any] | None = None
    thread: Any = None
    compaction: Any = None
    n: Any = None
    logprobs: Any = None
    audio: Any = None
    demo: dict[str, Any] | None = None
