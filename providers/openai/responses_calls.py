"""The tool calls among a response's output items. Arguments may arrive in pieces or whole. This module does no I/O."""

from __future__ import annotations

from collections.abc import Set

from providers.call_arguments import OpenCall, OpenCalls, as_text
from providers.delta_buffer import DeltaBuffer
from providers.openai.responses_schema import Arguments, Item, ItemKey


class _Call:
    """A call of an item. `initial` is what its arguments began with, used only if no others arrive."""

    __slots__ = ("initial", "item_id", "opened")

    def __init__(self, opened: OpenCall, item_id: str | None) -> None:
        self.opened = opened
        self.item_id = item_id
        self.initial = ""


class ItemCalls:
    """The calls of the client's tools so far. `item_key` is the identity of an item in the output."""

    def __init__(self, parts: DeltaBuffer) -> None:
        self._opened = OpenCalls(parts)
        self._calls: dict[tuple[ItemKey, str], _Call] = {}
        """Map from (item key, call id) to the call."""
        self._newest: dict[ItemKey, _Call] = {}
        """Map from an item's key to its newest call. Some hosts give all items the same index."""
        self._by_item: dict[tuple[ItemKey, str], _Call] = {}
        """Map from (item key, item id) to the call."""
        self._nameless: set[ItemKey] = set()
        """The keys of the items whose complete call has no name."""

    def __bool__(self) -> bool:
        """Whether there is a call."""
        return bool(self._opened.calls)

    @property
    def keys(self) -> Set[ItemKey]:
        """The items that have a call."""
        return self._newest.keys()

    def has_half(self) -> bool:
        """Return whether the arguments of a call broke off, or a call has no name."""
        return self._opened.has_half() or bool(self._nameless)

    def close(self, *, complete: bool) -> None:
        """Finish the answer. If it is `complete`, give the arguments `{}` to each call that has none."""
        for call in self._calls.values() if complete else ():
            self._add_initial(call)
        self._opened.close(complete=complete)

    def append(self, item_key: ItemKey, piece: str, item_id: str | None = None) -> None:
        """Append a piece to the arguments of the item's call. `item_id` tells calls with the same index apart."""
        call = self._call_of(item_key, item_id)
        if call is not None and piece:
            call.initial = ""
            call.opened = self._opened.append(call.opened, piece)

    def append_whole(self, item_key: ItemKey, arguments: Arguments, item_id: str | None = None) -> None:
        """Add what the item's call lacks of its whole `arguments`. See `append`."""
        if (call := self._call_of(item_key, item_id)) is not None:
            self._fill(call, as_text(arguments))

    def _call_of(self, item_key: ItemKey, item_id: str | None) -> _Call | None:
        call = self._newest.get(item_key)
        if call is None or not item_id or item_id == call.item_id:
            return call
        return self._by_item.get((item_key, item_id), call)

    def start(self, item_key: ItemKey, item: Item) -> None:
        """Start the call of an item. Its arguments are used only if no others arrive."""
        if (call := self._open_call(item_key, item)) is not None:
            call.initial = as_text(item.arguments) if call.opened.arguments.is_empty else ""

    def complete(self, item_key: ItemKey, item: Item, arguments: str) -> None:
        """Add what is missing of the call of a complete item. `arguments` are its whole arguments."""
        call = self._open_call(item_key, item)
        if call is None:
            self._nameless.add(item_key)
            return
        self._nameless.discard(item_key)
        is_other = bool(item.id and call.item_id and item.id != call.item_id and item.name)
        if is_other and call.opened.arguments.is_whole and not call.opened.arguments.is_like(arguments):
            # Two items with the same index and call id.
            call = _Call(self._opened.open(item.call_id or "", item.name or ""), item.id)
            self._calls[item_key, item.call_id or ""] = self._newest[item_key] = call
        self._fill(call, arguments)
        self._add_initial(call)

    def _open_call(self, item_key: ItemKey, item: Item) -> _Call | None:
        """Return the item's call. Start it if it is new: another id is a new call."""
        call_id = item.call_id or item.id or ""
        call = self._calls.get((item_key, call_id)) if call_id else self._newest.get(item_key)
        if call is None and item.name:
            call = _Call(self._opened.open(call_id, item.name), item.id)
            self._calls[item_key, call_id] = self._newest[item_key] = call
            self._by_item[item_key, item.id or ""] = call
        return call

    def _fill(self, call: _Call, arguments: str) -> None:
        if arguments:
            call.initial = ""
            call.opened = self._opened.fill(call.opened, arguments)

    def _add_initial(self, call: _Call) -> None:
        initial, call.initial = call.initial, ""
        if initial:
            call.opened = self._opened.append(call.opened, initial)

    def key_of(self, call_id: str | None) -> ItemKey | None:
        """Return the item that has the call `call_id`, or None."""
        return next((key for key, other in self._calls if other and other == call_id), None)

    def is_like_one_of(self, newest: int, name: str, arguments: str) -> bool:
        """Return whether one of the last `newest` calls has the same name and arguments."""
        calls = self._opened.calls[-newest:]
        return any(call.name == name and call.arguments.is_like(arguments) for call in calls)
