"""The result of each request, and of the HTTP operations that describe the service.

Handlers return these types, and the API documents are generated from them.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from gateway.protocol import requests as p
from gateway.protocol.errors import ErrorBody
from gateway.protocol.events import Cost, Message, Timing
from providers.base import FinishReason, Usage
from providers.model_info import ModelInfo

TurnState = Literal["queued", "running", "completed", "cancelled", "failed"]
CancelResult = Literal["cancelled", "already_ended", "not_found"]


class Nothing(Struct, frozen=True):
    """The request succeeded. The result is empty."""


class Identity(Struct, frozen=True):
    """The authenticated user, and the time at which the credential expires."""

    user: str
    expires_at: str | UnsetType = UNSET


class Ticket(Struct, frozen=True):
    """A one-time ticket, and the time at which it expires."""

    ticket: str
    expires_at: str


class Pong(Struct, frozen=True):
    """The number that was sent, or the server's clock in ms since 1970."""

    t: int | float


class TurnPlaced(Struct, frozen=True):
    """The result of `turn.start`. `status` is `attached` if a turn with this id already existed."""

    turn: str
    conversation: str | None
    status: Literal["running", "queued", "attached"]
    epoch: int


class Estimate(Struct, frozen=True, kw_only=True):
    """The estimated tokens and cost of a start. `cost` is that of the input, `cost_max` that with the longest answer.

    `output_tokens_max` is the longest answer that the request and the model allow, if there is a bound. `trimmed` is the
    number of messages that would be left out of the context.
    """

    model: str
    input_tokens: int
    output_tokens_max: int | None
    estimated: Literal[True] = True
    context_window: int | None
    trimmed: int
    cost: Cost | None
    cost_max: Cost | None


class Cancelled(Struct, frozen=True):
    """The outcome of the cancel request for each turn."""

    turns: dict[str, CancelResult]


class Attachment(Struct, frozen=True):
    """The `seq` after which a turn's events are sent (`from`), or the `error` if the turn can't be attached."""

    conversation: str | UnsetType | None = UNSET
    status: TurnState | UnsetType = UNSET
    epoch: int | UnsetType = UNSET
    start: int | UnsetType = field(name="from", default=UNSET)
    error: ErrorBody | UnsetType = UNSET


class Attached(Struct, frozen=True):
    """The attachment of each requested turn."""

    turns: dict[str, Attachment]


class TurnView(Struct, frozen=True):
    """The status of a turn, with its message so far. The fields after `message` are those of the ending."""

    turn: str
    conversation: str | None
    status: TurnState
    epoch: int
    seq: int
    model: str
    message: Message | UnsetType = UNSET
    finish_reason: FinishReason | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET
    cost: Cost | UnsetType = UNSET
    timing: Timing | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


class ConversationMatch(Struct, frozen=True):
    """The newest message that a search matches in a conversation, and the text around the match, in one line."""

    message: str
    snippet: str


class Conversation(Struct, frozen=True, kw_only=True):
    """A conversation, without its messages. `match` is in results of a search, unless only the title matches."""

    id: str
    title: str
    system: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    metadata: dict[str, Any]
    head: str | None
    revision: int
    pinned: bool
    created_at: str
    updated_at: str
    messages: int
    usage: Usage
    cost: Cost | None
    match: ConversationMatch | UnsetType = UNSET


class ConversationPage(Struct, frozen=True):
    """A page of conversations, last changed first. Pass `next` as `before` to get the next page."""

    conversations: list[Conversation]
    next: str | UnsetType = UNSET


class MessagePage(Struct, frozen=True):
    """A page of a conversation's messages, oldest first. Pass `next` as `before` to get the next page."""

    messages: list[Message]
    next: str | UnsetType = UNSET


class ConversationAttached(Struct, frozen=True):
    """The attached turns. `gone` maps turns that can't be attached to the ids of their stored messages, or null."""

    conversation: str
    revision: int
    turns: dict[str, Attachment]
    gone: dict[str, str | None]


class Models(Struct, frozen=True):
    """The models, and the id of the default model."""

    models: list[ModelInfo]
    default: str


class Sums(Struct, frozen=True):
    """The total usage and cost of ended turns."""

    usage: Usage
    cost: Cost | None


RESULTS: dict[type[p.Request], type[Struct]] = {
    p.Auth: Identity,
    p.Ping: Pong,
    p.TurnStart: TurnPlaced,
    p.TurnEstimate: Estimate,
    p.TurnCancel: Cancelled,
    p.TurnAttach: Attached,
    p.TurnDetach: Nothing,
    p.TurnGet: TurnView,
    p.ConversationCreate: Conversation,
    p.ConversationList: ConversationPage,
    p.ConversationGet: Conversation,
    p.ConversationUpdate: Conversation,
    p.ConversationClear: Nothing,
    p.ConversationDelete: Nothing,
    p.ConversationMessages: MessagePage,
    p.ConversationAttach: ConversationAttached,
    p.ConversationDetach: Nothing,
    p.ConversationsAttach: Nothing,
    p.ConversationsDetach: Nothing,
    p.FeedbackPut: Nothing,
    p.ModelsList: Models,
    p.UsageGet: Sums,
}


class Address(Struct, frozen=True):
    """An address of the HTTP API: a method, a path from the root of this server, and what it is for."""

    method: str
    path: str
    summary: str


class About(Struct, frozen=True):
    """Information about this service. `socket` and `documents` are paths from the root of this server."""

    name: str
    version: str
    protocol: str
    subprotocols: list[str]
    instance: str
    auth: str
    socket: str
    documents: list[str]
    addresses: list[Address]


class Status(Struct, frozen=True):
    """The status of the process."""

    status: str


class Readiness(Struct, frozen=True):
    """Whether the process can serve. If `store` is `degraded`, some or all writes to it fail, so turns may be refused.

    If `archive` is `degraded`, the archive can't be written, and older conversations may not be found for now.
    """

    status: Literal["ready"]
    store: Literal["ok", "degraded"]
    archive: Literal["ok", "degraded"] | UnsetType = UNSET
