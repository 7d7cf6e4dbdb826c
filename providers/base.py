"""What a provider is asked and what it answers: requests, parts, deltas, usage, errors.

The part, tool and parameter shapes are also those of the wire (`docs/protocol.md`, "Shapes"), so that a part
travels from a client to a provider and back without being copied into another type.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta, Struct

Role = Literal["user", "assistant", "tool", "system"]
Effort = Literal["none", "low", "medium", "high", "max"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal"]
PartKind = Literal["text", "reasoning", "tool_call", "tool_result", "image", "file", "citation", "refusal"]
ErrorCode = Literal[
    "invalid_request",
    "unsupported",
    "context_length_exceeded",
    "content_filtered",
    "model_not_found",
    "upstream_auth",
    "upstream_rate_limited",
    "upstream_overloaded",
    "upstream_timeout",
    "upstream_error",
    "upstream_incomplete",
]


class TextPart(Struct, tag_field="kind", tag="text", forbid_unknown_fields=True, omit_defaults=True):
    """Plain text, markdown by convention."""

    text: str
    signature: str | None = None


class ReasoningPart(Struct, tag_field="kind", tag="reasoning", forbid_unknown_fields=True, omit_defaults=True):
    """What the model thought. `redacted`: the text is withheld and `signature` carries the opaque block."""

    text: str
    redacted: bool = False
    signature: str | None = None


class ToolCallPart(Struct, tag_field="kind", tag="tool_call", forbid_unknown_fields=True, omit_defaults=True):
    """The model asks for a tool. `arguments` is JSON text, as the model wrote it."""

    call: str
    name: str
    arguments: str
    signature: str | None = None


class ToolResultPart(Struct, tag_field="kind", tag="tool_result", forbid_unknown_fields=True, omit_defaults=True):
    """The answer to the tool call with id `call`. `error`: the output says what went wrong."""

    call: str
    output: str
    error: bool = False
    signature: str | None = None


class ImagePart(Struct, tag_field="kind", tag="image", forbid_unknown_fields=True, omit_defaults=True):
    """An image: base64 `data`, or a `url` that the provider (never the gateway) fetches."""

    media_type: str
    data: str | None = None
    url: str | None = None
    name: str | None = None
    signature: str | None = None


class FilePart(Struct, tag_field="kind", tag="file", forbid_unknown_fields=True, omit_defaults=True):
    """A document: base64 `data`, or a `url` that the provider (never the gateway) fetches."""

    media_type: str
    data: str | None = None
    url: str | None = None
    name: str | None = None
    signature: str | None = None


class CitationPart(Struct, tag_field="kind", tag="citation", forbid_unknown_fields=True, omit_defaults=True):
    """A source that the answer rests on."""

    url: str | None = None
    title: str | None = None
    text: str | None = None
    signature: str | None = None


class RefusalPart(Struct, tag_field="kind", tag="refusal", forbid_unknown_fields=True, omit_defaults=True):
    """The model declines, in its own words."""

    text: str
    signature: str | None = None


Part = TextPart | ReasoningPart | ToolCallPart | ToolResultPart | ImagePart | FilePart | CitationPart | RefusalPart


class ChatMessage(Struct, frozen=True):
    """One message of the context."""

    role: Role
    parts: tuple[Part, ...]

    def unsigned(self) -> ChatMessage:
        """The same without signatures: one model's are worth nothing to another, which refuses them."""
        bare = tuple(msgspec.structs.replace(part, signature=None) if part.signature else part for part in self.parts)
        return ChatMessage(self.role, bare)


class Tool(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A function that the model may call. `parameters` is a JSON schema of type object."""

    name: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
    description: str = ""
    parameters: dict[str, Any] = {}


class ToolName(Struct, frozen=True, forbid_unknown_fields=True):
    """A `tool_choice` that forces one tool."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | ToolName


class Params(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Tuning. What a model does not know is dropped by its dialect, which documents it."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    stop: Annotated[list[str], Meta(max_length=16)] | None = None
    seed: Annotated[int, Meta(ge=-(2**53), le=2**53)] | None = None
    reasoning: Effort | None = None
    response_format: dict[str, Any] | None = None
    demo: dict[str, Any] | None = None


class ResponseHandle(Struct, frozen=True, tag_field="type", tag="cursor"):
    """The provider makes this answer whether anybody listens or not: by `id` it can be heard again, or stopped.

    `route` is the id of the route that was asked. A delta without a part, before the first one.
    """

    route: str
    id: str


class ChatRequest(Struct, frozen=True, kw_only=True):
    """One question to one model. `model` is the provider's own name for it.

    `answered` is what the model had said when its answer broke off: go on from there. Only for a route with the
    feature "prefill", or with the `cursor` that came with that answer; deltas then continue it, and new parts are
    numbered behind it.

    `left_out`: so many messages of the history, the oldest, had no room.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    left_out: int = 0
    system: str | None = None
    params: Params = Params()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    answered: tuple[Part, ...] = ()
    cursor: ResponseHandle | None = None

    def going_on_from(self, answered: list[Part], cursor: ResponseHandle | None = None) -> ChatRequest:
        """The same question, with a part of its answer."""
        return msgspec.structs.replace(self, answered=tuple(answered), cursor=cursor)


class Usage(Struct, frozen=True, omit_defaults=True):
    """Tokens. Input includes the cached ones, output the reasoning."""

    input_tokens: int
    output_tokens: int
    reasoning_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    estimated: bool = False


class PartStarted(Struct, frozen=True, gc=False):
    """Part number `part` (0, 1, 2 …, in order) begins. The other fields are the whole fields of its kind."""

    part: int
    kind: PartKind
    call: str | None = None
    name: str | None = None
    url: str | None = None
    title: str | None = None
    text: str | None = None
    media_type: str | None = None
    redacted: bool = False


class PartDelta(Struct, frozen=True, gc=False):
    """More of part `part`: text (of a tool call: JSON arguments), or a piece of its signature; never both."""

    part: int
    text: str | None = None
    signature: str | None = None


class UsageReported(Struct, frozen=True):
    """What the provider counted so far, and what that costs in US dollars, if it says so; the last one wins."""

    usage: Usage
    cost: Decimal | None = None


class Finished(Struct, frozen=True):
    """The model stopped of itself. The last delta of a stream, except for a late `UsageReported`."""

    reason: FinishReason


Delta = PartStarted | PartDelta | UsageReported | Finished | ResponseHandle


class DeltaSink(Protocol):
    """Receives the batches of one answer, in order."""

    def take(self, batch: list[Delta]) -> bool:
        """Take a batch in the moment in which it is read, outside of any task. False: `put` has to take it."""

    async def put(self, batch: list[Delta]) -> None:
        """Take a batch, and wait until the next may come."""


async def give(batch: list[Delta], sink: DeltaSink) -> None:
    """Let `sink` take a batch."""
    if not sink.take(batch):
        await sink.put(batch)


class ProviderError(Exception):
    """A provider failed. `message` is ours, for a person, and holds no key, host name or raw body.

    `retryable` says whether the same request may succeed later; `detail` is for the log only. `said` is what is left
    of the provider's own sentence, for an operator who looks: it may speak of what it was asked, so no log has it.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        retryable: bool = False,
        retry_after_ms: int | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms
        self.detail = detail
        self.said = ""


class Provider(Protocol):
    """One way to reach models.

    `answer` gives `sink` the batches of one answer, one for each network read, and returns at its end. Raises
    `ProviderError`. Cancelling it closes the provider's connection before control returns.
    """

    async def answer(self, request: ChatRequest, sink: DeltaSink) -> None: ...

    async def aclose(self) -> None: ...
