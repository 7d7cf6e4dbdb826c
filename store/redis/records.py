"""Conversion of script arguments and replies: records as MessagePack, flat lists of fields, and outcomes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from store.errors import Busy, Conflict, Fenced, Limited, LogGap, NotFound, StoreError
from store.records import ConversationRecord, Counters, FeedbackRecord, MessageRecord, TurnRecord
from store.redis.client import TIMED_OUT
from store.redis.commands import SLICE_BYTES
from store.redis.keys import encode_text


class Cold(StoreError):
    """This conversation of the user isn't in Redis but may be in the archive."""

    def __init__(self, conversation: str) -> None:
        super().__init__("the conversation isn't in Redis but may be in the archive")
        self.conversation = conversation


def pack(value: object) -> bytes | tuple[bytes, ...]:
    """Encode `value` as MessagePack for Redis' scripts.

    The scripts have no type for bytes, so bytes are encoded as strings. A field that is None is left out. A long encoding
    is returned in pieces: joining 40 MB would hold the event loop for 25 ms, and several times as long on a slow machine.
    """
    pieces: list[bytes] = []
    _pack(value, pieces)
    return tuple(pieces) if sum(map(len, pieces)) > SLICE_BYTES else b"".join(pieces)


def _pack(value: object, pieces: list[bytes]) -> None:
    if isinstance(value, str):
        value = encode_text(value)
    if isinstance(value, bytes):
        pieces += (b"\xdb" + len(value).to_bytes(4, "big"), value)
        return
    if isinstance(value, Struct):
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    if not isinstance(value, dict):
        pieces.append(_encode(value))
        return
    start = len(pieces)
    pieces.append(b"")
    count = 0
    for name, field in value.items():
        if field is not None:
            count += 1
            pieces.append(_pack_name(name))
            _pack(field, pieces)
    pieces[start] = b"\xdf" + count.to_bytes(4, "big")


@lru_cache(maxsize=256)
def _pack_name(name: str) -> bytes:
    """Return an encoded name of a field. There are few."""
    encoded = encode_text(name)
    return b"\xdb" + len(encoded).to_bytes(4, "big") + encoded


_encode = msgspec.msgpack.Encoder().encode


def parse_reply(reply: list[Any]) -> list[Any]:
    """Return what follows the outcome in a script's reply. If the outcome is a refusal, raise its error.

    Raises `NotFound`, `Conflict`, `Busy`, `Limited`, `Fenced`, `LogGap`, `Cold`, or `StoreError` if the script ran too
    late.
    """
    outcome = reply[0]
    if outcome == b"not_found":
        raise NotFound(reply[1].decode())
    if outcome == b"conflict":
        raise Conflict
    if outcome == b"busy":
        raise Busy("the conversation has a running turn")
    if outcome == b"limited":
        raise Limited(reply[1].decode(), *reply[2:])
    if outcome == b"fenced":
        raise Fenced("the turn belongs to a newer epoch")
    if outcome == b"gap":
        raise LogGap(reply[1])
    if outcome == b"cold":
        raise Cold(reply[1].decode())
    if outcome == b"late":
        raise StoreError(TIMED_OUT)
    return reply[1:]


def parse_hash(flat: list[bytes]) -> dict[bytes, bytes]:
    """Return a hash as a dict, from the flat list of names and values that Redis returns."""
    names = iter(flat)
    return dict(zip(names, names, strict=True))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def turn_record(user: str, flat: list[bytes], *, in_conversation: bool) -> TurnRecord:
    """Return a turn from the flat list of its fields.

    `in_conversation`: whether its conversation exists; if not, the record's `conversation` is None.
    """
    fields = parse_hash(flat)
    return TurnRecord(
        user=user,
        turn=fields[b"turn"].decode(),
        conversation=_text(fields.get(b"conversation")) if in_conversation else None,
        digest=fields[b"digest"],
        request=fields.get(b"request"),
        epoch=int(fields[b"epoch"]),
        owner=fields[b"owner"].decode(),
        status=fields[b"status"].decode(),
        message=fields[b"message"].decode(),
        input=_text(fields.get(b"input")),
        parent=_text(fields.get(b"parent")),
        model=fields[b"model"].decode(),
        seq=int(fields[b"seq"]),
        accepted_ms=int(fields[b"accepted_ms"]),
        ending=fields.get(b"ending"),
        stateless_message=fields.get(b"stateless_message"),
        cancel=fields.get(b"cancel"),
    )


def conversation_record(user: str, flat: list[bytes]) -> ConversationRecord:
    """Return a conversation from the flat list of its fields."""
    fields = parse_hash(flat)
    return ConversationRecord(
        id=fields[b"id"].decode(),
        user=user,
        title=fields[b"title"].decode(),
        system=_text(fields.get(b"system")),
        model=_text(fields.get(b"model")),
        metadata=fields[b"metadata"],
        head=_text(fields.get(b"head")),
        revision=int(fields[b"revision"]),
        created_ms=int(fields[b"created_ms"]),
        updated_ms=int(fields[b"updated_ms"]),
        messages=int(fields[b"messages"]),
        usage=counters([fields.get(name.encode()) for name in Counters.__struct_fields__]),
        retention_days=int(fields[b"retention_days"]) if b"retention_days" in fields else None,
        pinned=b"pinned" in fields,
    )


def message_record(flat: list[bytes]) -> MessageRecord:
    """Return a message from the flat list of its fields."""
    fields = parse_hash(flat)
    return MessageRecord(
        id=fields[b"id"].decode(),
        parent=_text(fields.get(b"parent")),
        role=fields[b"role"].decode(),
        created_ms=int(fields[b"created_ms"]),
        body=fields[b"body"],
        turn=_text(fields.get(b"turn")),
        rating=_text(fields.get(b"rating")),
        comment=_text(fields.get(b"comment")),
    )


def feedback_record(user: str, message: str, fields: list[bytes | None]) -> FeedbackRecord:
    """Return the feedback of a message from the fields that the script returns."""
    conversation, turn, model, rating, comment, rated_ms = map(_text, fields)
    return FeedbackRecord(
        user=user,
        message=message,
        conversation=conversation or "",
        turn=turn,
        model=model,
        rating=rating or "",
        comment=comment,
        rated_ms=int(rated_ms or 0),
    )


def counters(values: list[bytes | None]) -> Counters:
    """Return sums from values in the order of `Counters`; a value that is None gets the field's default."""
    named = zip(Counters.__struct_fields__, values, strict=True)
    return Counters(**{name: int(value) for name, value in named if value is not None})
