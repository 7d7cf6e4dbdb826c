"""The result of each request. Handlers return these types, and the generated documents are made of them."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, field

from gateway.protocol import requests as p
from gateway.protocol.errors import ErrorBody
from gateway.protocol.events import Cost, Message
from providers.base import Usage
from providers.route import ModelInfo

TurnState = Literal["queued", "running", "completed", "cancelled", "failed"]
CancelResult = Literal["cancelled", "already_ended", "not_found"]


class Nothing(Struct, frozen=True):
    """The request is done; there is nothing to say."""


class Identity(Struct, frozen=True):
    """Whom the credential names, and until when."""

    user: str
    expires_at: str | UnsetType = UNSET


class Ticket(Struct, frozen=True):
    """A one-time ticket, and when it is too old."""

    ticket: str
    expires_at: str


class Pong(Struct, frozen=True):
    """The number that was sent, or the server's clock in ms."""

    t: int | float


class TurnPlaced(Struct, frozen=True):
    """A turn is accepted; `attached`: its id was known."""

    turn: str
    conversation: str | None
    status: Literal["running", "queued", "attached"]
    epoch: int


class Cancelled(Struct, frozen=True):
    """What became of each turn."""

    turns: dict[str, CancelResult]


class Attachment(Struct, frozen=True):
    """Where delivery of one turn goes on, or the `error` that says why it can't."""

    conversation: str | UnsetType | None = UNSET
    status: TurnState | UnsetType = UNSET
    epoch: int | UnsetType = UNSET
    start: int | UnsetType = field(name="from", default=UNSET)
    error: ErrorBody | UnsetType = UNSET


class Attached(Struct, frozen=True):
    """Each turn that was asked for."""

    turns: dict[str, Attachment]


class TurnView(Struct, frozen=True):
    """How a turn stands, with its message so far. `usage`, `cost` and `error` are those of the ending."""

    turn: str
    conversation: str | None
    status: TurnState
    epoch: int
    seq: int
    model: str
    message: Message | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET
    cost: Cost | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


class Conversation(Struct, frozen=True, kw_only=True):
    """A conversation, without its messages."""

    id: str
    title: str
    system: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    metadata: dict[str, Any]
    head: str | None
    revision: int
    created_at: str
    updated_at: str
    messages: int
    usage: Usage
    cost: Cost | None


class ConversationPage(Struct, frozen=True):
    """Conversations, last changed first; `next` is passed as `before`."""

    conversations: list[Conversation]
    next: str | UnsetType = UNSET


class MessagePage(Struct, frozen=True):
    """Messages of the tree, oldest first within the page; `next` is passed as `before`."""

    messages: list[Message]
    next: str | UnsetType = UNSET


class ConversationAttached(Struct, frozen=True):
    """What is followed from now on; `gone`: turns that can't be, with the ids of their stored messages."""

    conversation: str
    revision: int
    turns: dict[str, Attachment]
    gone: dict[str, str | None]


class Models(Struct, frozen=True):
    """The models, and which one a turn gets that names none."""

    models: list[ModelInfo]
    default: str


class Sums(Struct, frozen=True):
    """Sums over ended turns."""

    usage: Usage
    cost: Cost | None


RESULTS: dict[type[p.Request], type[Struct]] = {
    p.Auth: Identity,
    p.Ping: Pong,
    p.TurnStart: TurnPlaced,
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
    p.FeedbackPut: Nothing,
    p.ModelsList: Models,
    p.UsageGet: Sums,
}


class About(Struct, frozen=True):
    """Service information."""

    name: str
    version: str
    protocol: str
    subprotocols: list[str]
    instance: str
    auth: str


class Status(Struct, frozen=True):
    """How the process is."""

    status: str


class Readiness(Struct, frozen=True):
    """Whether it can serve. `store` "degraded": it can be read and not written, so no turn can be started."""

    status: Literal["ready"]
    store: Literal["ok", "degraded"]
