"""The conversion of a response's output items to parts. Content may arrive in pieces or whole; none is added twice.

An item is identified by its index in the output if it has one, because proxies give one item several ids. Content
that a provider sends only whole, at the end of an item or of the answer, is added then. This module does no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final

from providers.call_arguments import as_text
from providers.delta_buffer import DeltaBuffer
from providers.media import Media
from providers.openai.responses_calls import ItemCalls
from providers.openai.responses_schema import KINDS, Annotation, Item, ItemKey, Piece
from providers.openai.responses_texts import ItemTexts
from providers.think_tags import ThinkTags
from providers.thoughts import thought_text

SIGNATURE_MARK: Final = ":"
"""The separator between a reasoning item's id and its encrypted content in a part's signature. Both are sent back."""

_XAI_TOOLS: Final = frozenset(
    "x_search x_keyword_search x_semantic_search x_user_search x_thread_fetch view_x_video view_image"
    " web_search web_search_with_snippets browse_page code_execution".split()
)
"""The tools that xAI runs itself, which it reports as calls of custom tools."""


class OutputItems:
    """The output items so far. Hosted tools, which the provider runs itself, produce no part, except for images.

    `tools` are the names of the client's tools, or None if they aren't known. `tags` finds reasoning at the start of the
    first text; None if there is none.
    """

    def __init__(self, parts: DeltaBuffer, tools: Collection[str] | None = None, tags: ThinkTags | None = None) -> None:
        self.texts = ItemTexts(parts, tags)
        self.calls = ItemCalls(parts)
        self.cited: set[tuple[str | None, str | None]] = set()
        """The addresses and titles of the pages that are cited."""
        self._parts = parts
        self._tools = tools
        self._media = Media(parts)
        self._images: dict[ItemKey, str] = {}
        """Map from an item whose image isn't complete to its newest preview, which is used if no image follows."""
        self._complete: set[tuple[ItemKey, str]] = set()
        """The pairs (item, type) of the items without text that were added."""
        self._signed: set[ItemKey] = set()
        """The reasoning items that have their signature."""
        self._citation_counts: dict[tuple[ItemKey, int], int] = {}
        """Map from (item, piece index) to the number of its citations so far."""
        self._keys: dict[str, ItemKey] = {}
        """Map from the id of an item to its key, if it has an index."""

    @property
    def has_reasoning(self) -> bool:
        """Whether the answer has reasoning."""
        return "reasoning" in self._parts.kinds

    def key_of(self, item: Item) -> ItemKey:
        """Return the key that the item `item.id` had before, or else its id."""
        return self._keys.get(item.id or "", item.id or "")

    def close(self, *, complete: bool = True) -> None:
        """Finish the answer. If it is `complete`, give the arguments `{}` to each call that has none."""
        self.texts.close()
        self.calls.close(complete=complete)
        for preview in self._images.values():
            self._media.add_image(preview, "image/png")
        self._images.clear()
        if complete:
            self._media.close()

    def add_citation(self, item_key: ItemKey, index: int, annotation: Annotation) -> None:
        """Add a citation of piece number `index` of the item `item_key`."""
        self._citation_counts[item_key, index] = self._citation_counts.get((item_key, index), 0) + 1
        self.cited.add(annotation.page)
        url, title = annotation.page
        self._parts.add_citation(url=url, title=title, text=None)

    def add_other_citations(self, item_key: ItemKey, index: int, piece: Piece) -> None:
        """Add the citations of a whole piece that weren't added one by one."""
        for annotation in (piece.annotations or [])[self._citation_counts.get((item_key, index), 0) :]:
            self.add_citation(item_key, index, annotation)

    def start_item(self, item_key: ItemKey, item: Item) -> None:
        """Start a tool call. Its arguments are used only if no others arrive."""
        self._remember(item_key, item)
        if item.type == "function_call":
            self.calls.start(item_key, item)

    def complete_item(self, item_key: ItemKey, item: Item) -> None:
        """Add the content of a complete item, except what was added before."""
        self._remember(item_key, item)
        if item.type == "message":
            self._complete_message(item_key, item)
        elif item.type == "reasoning":
            self._complete_reasoning(item_key, item)
        elif item.type == "function_call":
            self.calls.complete(item_key, item, as_text(item.arguments))
        elif item.type == "custom_tool_call" and not self._is_hosted(item):
            # The input of a custom tool is free text, but arguments are JSON, so wrap it in an object.
            self.calls.complete(item_key, item, json.dumps({"input": item.input or ""}))
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

    def _complete_message(self, item_key: ItemKey, item: Item) -> None:
        for index, piece in enumerate(item.pieces):
            kind = KINDS.get(piece.type)
            if kind is not None:
                self.texts.complete(kind, item_key, index, piece.words)
            self.add_media(piece)
            self.add_other_citations(item_key, index, piece)

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
        texts, pieces = [thought_text(piece) for piece in summary], [piece.words for piece in item.pieces]
        self.texts.complete_reasoning(item_key, {"summary": texts, "content": pieces})
        if item.encrypted_content and item_key not in self._signed:
            self._signed.add(item_key)
            self.texts.sign(item_key, (item.id + SIGNATURE_MARK if item.id else "") + item.encrypted_content)
