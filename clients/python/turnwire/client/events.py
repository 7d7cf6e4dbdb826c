"""The events that the gateway sends, one class for each `type`. docs/protocol.md has the meaning of each field.

Fields that this client doesn't know are ignored, and an event of an unknown type is an `UnknownEvent`. `user` is the
field `as` of the protocol.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

import msgspec

from turnwire.client.records import Cost, ErrorRecord, Limits, Message, Timing, Usage


class Event(msgspec.Struct, tag_field="type"):
    """What all events have in common. `type` is the protocol's name of the event."""

    type: ClassVar[str] = ""
    user: str | None = msgspec.field(name="as", default=None)


class TurnStarted(Event, tag="turn.started"):
    """The first event of a turn. `message` is the id of the answer that will be stored, `input` the user's message."""

    type: ClassVar[str] = "turn.started"
    turn: str = ""
    seq: int = 1
    epoch: int = 0
    status: str = "running"
    conversation: str | None = None
    model: str | None = None
    input: Message | None = None
    message: str | None = None
    parent: str | None = None


class TurnStatus(Event, tag="turn.status"):
    """The progress of a turn. `status` is `queued`, `running`, `waiting`, `retrying`, `fallback`, `continued`, `trimmed` or
    `resumed`."""

    type: ClassVar[str] = "turn.status"
    turn: str = ""
    seq: int | None = None
    status: str = "running"
    position: int | None = None
    attempt: int | None = None
    delay_ms: float | None = None
    model: str | None = None
    messages: int | None = None
    epoch: int | None = None


class TurnPart(Event, tag="turn.part"):
    """A part of the answer begins. `part` is its number, and `kind` says which of the fields it has."""

    type: ClassVar[str] = "turn.part"
    turn: str = ""
    seq: int | None = None
    part: int = 0
    kind: str = "text"
    after: int | None = None
    call: str | None = None
    name: str | None = None
    url: str | None = None
    title: str | None = None
    text: str | None = None
    media_type: str | None = None
    redacted: bool | None = None
    size: int | None = None
    signature: str | None = None


class TurnDelta(Event, tag="turn.delta"):
    """More of a part: of its text, of the JSON arguments of a tool call, or of its signature.

    `after` is the `seq` of the event before it, if the delta covers more than one.
    """

    type: ClassVar[str] = "turn.delta"
    turn: str = ""
    seq: int | None = None
    part: int = 0
    text: str | None = None
    signature: str | None = None
    after: int | None = None


class TurnReset(Event, tag="turn.reset"):
    """What was received of the answer is void. Its parts follow again, from number 0."""

    type: ClassVar[str] = "turn.reset"
    turn: str = ""
    seq: int = 0
    epoch: int = 0
    reason: str = ""


class TurnCompleted(Event, tag="turn.completed"):
    """The answer is complete. `message` is its id."""

    type: ClassVar[str] = "turn.completed"
    turn: str = ""
    seq: int | None = None
    finish_reason: str | None = None
    stop_sequence: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    timing: Timing | None = None
    message: str | None = None


class TurnCancelled(Event, tag="turn.cancelled"):
    """The turn was cancelled, and the partial answer is kept. `by` is `client`, `disconnect`, `limit` or `admin`.

    `local`: this client made the event, because the gateway never had the turn.
    """

    type: ClassVar[str] = "turn.cancelled"
    turn: str = ""
    seq: int | None = None
    by: str = "client"
    reason: str | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    timing: Timing | None = None
    message: str | None = None
    local: bool = False


class TurnFailedEvent(Event, tag="turn.failed", kw_only=True):
    """The turn failed, and the partial answer is kept.

    `local`: this client made the event, for example because the start was refused.
    """

    type: ClassVar[str] = "turn.failed"
    error: ErrorRecord
    turn: str = ""
    seq: int | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    timing: Timing | None = None
    message: str | None = None
    local: bool = False


class TurnDetached(Event, tag="turn.detached"):
    """No more events of the turn are sent on this connection."""

    type: ClassVar[str] = "turn.detached"
    turn: str = ""
    reason: str = ""


class Ready(Event, tag="ready"):
    """The connection is open. `heartbeat_s` is the longest silence in seconds."""

    type: ClassVar[str] = "ready"
    protocol: str = ""
    connection: str = ""
    instance: str = ""
    heartbeat_s: float = 15.0
    default_model: str = ""
    limits: Limits = msgspec.field(default_factory=Limits)
    name: str = msgspec.field(name="user", default="")


class Heartbeat(Event, tag="heartbeat"):
    """Nothing else was sent for a while. `t` is the gateway's clock in ms."""

    type: ClassVar[str] = "heartbeat"
    t: float = 0


class GoingAway(Event, tag="going_away"):
    """The gateway shuts down. The client connects again after `reconnect_after_ms`."""

    type: ClassVar[str] = "going_away"
    reason: str = ""
    deadline_ms: float = 0
    reconnect_after_ms: float | None = None


class Durability(Event, tag="durability"):
    """Whether the gateway reaches its store: `ok` or `degraded`."""

    type: ClassVar[str] = "durability"
    state: str = "ok"


class AuthExpiring(Event, tag="auth.expiring"):
    """The credential expires soon. The client renews it if it can."""

    type: ClassVar[str] = "auth.expiring"
    expires_at: str = ""


class ConversationUpdated(Event, tag="conversation.updated"):
    """An attached conversation was changed. `system` is absent if it is long."""

    type: ClassVar[str] = "conversation.updated"
    conversation: str = ""
    revision: int = 0
    title: str = ""
    head: str | None = None
    system: str | None = None


class ConversationDeleted(Event, tag="conversation.deleted"):
    """An attached conversation was deleted."""

    type: ClassVar[str] = "conversation.deleted"
    conversation: str = ""


class ConversationsChanged(Event, tag="conversations.changed"):
    """A change of the list of conversations. `change` is `changed`, `deleted`, or `reattached`: list them again."""

    type: ClassVar[str] = "conversations.changed"
    conversation: str | None = None
    change: str = "changed"
    title: str | None = None
    updated_at: str | None = None
    head: str | None = None
    revision: int | None = None
    pinned: bool | None = None


class UnknownEvent(msgspec.Struct):
    """An event whose type this client doesn't know. `fields` has all of it."""

    type: str
    fields: dict[str, Any]
    turn: str | None = None
    seq: int | None = None
    after: int | None = None
    user: str | None = None


Ending: TypeAlias = TurnCompleted | TurnCancelled | TurnFailedEvent
TurnEvent: TypeAlias = TurnStarted | TurnStatus | TurnPart | TurnDelta | TurnReset | Ending | UnknownEvent
"""What iterating a turn gives."""

GatewayEvent: TypeAlias = (
    Heartbeat | GoingAway | Durability | AuthExpiring | ConversationUpdated | ConversationDeleted | ConversationsChanged
)


def to_wire(event: Event | UnknownEvent) -> dict[str, Any]:
    """Return the event with the names of the protocol's fields. Fields that are None are absent."""
    if isinstance(event, UnknownEvent):
        return event.fields
    fields: dict[str, Any] = _without_none(msgspec.to_builtins(event))
    if not fields.get("local"):
        fields.pop("local", None)
    return fields


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value
