"""The frames that the server sends without a request: numbered turn events, and frames without a number.

The structs inside them are here too: a message as clients see it, a cost, a turn's timing, a connection's limits.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from gateway.protocol.errors import ErrorBody
from gateway.protocol.requests import Rating
from providers.base import FinishReason, Part, PartKind, Role, Usage

CancelledBy = Literal["client", "disconnect", "limit", "admin"]
EndStatus = Literal["completed", "cancelled", "failed"]


class Cost(Struct, frozen=True):
    """An amount of money, as decimal text."""

    amount: str
    currency: str = "USD"


class Timing(Struct, frozen=True, omit_defaults=True):
    """The timing of a turn, in milliseconds since it was accepted.

    `ttft_ms` is the time to the first part or delta that was sent. `attempts` is the number of requests to providers.
    """

    queued_ms: int
    total_ms: int
    attempts: int
    ttft_ms: int | None = None


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message in a conversation's tree, as clients see it."""

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
    finish_reason: FinishReason | None = None
    stop_sequence: str | None = None
    by: CancelledBy | None = None
    reason: str | None = None
    error: ErrorBody | None = None
    timing: Timing | None = None
    provider: str | None = None
    metadata: dict[str, Any] | None = None
    rating: Rating | None = None
    comment: str | None = None
    truncated: bool = False


class TurnStarted(Struct, frozen=True, kw_only=True, tag_field="type", tag="turn.started"):
    """The turn was accepted. This is always the first event."""

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
    """The turn's status has changed; the turn continues. `status` determines which optional fields are present."""

    turn: str
    seq: int
    status: Literal["queued", "running", "retrying", "fallback", "waiting", "trimmed", "resumed", "continued"]
    position: int | None = None
    attempt: int | None = None
    delay_ms: int | None = None
    model: str | None = None
    messages: int | None = None
    epoch: int | None = None


class TurnPart(Struct, frozen=True, kw_only=True, tag_field="type", tag="turn.part", omit_defaults=True):
    """A part of the answer begins. The fields of its kind that aren't streamed as deltas are included.

    `size` is the number of bytes of an image whose data is at `url`. `after` is present if the frame covers more than
    one event, and is then the seq before the first of them: the others hold the image's data.
    """

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
    size: int | None = None
    after: int | None = None


class TurnDelta(Struct, frozen=True, gc=False, tag_field="type", tag="turn.delta", omit_defaults=True):
    """The continuation of a part. If the frame covers several events, `after` is the seq before the first of them."""

    turn: str
    seq: int
    part: int
    text: str | None = None
    signature: str | None = None
    after: int | None = None


class TurnReset(Struct, frozen=True, tag_field="type", tag="turn.reset"):
    """The received parts of the turn's message are invalid. Discard them; the position is now this `epoch` and `seq`."""

    turn: str
    seq: int
    epoch: int
    reason: str


class TurnCompleted(Struct, frozen=True, kw_only=True, tag_field="type", tag="turn.completed"):
    """The model has finished. `message` is the id of the stored answer.

    `stop_sequence` is the one of `params.stop` at which it has stopped, if its provider reports that.
    """

    turn: str
    seq: int
    finish_reason: FinishReason
    usage: Usage | None
    cost: Cost | None
    timing: Timing
    message: str
    stop_sequence: str | UnsetType = UNSET


class TurnCancelled(Struct, frozen=True, kw_only=True, tag_field="type", tag="turn.cancelled"):
    """The turn was cancelled. `message` is the id of the stored message with the partial answer."""

    turn: str
    seq: int
    by: CancelledBy
    usage: Usage | None
    cost: Cost | None
    timing: Timing
    message: str
    reason: str | UnsetType = UNSET


class TurnFailed(Struct, frozen=True, kw_only=True, tag_field="type", tag="turn.failed"):
    """The turn failed. `message` is the id of the stored message with the partial answer."""

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
    """No more events of this turn are sent on this connection. After `too_slow`, attach again to continue."""

    turn: str
    reason: str


class Limits(Struct, frozen=True):
    """The limits for this connection: bytes of a client frame, bytes of the text of a start's input, and live turns."""

    frame_bytes: int
    input_bytes: int
    turns: int


class Ready(Struct, frozen=True, kw_only=True, tag_field="type", tag="ready"):
    """The first frame: the authenticated user, the connection and the limits."""

    protocol: str
    connection: str
    instance: str
    user: str
    heartbeat_s: float
    default_model: str
    limits: Limits


class Heartbeat(Struct, frozen=True, tag_field="type", tag="heartbeat"):
    """Sent after a period without other frames. `t` is the server's clock in ms since 1970."""

    t: int


class ConversationUpdated(Struct, frozen=True, kw_only=True, tag_field="type", tag="conversation.updated"):
    """The conversation's own fields have changed. Get the conversation for the fields that aren't included."""

    conversation: str
    revision: int
    title: str
    head: str | None
    system: str | UnsetType = UNSET


class ConversationDeleted(Struct, frozen=True, tag_field="type", tag="conversation.deleted"):
    """The conversation was deleted."""

    conversation: str


class ConversationsChanged(Struct, frozen=True, kw_only=True, tag_field="type", tag="conversations.changed"):
    """A conversation in the user's list is new, has changed, or was deleted. The other fields are its newest state.

    `conversation` is None if all conversations of the user were deleted.
    """

    conversation: str | None
    change: Literal["changed", "deleted"]
    title: str | UnsetType = UNSET
    updated_at: str | UnsetType = UNSET
    head: str | UnsetType | None = UNSET
    revision: int | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET


class Durability(Struct, frozen=True, tag_field="type", tag="durability"):
    """Whether this instance can reach its store. If it can't, streams continue, and the log is written later."""

    state: Literal["ok", "degraded"]


class AuthExpiring(Struct, frozen=True, tag_field="type", tag="auth.expiring"):
    """The credential expires at `expires_at`. Send `auth` with a new one, or the socket closes with 4401 soon after."""

    expires_at: str


class GoingAway(Struct, frozen=True, tag_field="type", tag="going_away"):
    """This instance is shutting down. The socket closes within `deadline_ms`; reconnect after `reconnect_after_ms`."""

    reason: str
    deadline_ms: int
    reconnect_after_ms: int


ServerEvent = (
    TurnEvent
    | TurnDetached
    | Ready
    | Heartbeat
    | ConversationUpdated
    | ConversationDeleted
    | ConversationsChanged
    | Durability
    | GoingAway
    | AuthExpiring
)
