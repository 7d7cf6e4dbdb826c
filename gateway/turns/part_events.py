"""The events of a part: its start, and its text and signature in pieces. Each fits into a frame (law 10)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gateway.protocol.events import TurnDelta, TurnPart
from gateway.protocol.plain_text import escape_invisible
from gateway.protocol.requests import PIECE_BYTES_MAX
from gateway.protocol.text_size import clip_text, encoded_size, split_text
from gateway.streams.log import event_size
from providers.base import CitationPart, Part, PartDelta, PartStarted, ReasoningPart

ID_BYTES_MAX = 512
TITLE_BYTES_MAX = 1024
TEXT_BYTES_MAX = 4096
URL_BYTES_MAX = 8192
UNSPLIT_CHARS_MAX = PIECE_BYTES_MAX // 6
"""A text of this many characters always fits in a frame, even if every character is escaped."""
SLICE_BYTES = 1_048_576
"""Longer answers are published in slices of about this many bytes. Other tasks run between two slices."""


def part_event(turn: str, seq: int, part: PartStarted) -> TurnPart:
    """Return the start of `part` as an event, with its fields cut so that it fits into a frame (law 10)."""

    def clip(text: str | None, bytes_max: int) -> str | None:
        return None if text is None else clip_text(text, bytes_max)

    def visible(text: str | None) -> str | None:
        """Return an id or a name in visible characters only: clients send it back, and logs show it."""
        return None if text is None else clip_text(escape_invisible(text), ID_BYTES_MAX)

    # A truncated URL is a wrong URL, so one that is too long for a frame is left out.
    url = part.url if part.url is None or encoded_size(part.url) <= URL_BYTES_MAX else None
    return TurnPart(
        turn=turn,
        seq=seq,
        part=part.part,
        kind=part.kind,
        call=visible(part.call),
        name=visible(part.name),
        url=url,
        title=clip(part.title, TITLE_BYTES_MAX),
        text=clip(part.text, TEXT_BYTES_MAX),
        media_type=clip(part.media_type, ID_BYTES_MAX),
        redacted=part.redacted,
        size=part.size,
    )


def delta_events(turn: str, seq: int, delta: PartDelta) -> Sequence[TurnDelta]:
    """Return a delta without data as one event, or as several if one wouldn't fit into a frame (law 10)."""
    text = delta.text
    if text is not None:
        pieces = split_text(text, PIECE_BYTES_MAX)
        return [TurnDelta(turn, seq + n, delta.part, piece) for n, piece in enumerate(pieces, 1) if piece]
    pieces = split_text(delta.signature or "", PIECE_BYTES_MAX)
    return [TurnDelta(turn, seq + n, delta.part, None, piece) for n, piece in enumerate(pieces, 1) if piece]


def repeated_events(turn: str, seq: int, parts: Iterable[Part]) -> list[list[TurnPart | TurnDelta]]:
    """Return the events after `seq` that make up `parts`, in slices of about `SLICE_BYTES`."""
    slices: list[list[TurnPart | TurnDelta]] = [[]]
    size = 0
    for number, part in enumerate(parts):
        for event in _part_events(turn, seq, number, part):
            seq += 1
            slices[-1].append(event)
            size += event_size(event)
            if size > SLICE_BYTES:
                slices.append([])
                size = 0
    return [one for one in slices if one]


def _part_events(turn: str, seq: int, number: int, part: Part) -> Iterator[TurnPart | TurnDelta]:
    if isinstance(part, CitationPart):
        started = PartStarted(number, "citation", url=part.url, title=part.title, text=part.text)
        text = None
    elif isinstance(part, ReasoningPart):
        started, text = PartStarted(number, "reasoning", redacted=part.redacted), part.text
    else:
        started, text = PartStarted(number, "text"), getattr(part, "text", None)
    yield part_event(turn, seq + 1, started)
    seq += 1
    for delta in (PartDelta(number, text), PartDelta(number, signature=part.signature)):
        if delta.text or delta.signature:
            for event in delta_events(turn, seq, delta):
                seq += 1
                yield event
