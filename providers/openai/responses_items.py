"""The conversion of a response's output items to parts. Content may arrive in pieces or whole; none is added twice.

An item is identified by its index in the output if it has one, because proxies give one item several ids. Content
that a provider sends only whole, at the end of an item or of the answer, is added then. This module does no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from providers.base import PartKind
from providers.call_arguments import OpenCall, OpenCalls, as_text
from providers.delta_buffer import DeltaBuffer
from providers.media import Media, MediaPiece
from providers.openai.reasoning import thought_text
from providers.openai.think_tags import Piece as TaggedPiece
from providers.openai.think_tags import ThinkTags

SIGNATURE_MARK: Final = ":"
"""The separator between a reasoning item's id and its encrypted content in a part's signature. Both are sent back."""

ItemKey = int | str
"""The identity of an item: its index in the output, or its id if the provider gives no index."""
Source = Literal["content", "summary"]
"""The field of an item that a piece belongs to."""
Arguments = str | dict[str, Any] | list[Any] | None

KINDS: Final[dict[str, PartKind]] = {
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
    "output_audio": "text",
    "audio": "text",
    "reasoning_text": "reasoning",
    "reasoning": "reasoning",
    "thinking": "reasoning",
    "summary_text": "reasoning",
}
MATCHES_MAX: Final = 100
"""How many items, and how many pieces, are compared with the whole answer at its end if it numbers them differently."""
_XAI_TOOLS: Final = frozenset(
    "x_search x_keyword_search x_semantic_search x_user_search x_thread_fetch view_x_video view_image"
    " web_search web_search_with_snippets browse_page code_execution".split()
)
"""The tools that xAI runs itself, which it reports as calls of custom tools."""


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
    thinking: Any = None

    @property
    def words(self) -> str:
        """The text of the piece: its own, its refusal's, or the transcript of its sound."""
        transcript = self.transcript if isinstance(self.transcript, str) else ""
        return self.text or self.refusal or transcript or thought_text(self.thinking)


class Item(Struct, gc=False):
    """An item of the output: a message, reasoning, or a tool call."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Arguments = None
    input: str | None = None
    phase: str | None = None
    content: list[Piece] | str | None = None
    summary: Any = None
    encrypted_content: str | None = None
    result: Any = None
    output_format: str | None = None

    @property
    def pieces(self) -> list[Piece]:
        """The content, which some hosts give as one text."""
        if isinstance(self.content, str):
            return [Piece(type="reasoning_text" if self.type == "reasoning" else "output_text", text=self.content)]
        return self.content or []


class _Said:
    """The text of one piece so far, as it arrived. `part` is None until text comes that isn't reasoning in `tags`."""

    __slots__ = ("part", "pieces", "tags")

    def __init__(self, part: int | None, tags: ThinkTags | None = None) -> None:
        self.part = part
        self.tags = tags
        self.pieces: list[str] = []

    @property
    def text(self) -> str:
        self.pieces = ["".join(self.pieces)]
        return self.pieces[0]

    def missing(self, whole: str) -> str | None:
        """Return the rest of `whole` after the text so far. None if neither text is the beginning of the other."""
        said = self.text
        return whole[len(said) :] if whole.startswith(said) else "" if said.startswith(whole) else None


class _Call:
    """A call of an item. `initial` is what its arguments began with, used only if no others arrive."""

    __slots__ = ("initial", "item_id", "opened")

    def __init__(self, opened: OpenCall, item_id: str | None) -> None:
        self.opened = opened
        self.item_id = item_id
        self.initial = ""


class OutputItems:
    """The output items so far. Hosted tools, which the provider runs itself, produce no part, except for images.

    `tools` are the names of the client's tools, or None if they aren't known. `tags` finds reasoning at the start of the
    first text; None if there is none.
    """

    def __init__(self, parts: DeltaBuffer, tools: Collection[str] | None = None, tags: ThinkTags | None = None) -> None:
        self._parts = parts
        self._tags = tags
        self._tools = tools
        self._media = Media(parts)
        self._images: dict[ItemKey, str] = {}
        """Map from an item whose image isn't complete to its newest preview, which is used if no image follows."""
        self._complete: set[tuple[ItemKey, str]] = set()
        """The pairs (item, type) of the items without text that were added."""
        self._said: dict[tuple[PartKind, ItemKey, int], _Said] = {}
        """Map from (kind, item, piece index) to its text."""
        self._pieces: dict[tuple[ItemKey, PartKind], list[int]] = {}
        """Map from (item, kind) to the indexes of its pieces."""
        self._sources: dict[ItemKey, tuple[Source, int]] = {}
        """Map from a reasoning item to (the field that its text comes from, the highest index of its pieces)."""
        self._signed: set[ItemKey] = set()
        """The reasoning items that have their signature."""
        self._citation_counts: dict[tuple[ItemKey, int], int] = {}
        """Map from (item, piece index) to the number of its citations so far."""
        self._citations: set[tuple[str | None, str | None]] = set()
        """The pairs (url, title) that are cited."""
        self._opened = OpenCalls(parts)
        self._calls: dict[tuple[ItemKey, str], _Call] = {}
        """Map from (item, call id) to the call."""
        self._newest_calls: dict[ItemKey, _Call] = {}
        """Map from an item to its newest call. Some hosts give all items one index."""
        self._calls_by_item: dict[tuple[ItemKey, str], _Call] = {}
        """Map from (item, its id) to the call."""
        self._nameless: set[ItemKey] = set()
        """The complete calls that have no name."""
        self._unmatched: list[tuple[tuple[PartKind, ItemKey, int], _Said]] = []
        """The pieces that match no piece of the whole answer at its end yet."""
        self._keys: dict[str, ItemKey] = {}
        """Map from the id of an item to its key, if it has an index."""

    @property
    def has_tool_calls(self) -> bool:
        """Whether the answer has a tool call."""
        return bool(self._opened.calls)

    @property
    def has_half_call(self) -> bool:
        """Whether the arguments of a call broke off, or a call has no name."""
        return self._opened.has_half() or bool(self._nameless)

    def close(self, *, complete: bool = True) -> None:
        """Finish the answer. If it is `complete`, give the arguments `{}` to each call that has none."""
        for (_, item_key, index), said in self._said.items():
            if said.tags is not None:
                self._add_tagged(said, item_key, index, said.tags.close())
        for call in self._calls.values() if complete else ():
            self._add_initial(call)
        self._opened.close(complete=complete)
        for preview in self._images.values():
            self._media.add_image(preview, "image/png")
        self._images.clear()
        if complete:
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
        """Add what is missing of the whole text of piece number `index` of the item `item_key`."""
        said = self._said.get((kind, item_key, index))
        first_source, last_index = self._sources.get(item_key, (source, -1))
        if said is not None and first_source == source and index >= last_index:
            self._append(kind, item_key, index, said.missing(text) or "")
        elif said is None and index > last_index:
            self.add_text(kind, item_key, source, index, text)

    def add_citation(self, item_key: ItemKey, index: int, annotation: Annotation) -> None:
        """Add a citation of piece number `index` of the item `item_key`."""
        self._citation_counts[item_key, index] = self._citation_counts.get((item_key, index), 0) + 1
        self._citations.add(_page(annotation))
        url, title = _page(annotation)
        self._parts.add_citation(url=url, title=title, text=None)

    def add_other_citations(self, item_key: ItemKey, index: int, piece: Piece) -> None:
        """Add the citations of a whole piece that weren't added one by one."""
        for annotation in (piece.annotations or [])[self._citation_counts.get((item_key, index), 0) :]:
            self.add_citation(item_key, index, annotation)

    def add_arguments(self, item_key: ItemKey, piece: str, item_id: str | None = None) -> None:
        """Append a piece to the arguments of the call `item_key`. `item_id` tells calls with one index apart."""
        call = self._call_of(item_key, item_id)
        if call is not None and piece:
            call.initial = ""
            call.opened = self._opened.append(call.opened, piece)

    def add_whole_arguments(self, item_key: ItemKey, arguments: Arguments, item_id: str | None = None) -> None:
        """Add what is missing of all arguments of the call `item_key`. See `add_arguments`."""
        if (call := self._call_of(item_key, item_id)) is not None:
            self._fill(call, as_text(arguments))

    def _call_of(self, item_key: ItemKey, item_id: str | None) -> _Call | None:
        call = self._newest_calls.get(item_key)
        if call is None or not item_id or item_id == call.item_id:
            return call
        return self._calls_by_item.get((item_key, item_id), call)

    def start_item(self, item_key: ItemKey, item: Item) -> None:
        """Start a tool call. Its arguments are used only if no others arrive."""
        self._remember(item_key, item)
        if item.type == "function_call" and (call := self._open_call(item_key, item)) is not None:
            call.initial = as_text(item.arguments) if call.opened.arguments.is_empty else ""

    def complete_item(self, item_key: ItemKey, item: Item) -> None:
        """Add the content of a complete item, except what was added before."""
        self._remember(item_key, item)
        if item.type == "message":
            self._complete_message(item_key, item)
        elif item.type == "reasoning":
            self._complete_reasoning(item_key, item)
        elif item.type == "function_call":
            self._complete_call(item_key, item, as_text(item.arguments))
        elif item.type == "custom_tool_call" and not self._is_hosted(item):
            # The input of a custom tool is free text, but arguments are JSON, so wrap it in an object.
            self._complete_call(item_key, item, json.dumps({"input": item.input or ""}))
        elif (item_key, item.type) not in self._complete and item.type != "custom_tool_call":
            self._complete.add((item_key, item.type))
            self._complete_media(item_key, item)

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

    def _complete_media(self, item_key: ItemKey, item: Item) -> None:
        """Add the image that the provider's own tool made, or the content of an item of an unknown type."""
        if item.type == "image_generation_call":
            preview = self._images.pop(item_key, None)
            self._media.add_image(item.result or preview, f"image/{item.output_format or 'png'}")
        elif item.content:
            self._complete_message(item_key, item)
        else:
            self._media.add_unknown(item.type)

    def complete_output(self, items: Sequence[Item]) -> None:
        """Add the content of all items of the answer, except what was added before."""
        keys = {key for key, _ in self._pieces} | self._sources.keys() | self._newest_calls.keys()
        self._unmatched = list(self._said.items())[-MATCHES_MAX:]
        for index, item in enumerate(items):
            key = self._keys.get(item.id or "", item.id or "")
            key = key if key in keys else index
            if not keys or self._is_known(key, item):
                self.complete_item(key, item)
            elif index >= MATCHES_MAX:
                self.complete_item(f"{index} of the whole answer", item)
            else:
                self._complete_other(index, item)

    def _is_known(self, item_key: ItemKey, item: Item) -> bool:
        """Return whether the item `item_key` has content of the type of `item`.

        If its type differs, it is another item: the host numbers the items of the whole answer differently.
        """
        if item.type == "reasoning":
            return item_key in self._sources
        if item.type in ("function_call", "custom_tool_call"):
            return item_key in self._newest_calls
        return item.type != "message" or any((item_key, kind) in self._pieces for kind in ("text", "refusal"))

    def _complete_other(self, index: int, item: Item) -> None:
        """Complete an item whose key is unknown. Its content may have been added with another key."""
        key: ItemKey = f"{index} of the whole answer"
        if item.type == "message":
            others = [piece for piece in item.pieces if not self._add_missing(piece)]
            for piece in others:
                piece.annotations = [each for each in piece.annotations or () if _page(each) not in self._citations]
            self.complete_item(key, Item(type="message", content=others))
        elif item.type == "reasoning":
            if "reasoning" not in self._parts.kinds:
                self.complete_item(key, item)
        else:
            arguments = as_text(item.arguments)
            same = (key for key, call_id in self._calls if call_id and call_id == item.call_id)
            known = next(same, None)
            if known is not None or not self._is_called(item.name or "", arguments):
                self.complete_item(key if known is None else known, item)

    def _is_called(self, name: str, arguments: str) -> bool:
        calls = self._opened.calls[-MATCHES_MAX:]
        return any(call.name == name and call.arguments.is_like(arguments) for call in calls)

    def _add_missing(self, piece: Piece) -> bool:
        """Add what is missing of the text of `piece` to the piece that begins the same. Return whether there is one."""
        kind, text = KINDS.get(piece.type), piece.words
        for place, ((said_kind, item_key, index), said) in enumerate(self._unmatched):
            if said_kind == kind and text and (missing := said.missing(text)) is not None:
                del self._unmatched[place]
                self._append(said_kind, item_key, index, missing)
                return True
        # Some hosts give two messages one index.
        return any(key[0] == kind and text in said.text for key, said in self._unmatched)

    def _is_hosted(self, item: Item) -> bool:
        """Return whether the provider runs a custom tool call itself, as xAI does with its searches.

        The gateway requests no custom tools, so a call of a tool that isn't the client's is the provider's own.
        """
        if self._tools is not None:
            return item.name not in self._tools
        return item.name in _XAI_TOOLS

    def _remember(self, item_key: ItemKey, item: Item) -> None:
        if item.id:
            self._keys[item.id] = item_key

    def _open_call(self, item_key: ItemKey, item: Item) -> _Call | None:
        """Return the item's call. Start it if it is new: another id is a new call."""
        call_id = item.call_id or item.id or ""
        call = self._calls.get((item_key, call_id)) if call_id else self._newest_calls.get(item_key)
        if call is None and item.name:
            call = _Call(self._opened.open(call_id, item.name), item.id)
            self._calls[item_key, call_id] = self._newest_calls[item_key] = call
            self._calls_by_item[item_key, item.id or ""] = call
        return call

    def _complete_call(self, item_key: ItemKey, item: Item, arguments: str) -> None:
        call = self._open_call(item_key, item)
        if call is None:
            self._nameless.add(item_key)
            return
        self._nameless.discard(item_key)
        is_other = bool(item.id and call.item_id and item.id != call.item_id and item.name)
        if is_other and call.opened.arguments.is_whole and not call.opened.arguments.is_like(arguments):
            # Two calls with one index and one id.
            call = _Call(self._opened.open(item.call_id or "", item.name or ""), item.id)
            self._calls[item_key, item.call_id or ""] = self._newest_calls[item_key] = call
        self._fill(call, arguments)
        self._add_initial(call)

    def _fill(self, call: _Call, arguments: str) -> None:
        if arguments:
            call.initial = ""
            call.opened = self._opened.fill(call.opened, arguments)

    def _add_initial(self, call: _Call) -> None:
        initial, call.initial = call.initial, ""
        if initial:
            call.opened = self._opened.append(call.opened, initial)

    def _complete_message(self, item_key: ItemKey, item: Item) -> None:
        for index, piece in enumerate(item.pieces):
            kind, text = KINDS.get(piece.type), piece.words
            known = self._pieces.get((item_key, kind), []) if kind is not None else []
            if kind is not None and (index in known or not known):
                self.add_whole_text(kind, item_key, "content", index, text)
            elif kind is not None and index > max(known):
                self._add_other_piece(kind, item_key, index, text)
            self.add_media(piece)
            self.add_other_citations(item_key, index, piece)

    def _add_other_piece(self, kind: PartKind, item_key: ItemKey, index: int, text: str) -> None:
        """Add the whole text of a piece that is unknown by its index, unless a piece by another index has it."""
        for known in self._pieces[item_key, kind]:
            if (missing := self._said[kind, item_key, known].missing(text)) is not None:
                self._append(kind, item_key, known, missing)
                return
        self.add_text(kind, item_key, "content", index, text)

    def add_media(self, piece: Piece) -> None:
        """Add what a piece of a complete message holds besides its words."""
        if piece.words and piece.type in ("output_audio", "audio"):
            self.add_transcript()
        elif piece.type in ("output_audio", "audio"):
            self._media.add_audio(piece.data or piece.audio)
        elif piece.type not in KINDS:
            self._media.add_piece(piece.type, piece)

    def _complete_reasoning(self, item_key: ItemKey, item: Item) -> None:
        summary = item.summary if isinstance(item.summary, list) else [item.summary]
        whole: dict[Source, list[str]] = {
            "summary": [thought_text(piece) for piece in summary],
            "content": [piece.words for piece in item.pieces],
        }
        source, _ = self._sources.get(item_key, ("summary" if any(whole["summary"]) else "content", 0))
        said = "".join(said.text for key, said in self._said.items() if key[:2] == ("reasoning", item_key))
        for index, text in enumerate(whole[source]):
            if text and text not in said:
                self.add_whole_text("reasoning", item_key, source, index, text)
        if item.encrypted_content and item_key not in self._signed:
            self._signed.add(item_key)
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
            if index > last_index:
                self._parts.append(self._open_part("reasoning", item_key, index), "\n\n")
            self._append("reasoning", item_key, index, text)

    def _append(self, kind: PartKind, item_key: ItemKey, index: int, text: str) -> None:
        if not text:
            return
        said = self._said.get((kind, item_key, index))
        if said is None:
            if kind == "text" and self._tags is not None:
                said, self._tags = _Said(None, self._tags), None
            else:
                said = _Said(self._open_part(kind, item_key, index))
            self._said[kind, item_key, index] = said
            self._pieces.setdefault((item_key, kind), []).append(index)
        said.pieces.append(text)
        if said.part is not None and said.tags is None:
            self._parts.append(said.part, text)
        elif said.tags is not None:
            self._add_tagged(said, item_key, index, said.tags.feed(text))

    def _add_tagged(self, said: _Said, item_key: ItemKey, index: int, pieces: list[TaggedPiece]) -> None:
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


def _page(annotation: Annotation) -> tuple[str | None, str | None]:
    return annotation.url, annotation.title or annotation.filename
