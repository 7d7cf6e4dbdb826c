"""The assembly of the tool calls of one chat stream. This module does no I/O.

Calls are distinguished by index, id, name and order, because every host leaves out some of these. A call becomes a
part once its name is complete: when its arguments begin or something else follows.
"""

from __future__ import annotations

from typing import Final

from providers.call_arguments import OpenCall, OpenCalls
from providers.delta_buffer import DeltaBuffer

LEGACY = -1
"""The index of the only call that `function_call` can make."""
NAME_CHARS_MAX: Final = 1000
"""The maximum length of a tool's name. A longer name is truncated."""


class _Call:
    """A tool call so far. `opened` is None until its name is complete; `pieces` are the arguments until then."""

    __slots__ = ("hosted", "id", "index", "is_named_again", "name", "opened", "pieces", "signatures")

    def __init__(self, index: int | None, call_id: str) -> None:
        self.index = index
        self.id = call_id
        self.name = ""
        self.opened: OpenCall | None = None
        self.pieces: list[str] = []
        self.signatures: list[str] = []
        self.hosted = False
        """Whether the provider runs the call itself."""
        self.is_named_again = False
        """Whether the name came again after the arguments were whole, so that more arguments are another call's."""


class ToolCallAssembler:
    """The tool calls of one answer. They are added to its `parts`."""

    def __init__(self, parts: DeltaBuffer) -> None:
        self._parts = parts
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._last: _Call | None = None
        self._opened = OpenCalls(parts)
        self.has_hosted = False
        """Whether the provider ran a call itself."""
        self.pending: dict[_Call, None] = {}
        """The calls that aren't parts yet."""
        self._named_pending: dict[_Call, None] = {}
        """The calls in `pending` that have a name."""

    def __bool__(self) -> bool:
        return bool(self._opened.calls)

    def add(
        self,
        index: int | None,
        call_id: str,
        name: str,
        arguments: str,
        signature: str,
        *,
        hosted: bool = False,
    ) -> None:
        """Process a piece of a call. A field that the host leaves out is None or empty.

        `hosted`: the provider runs the call itself, so it doesn't become a part.
        """
        call = self._find(index, call_id, name)
        if call is None or (name and call.hosted != hosted) or _starts_another(call, call_id, name, arguments):
            call = self._start_call(index, call_id)
        elif call.is_named_again and not name and arguments.strip():
            name = call.name
            call = self._start_call(index, call_id)
        if hosted and call.opened is None:
            call.hosted = self.has_hosted = True
            self.pending.pop(call, None)
            self._named_pending.pop(call, None)
        if call.hosted:
            return
        if call.opened is not None:
            if arguments:
                call.opened = self._opened.append(call.opened, arguments)
            self._parts.append_signature(call.opened.part, signature)
            return
        if arguments:
            call.pieces.append(arguments)
        call.id = call.id or call_id
        # Some hosts repeat the whole name with each piece.
        call.name = (name if name.startswith(call.name) else call.name + name)[:NAME_CHARS_MAX]
        if signature:
            call.signatures.append(signature)
        if call.name and call.pieces:
            self._open(call)
        elif call.name:
            self._named_pending[call] = None

    def fill(self, position: int, call_id: str, name: str, arguments: str, signature: str) -> None:
        """Add a whole call, which is number `position` of its message, except what was added before."""
        self.open_named()
        calls = self._opened.calls
        known = next((call for call in calls if call_id and call.id == call_id and call.name == name), None)
        if known is None and position < len(calls) and calls[position].name == name:
            known = calls[position]
        if known is not None:
            self._opened.fill(known, arguments)
        elif name:
            call = self._start_call(None, call_id)
            call.name, call.pieces, call.signatures = name[:NAME_CHARS_MAX], [arguments], [signature]
            self._open(call)

    def open_named(self) -> None:
        """Turn the named calls into parts, because something else follows, so their names are complete."""
        for call in list(self._named_pending):
            self._open(call)

    def has_half(self) -> bool:
        """Return whether the arguments of a call broke off, or a call with arguments has no name."""
        return self._opened.has_half() or any("".join(call.pieces).strip() not in ("", "{}") for call in self.pending)

    def close(self, *, complete: bool = True) -> None:
        """Finish the answer. If it is `complete`, give the arguments `{}` to each call that has none."""
        if complete:
            self.open_named()
        self._opened.close(complete=complete)

    def _find(self, index: int | None, call_id: str, name: str) -> _Call | None:
        """Return the call that a piece with these fields may belong to, or None."""
        call = None if index is None else self._by_index.get(index)
        if call is not None and (name or not call_id or call_id == call.id):
            return call
        if call_id in self._by_id and (index is None or not name):
            return self._by_id[call_id]
        last = self._last
        if call is not None or last is None:
            return call
        if call_id:
            # Some hosts give each piece another id. A piece of arguments without a name can't begin a call.
            return last if index is None and not name and last.index is None and _is_unfinished(last) else None
        if name:
            is_same = last.opened is None or name == last.name
            return last if index is None and last.index is None and is_same else None
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
        call.opened = self._opened.open(call.id, call.name)
        signature, pieces = "".join(call.signatures), "".join(call.pieces)
        part = call.opened.part
        call.opened = self._opened.append(call.opened, pieces)
        call.pieces.clear()
        self._parts.append_signature(part, signature)


def _is_unfinished(call: _Call) -> bool:
    return call.opened is not None and not call.opened.arguments.is_whole


def _starts_another(call: _Call, call_id: str, name: str, arguments: str) -> bool:
    """Return whether a piece begins a new call, although `call` was found for it.

    Some hosts give every call of an answer the same index or the same id. Others repeat the name with each piece.
    """
    if not name:
        return False
    has_other_id = bool(call_id and call.id and call_id != call.id)
    if call.opened is None:
        return has_other_id
    so_far = call.opened.arguments
    if not so_far.is_whole:
        return has_other_id and (name != call.name or so_far.is_empty)
    if has_other_id or name != call.name:
        return True
    begin = arguments.lstrip()[:1]
    if not begin:
        call.is_named_again = True
    if begin not in ("{", "[", '"'):
        return False
    # This may be the real arguments after a placeholder, or the same call again. A host that gives ids would give another
    # call an id of its own.
    return not (call.id and (so_far.is_placeholder or so_far.is_like(arguments)))
