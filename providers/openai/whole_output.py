"""Match the whole output, which comes at the end of a response, with the items so far. This module does no I/O.

Nothing is added twice, even if the host numbers the items of the whole output differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from providers.call_arguments import as_text
from providers.openai.responses_items import OutputItems
from providers.openai.responses_schema import KINDS, Item, ItemKey, Piece
from providers.openai.responses_texts import PieceKey, PieceText

MATCHES_MAX: Final = 100
"""How many items of the whole output are matched by content, and with how many earlier pieces and calls each is compared."""


def complete_output(items: OutputItems, output: Sequence[Item]) -> None:
    """Add the content of all items of the answer, except what was added before. `items` are the items so far."""
    keys = items.texts.keys | items.calls.keys
    unmatched = items.texts.newest(MATCHES_MAX)
    for index, item in enumerate(output):
        key = items.key_of(item)
        key = key if key in keys else index
        if not keys or _is_known(items, key, item):
            items.complete_item(key, item)
        elif index >= MATCHES_MAX:
            items.complete_item(f"{index} of the whole answer", item)
        else:
            _complete_other(items, unmatched, index, item)


def _is_known(items: OutputItems, item_key: ItemKey, item: Item) -> bool:
    """Return whether the item `item_key` has content of the type of `item`.

    If its type differs, it is another item: the host numbers the items of the whole answer differently.
    """
    if item.type == "reasoning":
        return items.texts.has_reasoning(item_key)
    if item.type in ("function_call", "custom_tool_call"):
        return item_key in items.calls.keys
    return item.type != "message" or items.texts.has(item_key, "text", "refusal")


def _complete_other(items: OutputItems, unmatched: list[tuple[PieceKey, PieceText]], index: int, item: Item) -> None:
    """Complete an item whose key is unknown. Its content may have been added with another key.

    `unmatched` are the pieces that match no piece of the whole output yet.
    """
    key: ItemKey = f"{index} of the whole answer"
    if item.type == "message":
        others = [piece for piece in item.pieces if not _add_missing(items, unmatched, piece)]
        for piece in others:
            piece.annotations = [each for each in piece.annotations or () if each.page not in items.cited]
        items.complete_item(key, Item(type="message", content=others))
    elif item.type == "reasoning":
        if not items.has_reasoning:
            items.complete_item(key, item)
    else:
        known = items.calls.key_of(item.call_id)
        name, arguments = item.name or "", as_text(item.arguments)
        if known is not None or not items.calls.is_like_one_of(MATCHES_MAX, name, arguments):
            items.complete_item(key if known is None else known, item)


def _add_missing(items: OutputItems, unmatched: list[tuple[PieceKey, PieceText]], piece: Piece) -> bool:
    """Add what is missing of the text of `piece` to the piece that begins the same. Return whether there is one."""
    kind, text = KINDS.get(piece.type), piece.words
    for place, ((said_kind, item_key, index), said) in enumerate(unmatched):
        if said_kind == kind and text and (missing := said.missing(text)) is not None:
            del unmatched[place]
            items.texts.append(said_kind, item_key, index, missing)
            return True
    # Some hosts give two messages one index.
    return any(key[0] == kind and text in said.text for key, said in unmatched)
