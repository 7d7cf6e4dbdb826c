"""The chunks of OpenAI's Chat Completions API, as msgspec decodes them: the fields that hosts use. Without I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from providers.media import MediaPiece


class Function(Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | list[Any] | None = None


class Google(Struct, gc=False):
    thought_signature: str | None = None
    thought: bool | None = None


class Extra(Struct, gc=False):
    google: Google | None = None


class ToolCall(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: Function | None = None
    extra_content: Extra | None = None


class Piece(MediaPiece, gc=False):
    """A piece of list content, or a reasoning detail."""

    type: str = ""
    text: str | dict[str, Any] | None = None
    refusal: str | None = None
    thinking: Any = None
    reasoning: Any = None
    reasoning_text: Any = None
    reasoning_content: Any = None
    thought: Any = None
    summary: Any = None
    content: Any = None
    data: str | None = None
    signature: str | None = None
    id: str | None = None
    format: str | None = None
    index: int | None = None

    @property
    def words(self) -> str:
        """The text of the piece, which some hosts give as an object with the field `value`."""
        text = self.text or (self.content if self.type in ("", "text") else None)
        if isinstance(text, dict):
            text = text.get("value") or text.get("text")
        return text if isinstance(text, str) else ""


class Cited(Struct, gc=False):
    url: str | None = None
    title: str | None = None


class Annotation(Struct, gc=False):
    url_citation: Cited | None = None


Content = str | list[Piece | str] | Piece | None


class Delta(Struct, gc=False):
    content: Content = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_text: Any = None
    thinking: Any = None
    thinking_blocks: Any = None
    reasoning_details: list[Piece | str] | Piece | str | None = None
    thoughts: Any = None
    thought: Any = None
    reasoning_summary: Any = None
    extra_content: Extra | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | ToolCall | None = None
    function_call: Function | None = None
    annotations: list[Annotation] | None = None
    images: Any = None
    image: Any = None
    image_url: Any = None
    audio: Any = None
    multi_mod_content: list[Piece | str] | Piece | None = None
    """The content again as a list, with its images, from hosts whose `content` is always a text."""


class Choice(Struct, gc=False):
    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class Chunk(Struct, gc=False):
    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    citations: list[str] | None = None
    error: Any = None
    base_resp: Any = None
    """MiniMax's status of the answer, in every chunk or in the last one."""


_HOSTED_TYPES: Final = (
    "builtin",
    "server",
    "hosted",
    "mcp",
    "search",
    "retrieval",
    "code_interpreter",
    "code_execution",
    "browser",
    "drawing_tool",
)
"""Words in the types of the tools that Kimi, GLM, xAI and other providers run themselves."""

chunk_decoder = msgspec.json.Decoder(Chunk, float_hook=float)
_EMPTY_DELTAS = (Delta(), Delta(content=""), Delta(content="", reasoning_content=""))


def has_content(chunk: Chunk) -> bool:
    """Return whether a chunk shows progress: it says something, ends the answer, or reports usage."""
    for choice in chunk.choices or ():
        delta = choice.delta
        if delta is not None and (delta.content or delta not in _EMPTY_DELTAS):
            return True
        if choice.finish_reason or choice.message is not None:
            return True
    return not chunk.choices and bool(chunk.usage)


def calls_of(delta: Delta) -> Sequence[ToolCall]:
    """Return the tool calls of a delta. Some hosts send a single call without a list."""
    calls = delta.tool_calls
    return [calls] if isinstance(calls, ToolCall) else calls or ()


def is_hosted_type(call_type: str | None) -> bool:
    """Return whether a call's type says that the provider runs it itself."""
    if call_type is None or call_type == "function":
        return False
    return any(word in call_type for word in _HOSTED_TYPES)


def is_marked_as_thought(extra: Extra) -> bool:
    """Return whether Google marks the text as a thought."""
    return extra.google is not None and extra.google.thought is True


def signature_of(call: ToolCall) -> str:
    """Return Google's signature of a call, or an empty text."""
    google = call.extra_content.google if call.extra_content else None
    return (google.thought_signature if google else None) or ""


def encode_detail(detail: Piece) -> str:
    """Return a reasoning detail as JSON, as it has to be sent back, without its text, which is in the part."""
    fields = ("type", "signature", "data", "id", "format", "index")
    return json.dumps({name: value for name in fields if (value := getattr(detail, name)) is not None})
