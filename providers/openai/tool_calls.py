"""The tool calls of one chat stream, told apart by index, id, name and order: every host leaves out some of these. Pure.

A call becomes a part once its name is whole: when its arguments begin, or something else follows it.
"""

from __future__ import annotations

import json
import re
from typing import Final

from providers.delta_buffer import DeltaBuffer

LEGACY = -1
"""The index of the one call that `function_call` makes."""
NAME_CHARS_MAX: Final = 1000
"""No tool has a longer name."""

_MARKS: Final = re.compile(r"""[{}\[\]"]|\\.?""", re.DOTALL)


class _Call:
    """One call so far. `part` is None until its name is whole; `pieces` are its arguments."""

    __slots__ = (
        "_depth",
        "_escaped",
        "_quoted",
        "_seen",
        "_whole",
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
        self._seen = 0
        """So many pieces were looked at."""
        self._depth = 0
        self._quoted = self._escaped = False
        self._whole: bool | None = None
        """Whether they are an object; None: they may become one."""

    def is_complete(self) -> bool:
        """Whether its arguments are a whole object, so that more of them can't be its own. Looks at each piece once."""
        for piece in self.pieces[self._seen :]:
            if self._whole is None:
                self._look_at(piece)
            elif not piece.isspace():
                self._whole = False
        self._seen = len(self.pieces)
        return self._whole or False

    def _look_at(self, piece: str) -> None:
        marks = _MARKS.findall(piece, 1 if self._escaped else 0)
        self._escaped = marks[-1:] == ["\\"]
        for mark in marks:
            if mark == '"':
                self._quoted = not self._quoted
            elif not self._quoted and mark[0] != "\\":
                self._depth += 1 if mark in "{[" else -1
        if self._depth <= 0 and not self._quoted and piece.rstrip().endswith("}"):
            self._whole = _is_object("".join(self.pieces))


class ToolCallAssembler:
    """One answer's calls, as parts among its `parts`."""

    def __init__(self, parts: DeltaBuffer) -> None:
        self._parts = parts
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._newest: _Call | None = None
        self._opened: list[_Call] = []
        self._ids: set[str] = set()
        """Of those that are parts."""
        self.waiting: dict[_Call, None] = {}
        """Those that are no parts yet."""
        self._named: dict[_Call, None] = {}
        """Those of them that have a name."""

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
        call.name = (name if name.startswith(call.name) else call.name + name)[:NAME_CHARS_MAX]
        if signature:
            call.signatures.append(signature)
        if call.name and call.pieces:
            self._open(call)
        elif call.name:
            self._named[call] = None

    def settle(self) -> None:
        """Something else follows: names that are here are whole."""
        for call in list(self._named):
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
        self.waiting[call] = None
        return call

    def _open(self, call: _Call) -> None:
        del self.waiting[call]
        self._named.pop(call, None)
        made = f"call_{self._parts.opened}"
        call.id = call.id or made
        if call.id in self._ids:
            call.id = f"{call.id}_{made}"  # two calls of one id couldn't be answered
        self._opened.append(call)
        self._ids.add(call.id)
        call.part = self._parts.call(None, call.id, call.name)
        self._parts.add(call.part, "".join(call.pieces))
        self._parts.sign(call.part, "".join(call.signatures))


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _is_another(call: _Call, call_id: str, name: str, arguments: str) -> bool:
    """Whether this piece begins a new call, though it stands at the index of one that is there.

    Some hosts give every call of an answer the same index, others each piece of a call its name again.
    """
    if not name or (call_id and call_id == call.id):
        return False
    if call_id and call.id:
        return call.part is None or name != call.name or call.is_complete()
    return call.part is not None and call.is_complete() and (bool(arguments) or name != call.name)
