"""Frames as bytes, in JSON or MessagePack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from turnwire.client.events import (
    AuthExpiring,
    ConversationDeleted,
    ConversationsChanged,
    ConversationUpdated,
    Durability,
    Event,
    GoingAway,
    Heartbeat,
    Ready,
    TurnCancelled,
    TurnCompleted,
    TurnDelta,
    TurnDetached,
    TurnFailedEvent,
    TurnPart,
    TurnReset,
    TurnStarted,
    TurnStatus,
    UnknownEvent,
)
from turnwire.client.records import ErrorRecord


class Result(Event, tag="result"):
    """The answer to a request."""

    id: str = ""
    result: Any = None
    pieces: int | None = None


class ResultPiece(Event, tag="result.piece"):
    """A piece of the JSON of a result that doesn't fit in a frame."""

    id: str = ""
    text: str = ""


class ErrorAnswer(Event, tag="error", kw_only=True):
    """The answer to a request that has failed. Without `id`, it isn't known to which."""

    error: ErrorRecord
    id: str | None = None


Known: TypeAlias = (
    TurnDelta
    | TurnPart
    | TurnStarted
    | TurnStatus
    | TurnReset
    | TurnCompleted
    | TurnCancelled
    | TurnFailedEvent
    | TurnDetached
    | Result
    | ResultPiece
    | ErrorAnswer
    | Ready
    | Heartbeat
    | GoingAway
    | Durability
    | AuthExpiring
    | ConversationUpdated
    | ConversationDeleted
    | ConversationsChanged
)
Frame: TypeAlias = Known | UnknownEvent


class Codec(NamedTuple):
    """One encoding, with its subprotocol. `is_text`: a frame is sent as text."""

    name: str
    subprotocol: str
    is_text: bool
    encode: Callable[[Any], bytes]
    decode_known: Callable[[bytes], Known]
    decode_any: Callable[[bytes], Any]

    def decode(self, data: bytes) -> Frame:
        """Return the frame. Raise `msgspec.DecodeError` if it isn't one."""
        try:
            return self.decode_known(data)
        except msgspec.ValidationError:
            # An unknown type; or fields that this client doesn't understand, which is noticed by the gap in its turn.
            return unknown_event(self.decode_any(data))


def unknown_event(fields: Any) -> UnknownEvent:
    """Return a frame as an event that isn't known. Raise `msgspec.DecodeError` if it has no type."""
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise msgspec.DecodeError("The frame has no type.")
    turn, user = fields.get("turn"), fields.get("as")
    return UnknownEvent(
        type=fields["type"],
        fields=fields,
        turn=turn if isinstance(turn, str) else None,
        seq=_whole(fields.get("seq")),
        after=_whole(fields.get("after")),
        user=user if isinstance(user, str) else None,
    )


def whole_text(value: Any) -> Any:
    """Return the value with U+FFFD for each half of a surrogate pair in its texts: those can't be encoded."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {whole_text(key): whole_text(item) for key, item in value.items()}
    return [whole_text(item) for item in value] if isinstance(value, (list, tuple)) else value


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _encoder(encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    def encode_whole(frame: Any) -> bytes:
        try:
            return encode(frame)
        except UnicodeEncodeError:
            return encode(whole_text(msgspec.to_builtins(frame)))

    return encode_whole


JSON: Final = Codec(
    "json",
    "turnwire.v1.json",
    True,
    _encoder(msgspec.json.Encoder().encode),
    msgspec.json.Decoder(Known).decode,
    msgspec.json.Decoder().decode,
)
MSGPACK: Final = Codec(
    "msgpack",
    "turnwire.v1.msgpack",
    False,
    _encoder(msgspec.msgpack.Encoder().encode),
    msgspec.msgpack.Decoder(Known).decode,
    msgspec.msgpack.Decoder().decode,
)
CODECS: Final = {"json": JSON, "msgpack": MSGPACK}
