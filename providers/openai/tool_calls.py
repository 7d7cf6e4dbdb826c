"""The assembly of the tool calls of one chat stream. This module does no I/O.

Calls are distinguished by index, id, name and order, because every host leaves out some of these. A call becomes a
part once its name is complete: when its arguments begin or something else follows.
"""

from __future__ import annotations

import json
import re
from typing import Final

from providers.delta_buffer import DeltaBuffer

LEGACY = -1
"""The index of the only call that `function_call` can make."""
NAME_CHARS_MAX: Final = 1000
"""The maximum length of a tool's name. A longer name is truncated."""

_MARKS: Final = re.compile(r"""[{}\[\]"]|\\.?""", re.DOTALL)


class _Call:
    """A tool call so far. `part` is None until its name is complete; `pieces` are the pieces of its arguments."""

    __slots__ = (
        "_depth",
        "_escaped",
        "_is_complete",
        "_quoted",
        "_scanned",
        "id",
        "index",
        "name",
        "part",
        "pieces",
        "signatures",
    )

    def __init__(self, index: int | None, call_id: str) -> None:
        self.index = index
        self.id = call_id
        self.name = ""
        self.part: int | None = None
        self.pieces: list[str] = []
        self.signatures: list[str] = []
        self._scanned = 0
        """The number of pieces that `is_complete` has processed."""
        self._depth = 0
        self._quoted = self._escaped = False
        self._is_complete: bool | None = None
        """Whether the pieces are a complete object. None if they may become one."""

    def is_complete(self) -> bool:
        """Return whether the arguments are a complete object, so that more arguments belong to another call.

        Each piece is processed only once.
        """
        for piece in self.pieces[self._scanned :]:
            if self._is_complete is None:
                self._scan(piece)
            elif not piece.isspace():
                self._is_complete = False
        self._scanned = len(self.pieces)
        return self._is_complete or False

    def _scan(self, piece: str) -> None:
        marks = _MARKS.findall(piece, 1 if self._escaped else 0)
        self._escaped = marks[-1:] == ["\\"]
        for mark in marks:
            if mark == '"':
                self._quoted = not self._quoted
            elif not self._quoted and mark[0] != "\\":
                self._depth += 1 if mark in "{[" else -1
        if self._depth <= 0 and not self._quoted and piece.rstrip().endswith("}"):
            self._is_complete = _is_object("".join(self.pieces))


class ToolCallAssembler:
    """The tool calls of one answer. They are added to its `parts`."""

    def __init__(self, parts: DeltaBuffer) -> None:
        self._parts = parts
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._last: _Call | None = None
        self._opened: list[_Call] = []
        self._ids: set[str] = set()
        """The ids of the calls that are parts."""
        self.pending: dict[_Call, None] = {}
        """The calls that aren't parts yet."""
        self._named_pending: dict[_Call, None] = {}
        """The calls in `pending` that have a name."""

    def __bool__(self) -> bool:
        return bool(self._opened)

    def add(self, index: int | None, call_id: str, name: str, arguments: str, signature: str) -> None:
        """Process a piece of a call. A field that the host leaves out is None or empty."""
        call = self._find(index, call_id, name)
        if call is None or _starts_another(call, call_id, name, arguments):
            call = self._start_call(index, call_id)
        if arguments:
            call.pieces.append(arguments)
        if call.part is not None:
            self._parts.append(call.part, arguments)
            self._parts.append_signature(call.part, signature)
            return
        call.id = call.id or call_id
        # Some hosts repeat the whole name with each piece.
        call.name = (name if name.startswith(call.name) else call.name + name)[:NAME_CHARS_MAX]
        if signature:
            call.signatures.append(signature)
        if call.name and call.pieces:
            self._open(call)
        elif call.name:
            self._named_pending[call] = None

    def open_named(self) -> None:
        """Turn the named calls into parts, because something else follows, so their names are complete."""
        for call in list(self._named_pending):
            self._open(call)

    def close(self) -> None:
        """Finish the answer. Give the arguments `{}` to each call that has none."""
        self.open_named()
        for call in self._opened:
            if not call.pieces and call.part is not None:
                self._parts.append(call.part, "{}")

    def _find(self, index: int | None, call_id: str, name: str) -> _Call | None:
        """Return the call that a piece with these fields may belong to, or None."""
        call = None if index is None else self._by_index.get(index)
        if call is not None and (name or not call_id or call_id == call.id):
            return call
        if call_id in self._by_id and (index is None or not name):
            return self._by_id[call_id]
        last = self._last
        if call is not None or last is None or call_id:
            return call
        if name:
            return last if index is None and last.index is None and last.part is None else None
        return last if index is None or last.index is None else None

    def _start_call(self, index: int | None, call_id: str) -> _Call:
        self.open_named()
        call = self._last = _Call(index, call_id)
        if index is not None:
            self._by_index[index] = call
        if call_id:
            self._by_id[call_id] = call
        self.pending[call] = None
        return call

    def _open(self, call: _Call) -> None:
        del self.pending[call]
        self._named_pending.pop(call, None)
        new_id = f"call_{self._parts.count}"
        call.id = call.id or new_id
        if call.id in self._ids:
            call.id = f"{call.id}_{new_id}"  # the results of two calls with one id couldn't be told apart
        self._opened.append(call)
        self._ids.add(call.id)
        call.part = self._parts.open_tool_call(None, call.id, call.name)
        self._parts.append(call.part, "".join(call.pieces))
        self._parts.append_signature(call.part, "".join(call.signatures))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _starts_another(call: _Call, call_id: str, name: str, arguments: str) -> bool:
    """Return whether a piece begins a new call, although `call` was found for it.

    Some hosts give every call of an answer the same index. Others repeat the name with each piece of a call.
    """
    if not name or (call_id and call_id == call.id):
        return False
    if call_id and call.id:
        return call.part is None or name != call.name or call.is_complete()
    return call.part is not None and call.is_complete() and (bool(arguments) or name != call.name)
