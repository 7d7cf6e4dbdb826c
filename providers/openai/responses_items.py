"""The conversion of a response's output items to parts. Content may arrive in pieces or whole; none is added twice.

An item is identified by its index in the output, not by its id, because proxies give one item several ids. Content
that a provider sends only whole, at the end of an item or of the answer, is added then. It does no I/O.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from msgspec import Struct

from providers.base import PartKind
from providers.delta_buffer import DeltaBuffer

SIGNATURE_MARK: Final = ":"
"""The separator of a reasoning item's id and its encrypted content in a part's signature. Both are sent back."""

Place = int | str
"""The identity of an item: its index in the output, or its id if the provider gives no index."""
Source = Literal["content", "summary"]
"""The field of an item that a piece belongs to."""
Arguments = str | dict[str, Any] | None

KINDS: Final[dict[str, PartKind]] = {
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
    "reasoning_text": "reasoning",
    "summary_text": "reasoning",
}


class Annotation(Struct, gc=False):
    """A citation of a page, or of a file."""

    url: str | None = None
    title: str | None = None
    filename: str | None = None


class Piece(Struct, gc=False):
    """A piece of an item's content or summary."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[Annotation] | None = None


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


class Output:
    """The output items so far. Hosted tools, which the provider runs itself, produce no part."""

    def __init__(self, parts: DeltaBuffer) -> None:
        self._parts = parts
        self._spoken: set[tuple[Place, PartKind]] = set()
        """The pairs (item, kind) for which there is a part."""
        self._thoughts: dict[Place, tuple[Source, int]] = {}
        """Map from a reasoning item to (the field that its text comes from, the highest index of its pieces)."""
        self._cited: dict[tuple[Place, int], int] = {}
        """Map from (item, piece index) to the number of its citations so far."""
        self._calls: dict[Place, str] = {}
        """Map from an item to the id of its newest call."""
        self._empty: set[int] = set()
        """The numbers of the call parts without arguments so far."""

    @property
    def calls(self) -> bool:
        """Whether the answer has a tool call."""
        return bool(self._calls)

    def close(self) -> None:
        """Finish the answer. Give the arguments `{}` to each call that has none."""
        for part in sorted(self._empty):
            self._parts.append(part, "{}")
        self._empty.clear()

    def add_text(self, kind: PartKind, place: Place, source: Source, index: int, text: str) -> None:
        """Append `text` to piece number `index` of the item at `place`."""
        if not text:
            return
        if kind == "reasoning":
            self._think(place, source, index, text)
        else:
            self._grow(kind, place, index, text)

    def add_whole_text(self, kind: PartKind, place: Place, source: Source, index: int, text: str) -> None:
        """Add the whole text of piece number `index` of the item at `place`, unless some of it was added before."""
        if kind == "reasoning":
            if place in self._thoughts and self._thoughts[place][1] >= index:
                return
        elif self._parts.find_part((kind, place, index)) is not None:
            return
        self.add_text(kind, place, source, index, text)

    def add_citation(self, place: Place, index: int, annotation: Annotation) -> None:
        """Add a citation of piece number `index` of the item at `place`."""
        self._cited[place, index] = self._cited.get((place, index), 0) + 1
        self._parts.add_citation(url=annotation.url, title=annotation.title or annotation.filename, text=None)

    def add_other_citations(self, place: Place, index: int, piece: Piece) -> None:
        """Add the citations of a whole piece that weren't added one by one."""
        for annotation in (piece.annotations or [])[self._cited.get((place, index), 0) :]:
            self.add_citation(place, index, annotation)

    def open_call(self, place: Place, item: Item) -> None:
        """Start a tool call if it is new. Another id is a new call, because some hosts give all items one index."""
        call = item.call_id or item.id or ""
        if item.name and (place not in self._calls or (call and self._calls[place] != call)):
            self._calls[place] = call
            self._empty.add(
                self._parts.open_tool_call(("call", place), call or f"call_{self._parts.opened}", item.name)
            )

    def add_arguments(self, place: Place, piece: str) -> None:
        """Append a piece to the arguments of the call at `place`."""
        part = self._parts.find_part(("call", place))
        if part is not None and piece:
            self._empty.discard(part)
            self._parts.append(part, piece)

    def add_whole_arguments(self, place: Place, arguments: Arguments) -> None:
        """Add all arguments of the call at `place`, unless some of them were added before."""
        if arguments and self._parts.find_part(("call", place)) in self._empty:
            self.add_arguments(place, arguments if isinstance(arguments, str) else json.dumps(arguments))

    def complete_item(self, place: Place, item: Item) -> None:
        """Add the content of a complete item that wasn't added before."""
        if item.type == "message":
            self._message(place, item)
        elif item.type == "reasoning":
            self._reasoned(place, item)
        elif item.type == "function_call":
            self.open_call(place, item)
            self.add_whole_arguments(place, item.arguments)
        elif item.type == "custom_tool_call":
            # The input is free text, but arguments are JSON, so wrap it in an object.
            self.open_call(place, item)
            self.add_whole_arguments(place, {"input": item.input or ""})

    def _message(self, place: Place, item: Item) -> None:
        spoken = {kind for kind in KINDS.values() if (place, kind) in self._spoken}
        for index, piece in enumerate(item.content or ()):
            kind = KINDS.get(piece.type)
            if kind is not None and kind not in spoken:
                self.add_text(kind, place, "content", index, piece.text or piece.refusal or "")
            self.add_other_citations(place, index, piece)

    def _reasoned(self, place: Place, item: Item) -> None:
        if place not in self._thoughts:
            source: Source = "summary" if item.summary else "content"
            for index, piece in enumerate(item.summary or item.content or ()):
                self.add_text("reasoning", place, source, index, piece.text or "")
        if item.encrypted_content:
            key = ("reasoning", place, 0)
            part = self._parts.find_part(key)
            if part is None:
                part = self._parts.open_part("reasoning", key=key, redacted=True)
            self._parts.append_signature(part, (item.id + SIGNATURE_MARK if item.id else "") + item.encrypted_content)

    def _think(self, place: Place, source: Source, index: int, text: str) -> None:
        """Append reasoning to the item's only reasoning part.

        Some hosts send both the reasoning and its summary. Only the one that comes first is used.
        """
        known, newest = self._thoughts.get(place, (source, index))
        if known == source:
            self._thoughts[place] = (source, max(index, newest))
            self._grow("reasoning", place, 0, text if index <= newest else "\n\n" + text)

    def _grow(self, kind: PartKind, place: Place, index: int, text: str) -> None:
        key = (kind, place, index)
        part = self._parts.find_part(key)
        if part is None:
            part = self._parts.open_part(kind, key=key)
            self._spoken.add((place, kind))
        self._parts.append(part, text)
