"""The texts of a response's output items, in pieces or whole: answer, refusal and reasoning. This module does no I/O."""

from __future__ import annotations

from providers.base import PartKind
from providers.delta_buffer import DeltaBuffer
from providers.openai.responses_schema import ItemKey, Source
from providers.think_tags import Piece as TaggedPiece
from providers.think_tags import ThinkTags

PieceKey = tuple[PartKind, ItemKey, int]
"""The identity of a piece: its kind, its item, and its index in the item."""


class PieceText:
    """The text of one piece so far, as it arrived. `part` is None until text comes that isn't reasoning between tags."""

    __slots__ = ("part", "pieces", "tags")

    def __init__(self, part: int | None, tags: ThinkTags | None = None) -> None:
        self.part = part
        self.tags = tags
        self.pieces: list[str] = []

    @property
    def text(self) -> str:
        """The whole text so far."""
        self.pieces = ["".join(self.pieces)]
        return self.pieces[0]

    def missing(self, whole: str) -> str | None:
        """Return the rest of `whole` after the text so far. None if neither text is the beginning of the other."""
        said = self.text
        return whole[len(said) :] if whole.startswith(said) else "" if said.startswith(whole) else None


class ItemTexts:
    """The texts so far. `tags` finds reasoning at the start of the first text; None if there is none.

    In all methods, `item_key` is the identity of an item, and `index` is the number of a piece in it.
    """

    def __init__(self, parts: DeltaBuffer, tags: ThinkTags | None = None) -> None:
        self._parts = parts
        self._tags = tags
        self._said: dict[PieceKey, PieceText] = {}
        self._pieces: dict[tuple[ItemKey, PartKind], list[int]] = {}
        """Map from (item, kind) to the indexes of its pieces."""
        self._sources: dict[ItemKey, tuple[Source, int]] = {}
        """Map from a reasoning item to (the field that its text comes from, the highest index of its pieces)."""

    @property
    def keys(self) -> set[ItemKey]:
        """The items that have a text."""
        return {key for key, _ in self._pieces} | self._sources.keys()

    def has(self, item_key: ItemKey, *kinds: PartKind) -> bool:
        """Return whether the item has a text of one of `kinds`."""
        return any((item_key, kind) in self._pieces for kind in kinds)

    def has_reasoning(self, item_key: ItemKey) -> bool:
        """Return whether the item has reasoning."""
        return item_key in self._sources

    def newest(self, count: int) -> list[tuple[PieceKey, PieceText]]:
        """Return the last `count` pieces that began."""
        return list(self._said.items())[-count:]

    def close(self) -> None:
        """Finish the answer: decide on tags at the end of a text."""
        for (_, item_key, index), said in self._said.items():
            if said.tags is not None:
                self._add_tagged(said, item_key, index, said.tags.close())

    def add(self, kind: PartKind, item_key: ItemKey, source: Source, index: int, text: str) -> None:
        """Append `text` to a piece. `source` is the field of reasoning."""
        if not text:
            return
        if kind == "reasoning":
            self._append_reasoning(item_key, source, index, text)
        else:
            self.append(kind, item_key, index, text)

    def add_whole(self, kind: PartKind, item_key: ItemKey, source: Source, index: int, text: str) -> None:
        """Add what is missing of the whole text of a piece. See `add`."""
        said = self._said.get((kind, item_key, index))
        first_source, last_index = self._sources.get(item_key, (source, -1))
        if said is not None and first_source == source and index >= last_index:
            self.append(kind, item_key, index, said.missing(text) or "")
        elif said is None and index > last_index:
            self.add(kind, item_key, source, index, text)

    def complete(self, kind: PartKind, item_key: ItemKey, index: int, text: str) -> None:
        """Add what is missing of the whole text of a piece of a complete message, whose pieces may be numbered anew."""
        known = self._pieces.get((item_key, kind), [])
        if index in known or not known:
            self.add_whole(kind, item_key, "content", index, text)
        elif index > max(known):
            self._add_other_piece(kind, item_key, index, text)

    def _add_other_piece(self, kind: PartKind, item_key: ItemKey, index: int, text: str) -> None:
        """Add the whole text of a piece whose index is unknown, unless a piece with another index has this text."""
        for known in self._pieces[item_key, kind]:
            if (missing := self._said[kind, item_key, known].missing(text)) is not None:
                self.append(kind, item_key, known, missing)
                return
        self.add(kind, item_key, "content", index, text)

    def complete_reasoning(self, item_key: ItemKey, whole: dict[Source, list[str]]) -> None:
        """Add what is missing of the reasoning of a complete item. `whole` has the pieces of its two fields."""
        source, _ = self._sources.get(item_key, ("summary" if any(whole["summary"]) else "content", 0))
        said = "".join(said.text for key, said in self._said.items() if key[:2] == ("reasoning", item_key))
        for index, text in enumerate(whole[source]):
            if text and text not in said:
                self.add_whole("reasoning", item_key, source, index, text)

    def sign(self, item_key: ItemKey, signature: str) -> None:
        """Add the signature of the item's reasoning, which may have no text."""
        key = ("reasoning", item_key, 0)
        part = self._parts.find_part(key)
        if part is None:
            part = self._parts.open_part("reasoning", key=key, redacted=True)
        self._parts.append_signature(part, signature)

    def append(self, kind: PartKind, item_key: ItemKey, index: int, text: str) -> None:
        """Append `text` to a piece. If it is the first, begin the piece."""
        if not text:
            return
        said = self._said.get((kind, item_key, index))
        if said is None:
            if kind == "text" and self._tags is not None:
                said, self._tags = PieceText(None, self._tags), None
            else:
                said = PieceText(self._open_part(kind, item_key, index))
            self._said[kind, item_key, index] = said
            self._pieces.setdefault((item_key, kind), []).append(index)
        said.pieces.append(text)
        if said.part is not None and said.tags is None:
            self._parts.append(said.part, text)
        elif said.tags is not None:
            self._add_tagged(said, item_key, index, said.tags.feed(text))

    def _append_reasoning(self, item_key: ItemKey, source: Source, index: int, text: str) -> None:
        """Append reasoning to the item's only reasoning part.

        Some hosts send both the reasoning and its summary. Only the one that comes first is used.
        """
        first_source, last_index = self._sources.get(item_key, (source, index))
        if first_source == source:
            self._sources[item_key] = (source, max(index, last_index))
            if index > last_index:
                self._parts.append(self._open_part("reasoning", item_key, index), "\n\n")
            self.append("reasoning", item_key, index, text)

    def _add_tagged(self, said: PieceText, item_key: ItemKey, index: int, pieces: list[TaggedPiece]) -> None:
        """Append text whose start may be reasoning between tags."""
        for kind, text in pieces:
            if kind != "text":
                self._parts.append_text("reasoning", text)
                continue
            if said.part is None:
                said.part = self._open_part("text", item_key, index)
            self._parts.append(said.part, text)
        if said.part is not None and said.tags is not None and said.tags.is_done:
            said.tags = None

    def _open_part(self, kind: PartKind, item_key: ItemKey, index: int) -> int:
        """Return the part of this piece. All reasoning of an item is one part."""
        key = (kind, item_key, 0 if kind == "reasoning" else index)
        part = self._parts.find_part(key)
        return self._parts.open_part(kind, key=key) if part is None else part
