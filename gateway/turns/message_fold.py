"""The fold of a turn's events into the parts of its message. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import structs

from gateway.protocol.events import TurnDelta, TurnEvent, TurnPart, TurnReset, TurnStarted, TurnStatus
from gateway.protocol.part_data import PartData, data_chars
from providers.base import (
    CitationPart,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

BROKEN_IMAGE = "[The model sent an image that didn't arrive completely.]"
"""The text in place of an image whose data broke off."""


def model_of(events: Sequence[TurnEvent], accepted: str) -> str:
    """Return the id of the model that answers: that of the last fallback, or else `accepted`.

    `accepted` is the model for which the turn was accepted. Events before the last reset are ignored.
    """
    for event in reversed(events):
        if isinstance(event, TurnReset):
            break
        if isinstance(event, TurnStatus) and event.model is not None:
            return event.model
    return accepted


def fold(events: Iterable[TurnEvent]) -> list[Part]:
    """Return the parts of the message that `events` make up. A reset drops the parts before it.

    If another model continues the answer, the signatures before that are dropped, because a model rejects those of
    another one. An image has the data so far. See `fold_shown` and `fold_final`.
    """
    return [part for _, part in _folded(events)]


def fold_shown(events: Iterable[TurnEvent]) -> list[Part]:
    """Return the parts as a client sees them while the turn runs: with the addresses of images in place of data."""
    return [
        structs.replace(part, data=None, url=start.url)
        if isinstance(part, ImagePart) and start.size is not None
        else part
        for start, part in _folded(events)
    ]


def fold_final(events: Iterable[TurnEvent]) -> list[Part]:
    """Return the parts as they are stored. An image whose data broke off becomes a text that says so."""
    return [
        TextPart(BROKEN_IMAGE) if isinstance(part, ImagePart) and not has_data(start, part) else part
        for start, part in _folded(events)
    ]


def fold_image(events: Iterable[TurnEvent], number: int) -> ImagePart | None:
    """Return part number `number` if it is an image whose data is complete, else None."""
    for start, part in _folded(event for event in events if getattr(event, "part", number) == number):
        if isinstance(part, ImagePart) and start.part == number and start.size is not None and has_data(start, part):
            return part
    return None


def has_data(start: TurnPart, image: ImagePart) -> bool:
    """Return whether the image that begins with `start` has all of its data, or needs none."""
    return start.size is None or len(image.data or "") >= data_chars(start.size)


def _folded(events: Iterable[TurnEvent]) -> list[tuple[TurnPart, Part]]:
    """Return the parts that `events` make up, each with the event that begins it."""
    model = ""
    opened: dict[int, TurnPart] = {}
    texts: dict[int, list[str]] = {}
    signatures: dict[int, list[str]] = {}
    data: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, TurnDelta):
            if event.text is not None:
                texts[event.part].append(event.text)
            if event.signature is not None:
                signatures[event.part].append(event.signature)
            if type(event) is PartData:
                data.setdefault(event.part, []).append(event.data)
        elif isinstance(event, TurnPart):
            number = event.part
            opened[number], texts[number], signatures[number] = event, [], []
        elif isinstance(event, TurnReset):
            opened, texts, signatures, data = {}, {}, {}, {}
        elif isinstance(event, TurnStarted):
            model = event.model
        elif isinstance(event, TurnStatus) and event.model is not None:
            if event.model != model and event.status == "continued":
                signatures = {number: [] for number in opened}
            model = event.model
    return [
        (start, _part(start, "".join(texts[n]), "".join(signatures[n]) or None, "".join(data.get(n, ()))))
        for n, start in opened.items()
    ]


def _part(start: TurnPart, text: str, signature: str | None, data: str) -> Part:
    match start.kind:
        case "text":
            return TextPart(text, signature)
        case "reasoning":
            return ReasoningPart(text, start.redacted, signature)
        case "refusal":
            return RefusalPart(text, signature)
        case "tool_call":
            return ToolCallPart(start.call or "", start.name or "", text, signature)
        case "tool_result":
            return ToolResultPart(start.call or "", text, signature=signature)
        case "citation":
            return CitationPart(start.url, start.title, start.text or text or None, signature)
        case "image":
            media = start.media_type or "image/png"
            if start.size is not None:
                return ImagePart(media, data=data, signature=signature)
            return ImagePart(media, url=start.url, name=start.name, signature=signature)
        case "file":
            media = start.media_type or "application/octet-stream"
            return FilePart(media, url=start.url, name=start.name, signature=signature)
