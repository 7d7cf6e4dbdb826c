"""The entries of an outbox, and what they are about, as Redis has them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import structs

from store.archive.records import ArchivedConversation, ArchivedMessage, ArchivedTurn, OutboxItem, RemovedConversation
from store.records import Counters
from store.redis.records import conversation_record, counters, message_record, parse_hash

NAME_CHARS_MAX = 200
CHANGE_MAX = 2**53
"""Redis has numbers up to this one exactly."""


def place_of(incarnation: str, conversation: str) -> str:
    """Return the member of a conversation in its user's list."""
    return f"{incarnation}:{conversation}"


def describe(member: bytes) -> str:
    """Return an entry's member as text for a person: kind and id."""
    kind, _, name = member.partition(b":")
    if kind == b"t":
        return "turn " + str(_turn_id(name))
    start, words = _KINDS.get(kind, (0, "unknown entry"))
    shown = member if kind not in _KINDS else name[start:]
    return f"{words} {shown[: 4 * NAME_CHARS_MAX].decode('utf-8', 'replace')[:NAME_CHARS_MAX]}"


_KINDS = {b"m": (0, "message"), b"c": (17, "conversation"), b"d": (17, "deletion of")}
"""What each kind of entry is called, and where the id begins in its name."""


def _turn_id(packed: bytes) -> str:
    try:
        return str(msgspec.msgpack.decode(packed)[0][0])[:NAME_CHARS_MAX]
    except (msgspec.MsgspecError, ValueError, LookupError, TypeError):
        return "?"


def change_of(score: bytes) -> int | None:
    """Return the number of a change, or None if the score isn't one."""
    number = float(score)
    return int(number) if abs(number) < CHANGE_MAX and number.is_integer() else None


def item_from(user: str, member: bytes, change: int, state: list[Any]) -> OutboxItem | None:
    """Return what an entry is about, or None if Redis no longer has it. `change` is the number of its change.

    `state` is what the script `read_outbox` has read of it.
    """
    kind, _, name = member.partition(b":")
    if kind == b"d":
        incarnation, _, conversation = name.decode("utf-8", "surrogatepass").partition(":")
        return RemovedConversation(conversation=conversation, incarnation=incarnation)
    if not state or not state[0]:
        return None
    if kind == b"c":
        return _conversation(user, change, *state)
    if kind == b"m":
        return _message(*state)
    return _turn(*state)


def _conversation(user: str, change: int, flat: list[bytes], size: bytes) -> ArchivedConversation:
    fields = parse_hash(flat)
    return ArchivedConversation(
        record=conversation_record(user, flat),
        incarnation=fields[b"place"].partition(b":")[0].decode(),
        change=int(fields.get(b"listed", change)),
        next_number=int(fields[b"n"]) + 1,
        cleared=int(fields[b"cleared"]),
        size=int(size),
    )


def _message(flat: list[bytes], place: bytes | None) -> ArchivedMessage:
    fields = parse_hash(flat)
    rated_ms, rated_model = fields.get(b"rated_ms"), fields.get(b"rated_model")
    return ArchivedMessage(
        record=message_record(flat),
        conversation=fields[b"conversation"].decode(),
        number=int(fields[b"number"]),
        incarnation=None if place is None else place.partition(b":")[0].decode(),
        rated_ms=None if rated_ms is None else int(rated_ms),
        rated_model=None if rated_model is None else rated_model.decode(),
    )


def _turn(fields: list[bytes | None], counts: list[bytes | None]) -> ArchivedTurn:
    turn, conversation, place, model, status, ended_ms = (None if one is None else one.decode() for one in fields)
    return ArchivedTurn(
        turn=turn or "",
        conversation=conversation,
        incarnation=None if place is None else place.partition(":")[0],
        model=model or "",
        status=status or "",
        ended_ms=int(ended_ms or 0),
        usage=counters(counts),
    )


def conversation_fields(archived: ArchivedConversation) -> dict[str, str | bytes | None]:
    """Return the fields of a conversation's hash, to restore it."""
    record = archived.record
    used = {name: value for name, value in structs.asdict(record.usage).items() if value is not None}
    if record.usage == Counters():
        used = {}  # no turn has ended, so the sums don't exist yet
    retention = record.retention_days if archived.retention_days is None else archived.retention_days
    return {
        "id": record.id,
        "title": record.title,
        "system": record.system,
        "model": record.model,
        "metadata": record.metadata,
        "head": record.head,
        "revision": str(record.revision),
        "created_ms": str(record.created_ms),
        "updated_ms": str(record.updated_ms),
        "place": place_of(archived.incarnation, record.id),
        "n": str(archived.next_number - 1),
        "messages": str(record.messages),
        "cleared": str(archived.cleared),
        "retention_days": None if retention is None else str(retention),
        "pinned": "1" if record.pinned else None,
        **{name: str(value) for name, value in used.items()},
    }


def message_fields(message: ArchivedMessage) -> dict[str, str | bytes | None]:
    """Return the fields of a message's hash, to restore it."""
    record = message.record
    return {
        "id": record.id,
        "conversation": message.conversation,
        "parent": record.parent,
        "role": record.role,
        "created_ms": str(record.created_ms),
        "body": record.body,
        "turn": record.turn,
        "number": str(message.number),
        "rating": record.rating,
        "comment": record.comment,
        "rated_ms": None if message.rated_ms is None else str(message.rated_ms),
        "rated_model": message.rated_model,
    }
