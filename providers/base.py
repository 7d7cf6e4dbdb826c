"""The data types of a provider call: requests, parts, deltas, usage and errors.

The part, tool and parameter shapes are also those of the wire protocol (`docs/protocol.md`, "Data types"), so the parts
that a client sends reach a dialect without being copied into another type.
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


class _Part(Struct, tag_field="kind", forbid_unknown_fields=True, omit_defaults=True):
    """The base of all parts."""


class _MediaPart(_Part):
    """The base of the parts that have either `data` or a `url`."""

    media_type: str
    data: str | None = None
    url: str | None = None
    name: str | None = None
    signature: str | None = None


class TextPart(_Part, tag="text"):
    """A piece of plain text, Markdown by convention."""

    text: str
    signature: str | None = None


class ReasoningPart(_Part, tag="reasoning"):
    """The model's reasoning. If `redacted`, the text is withheld and `signature` carries the opaque block."""

    text: str
    redacted: bool = False
    signature: str | None = None


class ToolCallPart(_Part, tag="tool_call"):
    """A tool call by the model. `call` is its id; `arguments` is JSON text, exactly as the model wrote it."""

    call: str
    name: str
    arguments: str
    signature: str | None = None


class ToolResultPart(_Part, tag="tool_result"):
    """The result of the tool call with id `call`. If `error`, `output` describes what went wrong."""

    call: str
    output: str
    error: bool = False
    signature: str | None = None


class ImagePart(_MediaPart, tag="image"):
    """An image: base64 `data`, or a `url` that the provider (never the gateway) fetches."""


class FilePart(_MediaPart, tag="file"):
    """A document: base64 `data`, or a `url` that the provider (never the gateway) fetches."""


class CitationPart(_Part, tag="citation"):
    """A source that the answer cites."""

    url: str | None = None
    title: str | None = None
    text: str | None = None
    signature: str | None = None

    def as_text(self) -> str:
        """Return the title, the cited text and the URL, as one text."""
        return " ".join(filter(None, (self.title, self.text, self.url)))


class RefusalPart(_Part, tag="refusal"):
    """A refusal by the model, in its own words."""

    text: str
    signature: str | None = None


Part = TextPart | ReasoningPart | ToolCallPart | ToolResultPart | ImagePart | FilePart | CitationPart | RefusalPart


class ChatMessage(Struct, frozen=True):
    """One message of the context."""

    role: Role
    parts: tuple[Part, ...]

    def without_signatures(self) -> ChatMessage:
        """Return this message without signatures, because a model rejects the signatures of another model."""
        parts = tuple(msgspec.structs.replace(part, signature=None) if part.signature else part for part in self.parts)
        return ChatMessage(self.role, parts)


class Tool(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A function that the model may call. `parameters` is a JSON schema of type object."""

    name: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]
    description: str = ""
    parameters: dict[str, Any] = {}

    @property
    def schema(self) -> dict[str, Any]:
        """The schema of the arguments. Without `parameters`, it is that of an empty object."""
        return self.parameters or {"type": "object", "properties": {}}


class ToolName(Struct, frozen=True, forbid_unknown_fields=True):
    """A `tool_choice` that forces one tool."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | ToolName


class Params(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The tuning parameters of a request. Each dialect drops, and documents, those that its models don't support."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    stop: Annotated[list[str], Meta(max_length=16)] | None = None
    seed: Annotated[int, Meta(ge=-(2**53), le=2**53)] | None = None
    reasoning: Effort | None = None
    response_format: dict[str, Any] | None = None
    demo: dict[str, Any] | None = None


class ResponseHandle(Struct, frozen=True, tag_field="type", tag="cursor"):
    """A handle to an answer that the provider completes even if the connection closes.

    `id` is used to read the answer again or to stop it. `route` is the id of the route that was requested.
    The handle is a delta that doesn't belong to a part. It comes before the first part.
    """

    route: str
    id: str


class ChatRequest(Struct, frozen=True, kw_only=True):
    """A request to one model. `model` is the provider's own name for the model.

    `partial_answer` holds the parts of an interrupted answer to continue; new parts are numbered after them. It needs a
    route that continues answers (`Route.continuation`), or the `response_handle` that came with that answer.
    `is_continuation`: the last messages hold the interrupted answer, and ask the model to continue it.
    `omitted_messages` is how many of the oldest messages of the history were left out because they didn't fit.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    omitted_messages: int = 0
    system: str | None = None
    params: Params = Params()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    partial_answer: tuple[Part, ...] = ()
    is_continuation: bool = False
    response_handle: ResponseHandle | None = None

    @property
    def asks_for_rest(self) -> bool:
        """Whether the answer is only the rest of one that was interrupted."""
        return bool(self.partial_answer) or self.is_continuation

    def continuing(self, partial_answer: list[Part], response_handle: ResponseHandle | None = None) -> ChatRequest:
        """Return a copy that continues `partial_answer`, by `response_handle` if given."""
        return msgspec.structs.replace(self, partial_answer=tuple(partial_answer), response_handle=response_handle)


class Usage(Struct, frozen=True, omit_defaults=True):
    """Token counts. Input includes cached tokens; output includes reasoning tokens."""

    input_tokens: int
    output_tokens: int
    reasoning_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    estimated: bool = False


class PartStarted(Struct, frozen=True, gc=False):
    """The start of part number `part` (0, 1, 2 …, in order), with the fields that are complete from the start."""

    part: int
    kind: PartKind
    call: str | None = None
    name: str | None = None
    url: str | None = None
    title: str | None = None
    text: str | None = None
    media_type: str | None = None
    redacted: bool = False
    size: int | None = None
    """The number of bytes of an image whose data follows in deltas. None for any other part."""


class PartDelta(Struct, frozen=True, gc=False):
    """More of part number `part`: text (JSON arguments for a tool call), a piece of its signature, or base64 data.

    At most one of them is present.
    """

    part: int
    text: str | None = None
    signature: str | None = None
    data: str | None = None


class PartsWithdrawn(Struct, frozen=True):
    """All parts so far were wrong, for example because reasoning looked like text. The next part has the number 0 again.

    `reason` is a text for people. An answer that continues a `partial_answer` never withdraws parts.
    """

    reason: str


class UsageReported(Struct, frozen=True):
    """The usage so far, and its cost in US dollars if the provider reports one. Only the last report is valid."""

    usage: Usage
    cost: Decimal | None = None


class Finished(Struct, frozen=True):
    """The model itself has ended the answer. Only a late `UsageReported` may follow in the stream.

    `stop_sequence`: the one of `Params.stop` that ended the answer, if the provider reports it.
    """

    reason: FinishReason
    stop_sequence: str | None = None


Delta = PartStarted | PartDelta | PartsWithdrawn | UsageReported | Finished | ResponseHandle


class TextWriter(Protocol):
    """A shortcut past a sink, for more text of a part that is open."""

    def write(self, part: int, text: str) -> bool:
        """Accept more text of part number `part` as `DeltaSink.offer` accepts a batch. Return False if `offer` must be called."""


class DeltaSink(Protocol):
    """A receiver of the batches of one answer, in order."""

    @property
    def text_writer(self) -> TextWriter | None:
        """The shortcut past this sink, from now on until the end of the answer, or None."""

    def offer(self, batch: list[Delta]) -> bool:
        """Accept `batch` without waiting. Return False if it has to go to `put` instead.

        The caller may be outside any task.
        """

    async def put(self, batch: list[Delta]) -> None:
        """Accept `batch`, and wait until the sink is ready for the next one."""


async def deliver(batch: list[Delta], sink: DeltaSink) -> None:
    """Pass `batch` to `sink`, with `offer` if it accepts the batch, otherwise with `put`."""
    if not sink.offer(batch):
        await sink.put(batch)


class ProviderError(Exception):
    """A failure of a provider. `message` is our own text for a person, without any key, host name or raw body.

    `retryable` says whether the same request may succeed later. `detail` is for the log and the operator, never for a
    client. `provider_text` is the redacted text of the provider's own error, for the operator. It may quote the
    request, so it is never logged.
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
        self.provider_text = ""


def too_long(model: str = "this model") -> str:
    """Return the message for a conversation that doesn't fit in the context window of `model`."""
    return f"The conversation is too long for {model}. Shorten it, or choose a model with a larger context window."


class Provider(Protocol):
    """A client that requests answers from models.

    `answer` passes the batches of one answer to `sink`, one batch per network read, and returns when the answer
    ends. It raises `ProviderError`. Cancelling it closes the provider's connection before control returns.
    """

    async def answer(self, request: ChatRequest, sink: DeltaSink) -> None: ...
