"""Conversions from the store's records to what clients see: conversations, messages, usage and cost.

This module also converts usage to counters, and makes previews of messages, URLs of parts, and titles.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from gateway.protocol.codec import JSON
from gateway.protocol.errors import ErrorBody
from gateway.protocol.events import CancelledBy, ConversationUpdated, Cost, EndStatus, Message, Timing
from gateway.protocol.ids import rfc3339
from gateway.protocol.requests import Rating
from gateway.protocol.results import Conversation, ConversationMatch
from gateway.protocol.text_size import clip_text, encoded_size
from providers.base import FilePart, FinishReason, ImagePart, Part, Role, TextPart, ToolResultPart, Usage
from store.records import ConversationRecord, Counters, Found, MessageRecord

NANOS_PER_USD = 1_000_000_000
INPUT_TEXT_BYTES_MAX = 4096
DATA_CHARS_MAX = 4096
SYSTEM_BYTES_MAX = 8192
"""A longer system prompt is left out of `conversation.updated`, because an event has to fit in a frame."""
INPUT_BYTES_MAX = 8192
TITLE_CHARS_MAX = 60
TITLE_LINE_CHARS_MAX = 4096
"""How many characters, after leading whitespace, are searched for the first line of a text."""

_PART_URL = re.compile(r"/v1/messages/([A-Za-z0-9_-]{1,64})/parts/(\d{1,6})(?:\?turn=([A-Za-z0-9_.-]{1,64}))?")


class MessageBody(Struct, frozen=True, omit_defaults=True):
    """The fields of a `Message` that are stored encoded, in the body of its record. They have the same names."""

    parts: list[Part]
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


encode_body = msgspec.json.Encoder().encode
decode_body = msgspec.json.Decoder(MessageBody, float_hook=float).decode


def body_of(record: MessageRecord) -> MessageBody:
    """Return the body of a stored message."""
    return decode_body(record.body)


def message_view(
    record: MessageRecord, body: MessageBody | None = None, *, stateless_turn: str | None = None
) -> Message:
    """Return a stored message as clients see it, with large `data` replaced by its URL.

    `body`: the message's body, if the caller has decoded it. It is used unchanged, and the stored one isn't read.
    `stateless_turn`: the turn of an answer that is in no conversation.
    """
    if body is None:
        body = body_of(record)
        parts = [with_url(record.id, n, part, stateless_turn) for n, part in enumerate(body.parts)]
        body = msgspec.structs.replace(body, parts=parts)
    return Message(
        id=record.id,
        role=record.role,  # type: ignore[arg-type]
        parent=record.parent,
        created_at=rfc3339(record.created_ms),
        turn=record.turn,
        **msgspec.structs.asdict(body),
        rating=None if record.rating is None else rating_view(record.rating),
        comment=record.comment,
    )


def rating_view(rating: str) -> Rating:
    """Return a stored rating as clients see it."""
    return int(rating) if rating.isdecimal() else rating  # type: ignore[return-value]


def conversation_view(record: ConversationRecord) -> Conversation:
    """Return a conversation as clients see it."""
    return Conversation(
        id=record.id,
        title=record.title,
        system=UNSET if record.system is None else record.system,
        model=UNSET if record.model is None else record.model,
        metadata=_metadata(record.metadata),
        head=record.head,
        revision=record.revision,
        pinned=record.pinned,
        created_at=rfc3339(record.created_ms),
        updated_at=rfc3339(record.updated_ms),
        messages=record.messages,
        usage=usage_view(record.usage),
        cost=cost_from_nano(record.usage.cost_nano),
    )


def update_event(record: ConversationRecord) -> ConversationUpdated:
    """Return the event for the subscribers of a conversation that was changed."""
    system = record.system or ""
    return ConversationUpdated(
        conversation=record.id,
        revision=record.revision,
        title=record.title,
        head=record.head,
        system=UNSET if encoded_size(system) > SYSTEM_BYTES_MAX else system,
    )


def _metadata(stored: bytes) -> dict[str, Any]:
    """Return stored metadata; none if it is damaged, because the other conversations of a list must still be shown."""
    try:
        found = JSON.decode_any(stored)
    except (msgspec.DecodeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def found_view(found: Found) -> Conversation:
    """Return a conversation that a search has found, with the place where it was found."""
    view = conversation_view(found.record)
    if found.message is None:
        return view
    return msgspec.structs.replace(view, match=ConversationMatch(found.message, found.snippet or ""))


def usage_view(sums: Counters) -> Usage:
    """Return the sums as usage."""
    return Usage(
        sums.input_tokens,
        sums.output_tokens,
        sums.reasoning_tokens or None,
        sums.cache_read_tokens or None,
        sums.cache_write_tokens or None,
    )


def cost_from_nano(nano: int | None) -> Cost | None:
    """Return billionths of a dollar as a cost: exact, with at least six decimals. None stays None."""
    if nano is None:
        return None
    decimals = f"{nano % NANOS_PER_USD:09d}"
    return Cost(f"{nano // NANOS_PER_USD}.{decimals[:6]}{decimals[6:].rstrip('0')}")


def nano_from_cost(cost: Cost | None) -> int | None:
    """Return a cost as billionths of a dollar: the reverse of `cost_from_nano`."""
    return None if cost is None else int(Decimal(cost.amount) * NANOS_PER_USD)


def input_role(parts: list[Part]) -> Role:
    """Return the role of the input message whose parts are `parts`."""
    return "tool" if all(isinstance(part, ToolResultPart) for part in parts) else "user"


def counters_of(usage: Usage | None, cost_nano: int | None) -> Counters:
    """Return a turn's usage and cost as counters. `cost_nano` is in billionths of a dollar."""
    if usage is None:
        return Counters()
    return Counters(
        usage.input_tokens,
        usage.output_tokens,
        usage.reasoning_tokens or 0,
        usage.cache_read_tokens or 0,
        usage.cache_write_tokens or 0,
        cost_nano,
    )


def preview(message: Message) -> Message:
    """Return the message, made small enough for `turn.started`.

    Long text is cut; `data` is left out, and so are metadata and parts that don't fit. If anything is missing,
    `truncated` is true.
    """
    parts: list[Part] = []
    truncated = False
    text_left, bytes_left = INPUT_TEXT_BYTES_MAX, INPUT_BYTES_MAX
    for part in message.parts:
        short = part if getattr(part, "data", None) is None else msgspec.structs.replace(part, data=None)
        if isinstance(short, TextPart):
            clipped = clip_text(short.text, text_left)
            text_left -= encoded_size(clipped)
            short = msgspec.structs.replace(short, text=clipped)
        size = len(encode_body(short)) + 16
        truncated = truncated or short != part
        if size > bytes_left:
            truncated = True
            break
        bytes_left -= size
        parts.append(short)
    metadata = message.metadata
    if metadata is not None and encoded_size(metadata) > bytes_left:
        metadata, truncated = None, True
    return msgspec.structs.replace(message, parts=parts, metadata=metadata, truncated=truncated)


def part_url(message: str, number: int, stateless_turn: str | None = None) -> str:
    """Return the URL of the data of a part. It names the turn if the message is in no conversation."""
    turn = "" if stateless_turn is None else f"?turn={stateless_turn}"
    return f"/v1/messages/{message}/parts/{number}{turn}"


def with_url(message: str, number: int, part: Part, stateless_turn: str | None = None) -> Part:
    """Return part `number` of a stored message as clients see it: large `data` is replaced by its URL."""
    if not isinstance(part, ImagePart | FilePart) or part.data is None or len(part.data) <= DATA_CHARS_MAX:
        return part
    return msgspec.structs.replace(part, data=None, url=part_url(message, number, stateless_turn))


def parse_part_turn(url: str) -> str | None:
    """Return the turn that the URL of a part names, or None."""
    match = _PART_URL.fullmatch(url)
    return None if match is None else match.group(3)


def parse_part_url(url: str) -> tuple[str, int] | None:
    """Return the message id and the number of the part whose data is at this URL.

    Return None if it isn't the URL of a part.
    """
    match = _PART_URL.fullmatch(url)
    return None if match is None else (match.group(1), int(match.group(2)))


def title_of(parts: list[Part]) -> str:
    """Return a new conversation's title: the first line of the first text, shortened; empty if there is no text."""
    for part in parts:
        if isinstance(part, TextPart) and part.text.strip():
            line = " ".join(part.text.lstrip()[:TITLE_LINE_CHARS_MAX].splitlines()[0].split())
            return line if len(line) <= TITLE_CHARS_MAX else line[: TITLE_CHARS_MAX - 1].rstrip() + "…"
    return ""
