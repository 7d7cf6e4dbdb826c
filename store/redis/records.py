"""Conversion of script arguments and replies: records as MessagePack, flat lists of fields, and refusing outcomes."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, structs

from store.records import (
    Busy,
    Conflict,
    ConversationRecord,
    Counters,
    Fenced,
    Limited,
    LogGap,
    MessageRecord,
    NotFound,
    StoreError,
    TurnRecord,
)
from store.redis.keys import raw

Fields = dict[bytes, bytes]

_COUNTERS = tuple(field.name.encode() for field in structs.fields(Counters))


def packed(value: object) -> bytes:
    """Encode `value` as MessagePack for Redis' scripts.

    The scripts have no type for bytes, so bytes are encoded as strings. A field that is None is left out.
    """
    pieces: list[bytes] = []
    _pack(value, pieces)
    return b"".join(pieces)


def _pack(value: object, pieces: list[bytes]) -> None:
    if isinstance(value, Struct):
        value = structs.asdict(value)
    if isinstance(value, str):
        value = raw(value)
    if isinstance(value, bytes):
        pieces += (b"\xdb" + len(value).to_bytes(4, "big"), value)
    elif isinstance(value, dict):
        pairs = [(name, one) for name, one in value.items() if one is not None]
        pieces.append(b"\xdf" + len(pairs).to_bytes(4, "big"))
        for pair in pairs:
            for one in pair:
                _pack(one, pieces)
    else:
        pieces.append(msgspec.msgpack.encode(value))


def accepted(reply: list[Any]) -> list[Any]:
    """Return what follows the outcome in a script's reply; raise the error that a refusing outcome means.

    Raises `NotFound`, `Conflict`, `Busy`, `Limited`, `Fenced`, `LogGap`, or `StoreError` if the script ran too late.
    """
    outcome = reply[0]
    if outcome == b"not_found":
        raise NotFound(reply[1].decode())
    if outcome == b"conflict":
        raise Conflict("this turn id was used for another request")
    if outcome == b"busy":
        raise Busy("the conversation has a running turn")
    if outcome == b"limited":
        raise Limited(reply[1].decode(), *reply[2:])
    if outcome == b"fenced":
        raise Fenced("the turn belongs to a newer epoch")
    if outcome == b"gap":
        raise LogGap(reply[1])
    if outcome == b"late":
        raise StoreError("The store didn't answer in time.")
    return reply[1:]


def fields(flat: list[bytes]) -> Fields:
    """Return a hash as a dict, from the flat list of names and values that Redis returns."""
    names = iter(flat)
    return dict(zip(names, names, strict=True))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def turn_record(user: str, flat: list[bytes], *, in_conversation: bool) -> TurnRecord:
    """Return a turn from the flat list of its fields.

    `in_conversation`: whether its conversation exists; if not, the record's `conversation` is None.
    """
    kept = fields(flat)
    return TurnRecord(
        user=user,
        turn=kept[b"turn"].decode(),
        conversation=_text(kept.get(b"conversation")) if in_conversation else None,
        digest=kept[b"digest"],
        request=kept.get(b"request"),
        epoch=int(kept[b"epoch"]),
        owner=kept[b"owner"].decode(),
        status=kept[b"status"].decode(),
        message=kept[b"message"].decode(),
        input=_text(kept.get(b"input")),
        parent=_text(kept.get(b"parent")),
        model=kept[b"model"].decode(),
        seq=int(kept[b"seq"]),
        accepted_ms=int(kept[b"accepted_ms"]),
        ending=kept.get(b"ending"),
        stateless_message=kept.get(b"stateless_message"),
        cancel=kept.get(b"cancel"),
    )


def conversation_record(user: str, flat: list[bytes]) -> ConversationRecord:
    """Return a conversation from the flat list of its fields."""
    kept = fields(flat)
    return ConversationRecord(
        id=kept[b"id"].decode(),
        user=user,
        title=kept[b"title"].decode(),
        system=_text(kept.get(b"system")),
        model=_text(kept.get(b"model")),
        metadata=kept[b"metadata"],
        head=_text(kept.get(b"head")),
        revision=int(kept[b"revision"]),
        created_ms=int(kept[b"created_ms"]),
        updated_ms=int(kept[b"updated_ms"]),
        messages=int(kept[b"messages"]),
        usage=counters([kept.get(name) for name in _COUNTERS]),
    )


def message_record(flat: list[bytes]) -> MessageRecord:
    """Return a message from the flat list of its fields."""
    kept = fields(flat)
    return MessageRecord(
        id=kept[b"id"].decode(),
        parent=_text(kept.get(b"parent")),
        role=kept[b"role"].decode(),
        created_ms=int(kept[b"created_ms"]),
        body=kept[b"body"],
        turn=_text(kept.get(b"turn")),
    )


def counters(values: list[bytes | None]) -> Counters:
    """Return sums from values in the order of `Counters`; a value that is None gets the field's default."""
    named = zip(structs.fields(Counters), values, strict=True)
    return Counters(**{field.name: int(value) for field, value in named if value is not None})
