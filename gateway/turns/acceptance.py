"""Accept the turn of a `turn.start`: store it, and build `turn.started`.

Also rebuild the acceptance of a stored turn, and make the record of a new conversation.
"""

from __future__ import annotations

from gateway.protocol.events import TurnStarted
from gateway.protocol.ids import new_id, now_ms
from gateway.protocol.requests import TurnStart
from gateway.protocol.views import MessageBody, body_of, input_role, message_view, preview, title_of
from gateway.turns.live_turn import LiveTurn
from gateway.turns.prepared_start import Prepared
from store.api import TurnStore
from store.records import (
    Accepted,
    ConversationRecord,
    MessageRecord,
    NewTurn,
    TurnLimits,
    TurnRecord,
)


async def accept(
    store: TurnStore,
    live_turn: LiveTurn,
    request: TurnStart,
    prepared: Prepared,
    model: str,
    parent: str | None,
    owner: str,
    lease_ms: int,
    limits: TurnLimits | None = None,
    retention_days: int | None = None,
) -> Accepted:
    """Store the turn with `owner` as its owner, and set the live turn's acceptance.

    `parent` is the message below which the turn stands. `retention_days` becomes that of the conversation.

    Raises `StoreError`, such as `Busy`, `Conflict` or `NotFound`.

    A turn with `on_busy: interrupt` is accepted only if its conversation has no live turn: the caller has to stop the
    live turns first.
    """
    now = now_ms()
    input_message = None
    if prepared.body is not None:
        input_message = MessageRecord(
            id=new_id("m"),
            parent=None,
            role=input_role(prepared.message.parts),
            created_ms=now,
            body=prepared.body,
            turn=live_turn.turn,
        )
    created = None
    if request.messages is None and (request.conversation is None or request.create):
        created = new_conversation(
            live_turn.user, request.system, request.model, name=request.conversation, retention_days=retention_days
        )
    new = NewTurn(
        user=live_turn.user,
        turn=live_turn.turn,
        owner=owner,
        lease_ms=lease_ms,
        digest=live_turn.digest,
        request=prepared.content,
        epoch=live_turn.epoch,
        message=new_id("m"),
        stateless=request.messages is not None,
        conversation=request.conversation,
        new_conversation=created,
        title=title_of(prepared.message.parts),
        input=input_message,
        parent=parent,
        on_busy="reject" if request.on_busy == "interrupt" else request.on_busy,
        model=model,
        now_ms=now,
        limits=limits,
        retention_days=retention_days,
    )
    accepted = await store.accept(new)
    live_turn.set_acceptance(new, accepted.conversation)
    return accepted


def restored_acceptance(turn: TurnRecord, input_message: MessageRecord | None, lease_ms: int) -> NewTurn:
    """Rebuild the acceptance of a turn from its record, to restore the turn if the store loses it.

    Used for a turn that was taken over, or that waited in its queue. `input_message`: its stored input, or None.
    """
    return NewTurn(
        user=turn.user,
        turn=turn.turn,
        owner=turn.owner,
        lease_ms=lease_ms,
        digest=turn.digest,
        request=turn.request or b"",
        epoch=turn.epoch,
        message=turn.message,
        stateless=turn.conversation is None,
        conversation=turn.conversation,
        new_conversation=None,
        title="",
        input=input_message,
        parent=turn.parent,
        on_busy="parallel",
        model=turn.model,
        now_ms=turn.accepted_ms,
    )


def new_conversation(
    user: str,
    system: str | None,
    model: str | None,
    title: str = "",
    metadata: bytes = b"{}",
    name: str | None = None,
    retention_days: int | None = None,
) -> ConversationRecord:
    """Return the record of an empty conversation with the id `name`, or with a new id. `metadata` is JSON.

    `retention_days`: see `ConversationRecord`.
    """
    now = now_ms()
    return ConversationRecord(
        id=name or new_id("c"),
        user=user,
        title=title,
        system=system,
        model=model,
        metadata=metadata,
        head=None,
        revision=0,
        created_ms=now,
        updated_ms=now,
        retention_days=retention_days,
    )


def started(
    turn: TurnRecord, input_message: MessageRecord | None, *, queued: bool, body: MessageBody | None = None
) -> TurnStarted:
    """Return the turn's first event.

    `queued`: the turn waits for others. `body`: the body of the input, if the caller has decoded it.
    """
    return TurnStarted(
        turn=turn.turn,
        seq=1,
        epoch=turn.epoch,
        status="queued" if queued else "running",
        conversation=turn.conversation,
        model=turn.model,
        input=None if input_message is None else preview(message_view(input_message, body or body_of(input_message))),
        message=turn.message,
        parent=turn.parent,
    )
