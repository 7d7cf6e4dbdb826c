"""What arrives unasked: turn events with their numbers, and the frames that belong to no turn.

Also the shapes inside them: a message as clients see it, its cost and its timing.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from gateway.protocol.errors import ErrorBody
from providers.base import FinishReason, Part, PartKind, Role, Usage

CancelledBy = Literal["client", "disconnect", "limit", "admin"]
EndStatus = Literal["completed", "cancelled", "failed"]


class Cost(Struct, frozen=True):
    """Money as decimal text."""

    amount: str
    currency: str = "USD"


class Timing(Struct, frozen=True, omit_defaults=True):
    """Milliseconds since the turn was accepted. `ttft_ms`: to the first part or delta that was sent."""

    queued_ms: int
    total_ms: int
    attempts: int
    ttft_ms: int | None = None


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message of a conversation's tree, as clients see it."""

    id: str
    role: Role
    parts: list[Part]
    parent: str | None
    created_at: str
    turn: str | None = None
    model: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    ended: EndStatus | None = None
    truncated: bool = False


class TurnStarted(Struct, frozen=True, kw_only=True, tag_field="type", tag="turn.started"):
    """The turn is accepted. Always the first event."""

    turn: str
    seq: int
    epoch: int
    status: Literal["running", "queued"]
    conversation: str | None
    model: str
    input: Message | None
    message: str
    parent: str | None


class TurnStatus(Struct, frozen=True, kw_only=True, tag_field="type", tag="turn.status", omit_defaults=True):
    """The turn goes on, in another way. Which optional field is there depends on `status`."""

    turn: str
    seq: int
    status: Literal["queued", "running", "retrying", "fallback", "waiting", "trimmed", "resumed"]
    position: int | None = None
    attempt: int | None = None
    delay_ms: int | None = None
    model: str | None = None
    messages: int | None = None
    epoch: int | None = None


class TurnPart(Struct, frozen=True, kw_only=True, tag_field="type", tag="turn.part", omit_defaults=True):
    """A part of the answer begins, with the whole fields of its kind."""

    turn: str
    seq: int
    part: int
    kind: PartKind
    call: str | None = None
    name: str | None = None
    url: str | None = None
    title: str | None = None
    text: str | None = None
    media_type: str | None = None
    redacted: bool = False


class TurnDelta(Struct, frozen=True, gc=False, tag_field="type", tag="turn.delta", omit_defaults=True):
    """More of a part. `after` is there where the frame covers more than one event."""

    turn: str
    seq: int
    part: int
    text: str | None = None
    signature: str | None = None
    after: int | None = None


class TurnReset(Struct, frozen=True, tag_field="type", tag="turn.reset"):
    """Drop what you hold of the turn's message; your position is now this `epoch` and `seq`."""

    turn: str
    seq: int
    epoch: int
    reason: str


class TurnCompleted(Struct, frozen=True, kw_only=True, tag_field="type", tag="turn.completed"):
    """The model finished; `message` is in the history."""

    turn: str
    seq: int
    finish_reason: FinishReason
    usage: Usage | None
    cost: Cost | None
    timing: Timing
    message: str


class TurnCancelled(Struct, frozen=True, kw_only=True, tag_field="type", tag="turn.cancelled"):
    """The turn was stopped; what was said until then is kept in `message`."""

    turn: str
    seq: int
    by: CancelledBy
    usage: Usage | None
    cost: Cost | None
    timing: Timing
    message: str
    reason: str | UnsetType = UNSET


class TurnFailed(Struct, frozen=True, kw_only=True, tag_field="type", tag="turn.failed"):
    """The turn failed; what was said until then is kept in `message`."""

    turn: str
    seq: int
    error: ErrorBody
    usage: Usage | None
    cost: Cost | None
    timing: Timing
    message: str


Ending = TurnCompleted | TurnCancelled | TurnFailed
TurnEvent = TurnStarted | TurnStatus | TurnPart | TurnDelta | TurnReset | Ending


class TurnDetached(Struct, frozen=True, tag_field="type", tag="turn.detached"):
    """Nothing more of this turn arrives here; attach again to go on."""

    turn: str
    reason: str


class Limits(Struct, frozen=True):
    """What a client must keep to."""

    frame_bytes: int
    input_bytes: int
    turns: int


class Ready(Struct, frozen=True, kw_only=True, tag_field="type", tag="ready"):
    """The first frame: who you are and what holds here."""

    protocol: str
    connection: str
    instance: str
    user: str
    heartbeat_s: float
    default_model: str
    limits: Limits


class Heartbeat(Struct, frozen=True, tag_field="type", tag="heartbeat"):
    """Nothing else was sent for a while; `t` is the server's clock in ms."""

    t: int


class ConversationUpdated(Struct, frozen=True, kw_only=True, tag_field="type", tag="conversation.updated"):
    """The conversation's own fields changed; read it again for what isn't here."""

    conversation: str
    revision: int
    title: str
    head: str | None


class ConversationDeleted(Struct, frozen=True, tag_field="type", tag="conversation.deleted"):
    """The conversation is gone."""

    conversation: str


class Durability(Struct, frozen=True, tag_field="type", tag="durability"):
    """Whether this instance reaches its store; streams go on while it doesn't, and the log catches up."""

    state: Literal["ok", "degraded"]


class AuthExpiring(Struct, frozen=True, tag_field="type", tag="auth.expiring"):
    """The credential ends at `expires_at`; send `auth` with a new one, or the socket closes with 4401 soon after."""

    expires_at: str


class GoingAway(Struct, frozen=True, tag_field="type", tag="going_away"):
    """This instance leaves; the socket closes within `deadline_ms`. Come back after `reconnect_after_ms`."""

    reason: str
    deadline_ms: int
    reconnect_after_ms: int


Unasked = (
    TurnEvent
    | TurnDetached
    | Ready
    | Heartbeat
    | ConversationUpdated
    | ConversationDeleted
    | Durability
    | GoingAway
    | AuthExpiring
)
Payload = Unasked | dict[str, Any]
