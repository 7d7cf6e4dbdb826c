"""The conversion of a response's output items to parts. Content may arrive in pieces or whole; none is added twice.

An item is identified by its index in the output if it has one, because proxies give one item several ids. Content
that a provider sends only whole, at the end of an item or of the answer, is added then. This module does no I/O.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from msgspec import Struct

from providers.base import PartKind
from providers.delta_buffer import DeltaBuffer
from providers.media import Media, MediaPiece

SIGNATURE_MARK: Final = ":"
"""The separator between a reasoning item's id and its encrypted content in a part's signature. Both are sent back."""

ItemKey = int | str
"""The identity of an item: its index in the output, or its id if the provider gives no index."""
Source = Literal["content", "summary"]
"""The field of an item that a piece belongs to."""
Arguments = str | dict[str, Any] | None

KINDS: Final[dict[str, PartKind]] = {
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
    "output_audio": "text",
    "audio": "text",
    "reasoning_text": "reasoning",
    "summary_text": "reasoning",
}


class Annotation(Struct, gc=False):
    """A citation of a page, or of a file."""

    url: str | None = None
    title: str | None = None
    filename: str | None = None


class Piece(MediaPiece, gc=False):
    """A piece of an item's content or summary."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[Annotation] | None = None
    data: Any = None

    @property
    def words(self) -> str:
        """The text of the piece: its own, its refusal's, or the transcript of its sound."""
        transcript = self.transcript if isinstance(self.transcript, str) else ""
        return self.text or self.refusal or transcript


class Item(Struct, gc=False):
    """An item of the output: a message, reasoning, or a tool call."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Arguments = None
    input: str | None = None
    phase: str | None = None
    content: list[Piece] | None = None
    summary: list[Piece] | None = None
    encrypted_content: str | None = None
    result: Any = None
    output_format: str | None = None


class OutputItems:
    """The output items so far. Hosted tools, which the provider runs itself, produce no part, except for images."""

    def __init__(self, parts: DeltaBuffer) -> None:
        self._parts = parts
        self._media = Media(parts)
        self._images: dict[ItemKey, str] = {}
        """Map from an item whose image isn't complete to its newest preview, which is used if no image follows."""
        self._complete: set[tuple[ItemKey, str]] = set()
        """The pairs (item, type) of the items without text that were added."""
        self._kinds: set[tuple[ItemKey, PartKind]] = set()
        """The pairs (item, kind) for which there is a part."""
        self._sources: dict[ItemKey, tuple[Source, int]] = {}
        """Map from a reasoning item to (the field that its text comes from, the highest index of its pieces)."""
        self._citation_counts: dict[tuple[ItemKey, int], int] = {}
        """Map from (item, piece index) to the number of its citations so far."""
        self._call_ids: dict[ItemKey, str] = {}
        """Map from an item to the id of its newest call."""
        self._without_arguments: set[int] = set()
        """The numbers of the call parts without arguments so far."""

    @property
    def has_tool_calls(self) -> bool:
        """Whether the answer has a tool call."""
        return bool(self._call_ids)

    def close(self) -> None:
        """Finish the answer. Give the arguments `{}` to each call that has none."""
        for part in sorted(self._without_arguments):
            self._parts.append(part, "{}")
        self._without_arguments.clear()
        for preview in self._images.values():
            self._media.add_image(preview, "image/png")
        self._images.clear()
        self._media.close()

    def add_text(self, kind: PartKind, item_key: ItemKey, source: Source, index: int, text: str) -> None:
        """Append `text` to piece number `index` of the item `item_key`."""
        if not text:
            return
        if kind == "reasoning":
            self._append_reasoning(item_key, source, index, text)
        else:
            self._append(kind, item_key, index, text)

    def add_whole_text(self, kind: PartKind, item_key: ItemKey, source: Source, index: int, text: str) -> None:
        """Add the whole text of piece number `index` of the item `item_key`, unless some of it was added before."""
        if kind == "reasoning":
            if item_key in self._sources and self._sources[item_key][1] >= index:
                return
        elif self._parts.find_part((kind, item_key, index)) is not None:
            return
        self.add_text(kind, item_key, source, index, text)

    def add_citation(self, item_key: ItemKey, index: int, annotation: Annotation) -> None:
        """Add a citation of piece number `index` of the item `item_key`."""
        self._citation_counts[item_key, index] = self._citation_counts.get((item_key, index), 0) + 1
        self._parts.add_citation(url=annotation.url, title=annotation.title or annotation.filename, text=None)

    def add_other_citations(self, item_key: ItemKey, index: int, piece: Piece) -> None:
        """Add the citations of a whole piece that weren't added one by one."""
        for annotation in (piece.annotations or [])[self._citation_counts.get((item_key, index), 0) :]:
            self.add_citation(item_key, index, annotation)

    def open_call(self, item_key: ItemKey, item: Item) -> None:
        """Start a tool call if it is new. Another id is a new call, because some hosts give all items one index."""
        call_id = item.call_id or item.id or ""
        if item.name and (item_key not in self._call_ids or (call_id and self._call_ids[item_key] != call_id)):
            self._call_ids[item_key] = call_id
            self._without_arguments.add(
                self._parts.open_tool_call(("call", item_key), call_id or f"call_{self._parts.count}", item.name)
            )

    def add_arguments(self, item_key: ItemKey, piece: str) -> None:
        """Append a piece to the arguments of the call `item_key`."""
        part = self._parts.find_part(("call", item_key))
        if part is not None and piece:
            self._without_arguments.discard(part)
            self._parts.append(part, piece)

    def add_whole_arguments(self, item_key: ItemKey, arguments: Arguments) -> None:
        """Add all arguments of the call `item_key`, unless some of them were added before."""
        if arguments and self._parts.find_part(("call", item_key)) in self._without_arguments:
            self.add_arguments(item_key, arguments if isinstance(arguments, str) else json.dumps(arguments))

    def complete_item(self, item_key: ItemKey, item: Item) -> None:
        """Add the content of a complete item, except what was added before."""
        if item.type == "message":
            self._complete_message(item_key, item)
        elif item.type == "reasoning":
            self._complete_reasoning(item_key, item)
        elif item.type in ("function_call", "custom_tool_call"):
            self.open_call(item_key, item)
            # The input of a custom tool is free text, but arguments are JSON, so wrap it in an object.
            is_custom = item.type == "custom_tool_call"
            self.add_whole_arguments(item_key, {"input": item.input or ""} if is_custom else item.arguments)
        elif (item_key, item.type) not in self._complete:
            self._complete.add((item_key, item.type))
            self._complete_other(item_key, item)

    def add_preview(self, item_key: ItemKey, image: str) -> None:
        """Keep the newest preview of an image that isn't complete. Only the previews of one item are kept."""
        if (item_key, "image_generation_call") not in self._complete:
            self._images = {item_key: image}

    def add_sound(self, sound: str) -> None:
        """Add a piece of sound without its words. See `Media.add_audio`."""
        self._media.add_audio(sound)

    def add_transcript(self) -> None:
        """Record that the words of the answer's sound are among its texts."""
        self._media.has_transcript = True

    def _complete_other(self, item_key: ItemKey, item: Item) -> None:
        """Add the image that the provider's own tool made, or the content of an item of an unknown type."""
        if item.type == "image_generation_call":
            preview = self._images.pop(item_key, None)
            self._media.add_image(item.result or preview, f"image/{item.output_format or 'png'}")
        elif item.content:
            self._complete_message(item_key, item)
        else:
            self._media.add_unknown(item.type)

    def _complete_message(self, item_key: ItemKey, item: Item) -> None:
        kinds = {kind for kind in KINDS.values() if (item_key, kind) in self._kinds}
        for index, piece in enumerate(item.content or ()):
            kind = KINDS.get(piece.type)
            if kind is not None and kind not in kinds:
                self.add_text(kind, item_key, "content", index, piece.words)
            self._add_media(piece)
            self.add_other_citations(item_key, index, piece)

    def _add_media(self, piece: Piece) -> None:
        """Add what a piece of a complete message holds besides its words."""
        if piece.words and piece.type in ("output_audio", "audio"):
            self.add_transcript()
        elif piece.type in ("output_audio", "audio"):
            self._media.add_audio(piece.data or piece.audio)
        elif piece.type not in KINDS:
            self._media.add_piece(piece.type, piece)

    def _complete_reasoning(self, item_key: ItemKey, item: Item) -> None:
        if item_key not in self._sources:
            source: Source = "summary" if item.summary else "content"
            for index, piece in enumerate(item.summary or item.content or ()):
                self.add_text("reasoning", item_key, source, index, piece.text or "")
        if item.encrypted_content:
            key = ("reasoning", item_key, 0)
            part = self._parts.find_part(key)
            if part is None:
                part = self._parts.open_part("reasoning", key=key, redacted=True)
            self._parts.append_signature(part, (item.id + SIGNATURE_MARK if item.id else "") + item.encrypted_content)

    def _append_reasoning(self, item_key: ItemKey, source: Source, index: int, text: str) -> None:
        """Append reasoning to the item's only reasoning part.

        Some hosts send both the reasoning and its summary. Only the one that comes first is used.
        """
        first_source, last_index = self._sources.get(item_key, (source, index))
        if first_source == source:
            self._sources[item_key] = (source, max(index, last_index))
            self._append("reasoning", item_key, 0, text if index <= last_index else "\n\n" + text)

    def _append(self, kind: PartKind, item_key: ItemKey, index: int, text: str) -> None:
        key = (kind, item_key, index)
        part = self._parts.find_part(key)
        if part is None:
            part = self._parts.open_part(kind, key=key)
            self._kinds.add((item_key, kind))
        self._parts.append(part, text)
