"""What the gateway stores and reports: messages, parts, usage, conversations, models. docs/protocol.md has the meaning
of each field. Fields that this client doesn't know are ignored."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal"]
Rating = Literal["up", "down", 1, 2, 3, 4, 5]
CancelOutcome = Literal["cancelled", "already_ended", "not_found", "withdrawn"]
"""`withdrawn`: the start hadn't been sent yet, so the gateway never knew the turn."""


class Usage(msgspec.Struct):
    """Tokens. `input_tokens` includes the cached ones, and `output_tokens` the reasoning."""

    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    estimated: bool = False


class Cost(msgspec.Struct):
    """Money: `amount` is decimal text, exact to a billionth."""

    amount: str
    currency: str = "USD"


class Timing(msgspec.Struct):
    """Milliseconds since the turn was accepted, and the number of requests to providers."""

    queued_ms: float = 0
    total_ms: float = 0
    attempts: int = 0
    ttft_ms: float | None = None


class ErrorRecord(msgspec.Struct):
    """An error as the gateway sends it."""

    code: str
    message: str
    retryable: bool = False
    retry_after_ms: float | None = None
    path: str | None = None
    stored_message: str | None = None


class Part(msgspec.Struct, omit_defaults=True):
    """A part of a message. `kind` says which fields it has.

    `text`, `reasoning`, `refusal`: `text` · `tool_call`: `call`, `name`, `arguments` (JSON text) · `tool_result`: `call`,
    `output`, `error` · `image`, `file`: `media_type`, and `url` or `data` (base64) · `citation`: `url`, `title`, `text`.
    """

    kind: str
    text: str | None = None
    call: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | None = None
    error: bool | None = None
    media_type: str | None = None
    url: str | None = None
    data: str | None = None
    size: int | None = None
    title: str | None = None
    redacted: bool | None = None
    signature: str | None = None


class Message(msgspec.Struct):
    """A message of a conversation, or the answer of a turn.

    `id` is empty if the gateway has stored none. `status` of an answer is `completed`, `cancelled` or `failed`; while its
    turn runs, it is None.
    """

    id: str = ""
    role: str = "assistant"
    parts: list[Part] = []
    parent: str | None = None
    created_at: str | None = None
    turn: str | None = None
    conversation: str | None = None
    model: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    status: str | None = msgspec.field(name="ended", default=None)
    finish_reason: str | None = None
    stop_sequence: str | None = None
    by: str | None = None
    reason: str | None = None
    error: ErrorRecord | None = None
    timing: Timing | None = None
    provider: str | None = None
    metadata: dict[str, Any] | None = None
    rating: str | int | None = None
    comment: str | None = None
    truncated: bool = False

    @property
    def text(self) -> str:
        """The visible text: the parts of kind `text`, joined."""
        return "".join(part.text or "" for part in self.parts if part.kind == "text")

    @property
    def reasoning(self) -> str:
        """The model's reasoning: the parts of kind `reasoning`, joined."""
        return "".join(part.text or "" for part in self.parts if part.kind == "reasoning")

    @property
    def tool_calls(self) -> list[Part]:
        """The parts of kind `tool_call`."""
        return [part for part in self.parts if part.kind == "tool_call"]


class Match(msgspec.Struct):
    """Where a search has found a conversation: the newest message that matches, and its text around the place."""

    message: str
    snippet: str


class ConversationRecord(msgspec.Struct):
    """A conversation. `head` is the message that the next turn answers; `messages` is the number of messages."""

    id: str
    title: str = ""
    system: str | None = None
    model: str | None = None
    metadata: dict[str, Any] = {}
    head: str | None = None
    revision: int = 0
    pinned: bool = False
    created_at: str | None = None
    updated_at: str | None = None
    messages: int = 0
    usage: Usage | None = None
    cost: Cost | None = None
    match: Match | None = None


class Model(msgspec.Struct):
    """A model of the gateway. `available`: it can be used now. `type` is its provider."""

    id: str
    name: str = ""
    type: str = ""
    key: str | None = None
    features: list[str] = []
    context_window: int | None = None
    max_output: int | None = None
    price: dict[str, Any] | None = None
    aliases: list[str] = []
    available: bool = True
    legacy: bool = False
    continues: bool = False


class Models(msgspec.Struct):
    """The models of the gateway, and the one that a start without `model` uses."""

    models: list[Model]
    default: str


class UsageReport(msgspec.Struct):
    """Sums over the user's ended turns. `cost` is None if no turn had a price."""

    usage: Usage
    cost: Cost | None = None


class Estimate(msgspec.Struct):
    """What a start would cost now. See `turn.estimate` in docs/protocol.md."""

    model: str
    input_tokens: int
    output_tokens_max: int | None = None
    estimated: bool = True
    context_window: int | None = None
    trimmed: int = 0
    cost: Cost | None = None
    cost_max: Cost | None = None


class TurnRecord(msgspec.Struct):
    """A turn as the gateway knows it: the answer to `turn.get`."""

    turn: str
    status: str
    conversation: str | None = None
    epoch: int = 0
    seq: int = 0
    model: str | None = None
    message: Message | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    timing: Timing | None = None
    error: ErrorRecord | None = None


class Accepted(msgspec.Struct):
    """The gateway's answer to a start or an attach. `status` is `attached` if the turn was known already."""

    turn: str
    conversation: str | None = None
    status: str = "running"
    epoch: int = 0


class Limits(msgspec.Struct):
    """The bounds of one client frame and of one start's text in bytes, and of the live turns of one connection."""

    frame_bytes: int = 65_536
    input_bytes: int = 262_144
    turns: int = 64


class Position(msgspec.Struct, frozen=True):
    """How much of a turn has been received. A turn can be continued from here by `attach`."""

    epoch: int = 0
    seq: int = 0
