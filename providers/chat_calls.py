"""The tool calls of one chat stream, told apart by index, id, name and order: every host leaves out some of these. Pure.

A call becomes a part once its name is whole: when its arguments begin, or something else follows it.
"""

from __future__ import annotations

import json

from providers.parts import Parts

LEGACY = -1
"""The index of the one call that `function_call` makes."""


class _Call:
    """One call so far. `part` is None until its name is whole; `pieces` are its arguments."""

    __slots__ = ("id", "index", "name", "part", "pieces", "signature")

    def __init__(self, index: int | None, call_id: str) -> None:
        self.index = index
        self.id = call_id
        self.name = ""
        self.part: int | None = None
        self.pieces: list[str] = []
        self.signature = ""

    def is_complete(self) -> bool:
        """Whether its arguments are a whole object, so that more of them can't be its own."""
        if not self.pieces or not self.pieces[-1].rstrip().endswith("}"):
            return False
        try:
            return isinstance(json.loads("".join(self.pieces)), dict)
        except (ValueError, RecursionError):
            return False


class Calls:
    """One answer's calls, as parts among its `parts`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._newest: _Call | None = None
        self._opened: list[_Call] = []
        self.waiting: list[_Call] = []
        """Those that are no parts yet."""

    def __bool__(self) -> bool:
        return bool(self._opened)

    def take(self, index: int | None, call_id: str, name: str, arguments: str, signature: str) -> None:
        """A piece of a call; what the host doesn't say of it is None, or empty."""
        call = self._known(index, call_id, name)
        if call is None or _is_another(call, call_id, name, arguments):
            call = self._begin(index, call_id)
        if arguments:
            call.pieces.append(arguments)
        if call.part is not None:
            self._parts.add(call.part, arguments)
            self._parts.sign(call.part, signature)
            return
        call.id = call.id or call_id
        # Some say all of the name again with each piece.
        call.name = name if name.startswith(call.name) else call.name + name
        call.signature += signature
        if call.name and call.pieces:
            self._open(call)

    def settle(self) -> None:
        """Something else follows: names that are here are whole."""
        for call in [call for call in self.waiting if call.name]:
            self._open(call)

    def close(self) -> None:
        """The answer is whole: a call that got no arguments has none."""
        self.settle()
        for call in self._opened:
            if not call.pieces and call.part is not None:
                self._parts.add(call.part, "{}")

    def _known(self, index: int | None, call_id: str, name: str) -> _Call | None:
        """The call that this piece may belong to."""
        found = None if index is None else self._by_index.get(index)
        if found is not None and (name or not call_id or call_id == found.id):
            return found
        if call_id in self._by_id and (index is None or not name):
            return self._by_id[call_id]
        newest = self._newest
        if found is not None or newest is None or call_id:
            return found
        if name:
            return newest if index is None and newest.index is None and newest.part is None else None
        return newest if index is None or newest.index is None else None

    def _begin(self, index: int | None, call_id: str) -> _Call:
        self.settle()
        call = self._newest = _Call(index, call_id)
        if index is not None:
            self._by_index[index] = call
        if call_id:
            self._by_id[call_id] = call
        self.waiting.append(call)
        return call

    def _open(self, call: _Call) -> None:
        self.waiting.remove(call)
        made = f"call_{self._parts.opened}"
        if any(call.id == other.id for other in self._opened):
            call.id = f"{call.id}_{made}"  # two calls of one id couldn't be answered
        self._opened.append(call)
        call.id = call.id or made
        call.part = self._parts.call(None, call.id, call.name)
        self._parts.add(call.part, "".join(call.pieces))
        self._parts.sign(call.part, call.signature)


def _is_another(call: _Call, call_id: str, name: str, arguments: str) -> bool:
    """Whether this piece begins a new call, though it stands at the index of one that is there.

    Some hosts give every call of an answer the same index, others each piece of a call its name again.
    """
    if not name or (call_id and call_id == call.id):
        return False
    if call_id and call.id:
        return call.part is None or name != call.name or call.is_complete()
    return call.part is not None and call.is_complete() and (bool(arguments) or name != call.name)
