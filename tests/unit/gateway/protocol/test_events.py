"""Tests of the events that the gateway sends: each event of the protocol, with its fields."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from gateway.protocol.codec import JSON
from gateway.protocol.events import (
    Cost,
    Ending,
    Message,
    ServerEvent,
    Timing,
    TurnCancelled,
    TurnCompleted,
    TurnDelta,
    TurnEvent,
    TurnReset,
    TurnStatus,
)
from providers.base import TextPart
from tests.turn_events import TIMING, cancelled, completed, part, started

# Copied by hand from "Server events" in docs/protocol.md.
TURN_EVENTS = {
    "turn.started": "turn seq epoch status conversation model input message parent",
    "turn.status": "turn seq status position attempt delay_ms model messages epoch",
    "turn.part": "turn seq part kind call name url title text media_type redacted size after",
    "turn.delta": "turn seq part text signature after",
    "turn.reset": "turn seq epoch reason",
    "turn.completed": "turn seq finish_reason usage cost timing message stop_sequence",
    "turn.cancelled": "turn seq by reason usage cost timing message",
    "turn.failed": "turn seq error usage cost timing message",
}
OTHERS = {
    "turn.detached": "turn reason",
    "ready": "protocol connection instance user heartbeat_s default_model limits",
    "heartbeat": "t",
    "conversation.updated": "conversation revision title head system",
    "conversation.deleted": "conversation",
    "conversations.changed": "conversation change title updated_at head revision pinned",
    "durability": "state",
    "going_away": "reason deadline_ms reconnect_after_ms",
    "auth.expiring": "expires_at",
}
TYPES = {str(kind.__struct_config__.tag): kind for kind in get_args(ServerEvent)}


@pytest.mark.parametrize(("name", "fields"), [*TURN_EVENTS.items(), *OTHERS.items()])
def test_an_event_has_the_fields_of_the_protocol(name: str, fields: str) -> None:
    """Each event in the protocol's tables exists, and has exactly the fields listed there."""
    assert set(TYPES[name].__struct_fields__) == set(fields.split())


def test_only_events_of_the_protocol_exist() -> None:
    """The turn events and the other events are exactly those of the tables."""
    assert set(TYPES) == set(TURN_EVENTS) | set(OTHERS)
    assert {str(kind.__struct_config__.tag) for kind in get_args(TurnEvent)} == set(TURN_EVENTS)
    assert {str(kind.__struct_config__.tag) for kind in get_args(Ending)} == {
        "turn.completed",
        "turn.cancelled",
        "turn.failed",
    }


def test_absent_optional_fields_are_omitted() -> None:
    """An optional field that isn't set is omitted. Null is sent only in fields for which it has a meaning."""
    assert JSON.encode(TurnDelta("t", 3, 0, "x")) == b'{"type":"turn.delta","turn":"t","seq":3,"part":0,"text":"x"}'
    assert JSON.encode(TurnStatus(turn="t", seq=2, status="waiting")) == (
        b'{"type":"turn.status","turn":"t","seq":2,"status":"waiting"}'
    )
    assert JSON.encode(part(2)) == b'{"type":"turn.part","turn":"t","seq":2,"part":0,"kind":"text"}'
    assert b"reason" not in JSON.encode(cancelled(2))
    assert b'"usage":null,"cost":null' in JSON.encode(completed(2))
    assert b'"parent":null' in JSON.encode(started())


def test_an_ending_survives_encoding_and_decoding() -> None:
    """A stored ending decodes to the same ending."""
    decode = msgspec.json.Decoder(Ending).decode
    stopped = TurnCancelled(
        turn="t",
        seq=9,
        by="limit",
        reason="Too long.",
        usage=None,
        cost=Cost("0.1"),
        timing=TIMING,
        message="m",
    )
    for ending in (completed(9), cancelled(9), stopped):
        assert decode(JSON.encode(ending)) == ending
    assert isinstance(decode(JSON.encode(completed(9))), TurnCompleted)


def test_a_reset_has_the_new_epoch() -> None:
    """A client that receives a reset uses this `epoch` in its position from then on."""
    assert msgspec.to_builtins(TurnReset("t", 0, 7, "why")) == {
        "type": "turn.reset",
        "turn": "t",
        "seq": 0,
        "epoch": 7,
        "reason": "why",
    }


def test_a_message_omits_fields_without_a_value() -> None:
    """Id, role, parts, parent and time are always present. Any other field is present only if it has a value."""
    message = Message(id="m", role="user", parts=[TextPart("Hi")], parent=None, created_at="2026-01-31T00:00:00.000Z")
    assert set(msgspec.to_builtins(message)) == {"id", "role", "parts", "parent", "created_at"}
    assert msgspec.to_builtins(Timing(0, 5, 1)) == {"queued_ms": 0, "total_ms": 5, "attempts": 1}
