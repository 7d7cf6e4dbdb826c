"""The arguments of tool calls as JSON text, from the pieces that hosts make of them. This module does no I/O.

Some hosts send a placeholder first, such as `{}`, encode the JSON twice, repeat it, or send several calls as one.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from providers.delta_buffer import DeltaBuffer
from providers.json_scan import JsonScan

HELD_CHARS_MAX: Final = 256
"""The maximum length of a beginning that may still be a placeholder. A longer one is passed on."""
ENCODINGS_MAX: Final = 3
"""How many times the JSON may be encoded as a string."""
MERGED_CALLS_MAX: Final = 256
"""The maximum number of calls in one answer that are recognized by their arguments alone."""

_PLACEHOLDERS: Final = re.compile(r'(?:\s*+(?:\{\s*+\}|\[\s*+\]|null|"")\s*+(?=[{"]))++')
"""Placeholders, and after them the first character of the arguments."""
_HALF_PLACEHOLDERS: Final = ("{", "[", '"', "n", "nu", "nul")
_UNDECIDED: Final = re.compile(r'\s*+(?:\{\s*+\}?+|\[\s*+\]?+|n(?:u(?:ll?+)?+)?+|"{0,2}+)?+\s*+')
"""A beginning that is a placeholder, or may become one."""


def as_text(arguments: Any) -> str:
    """Return arguments of any type as JSON text. None becomes an empty text; text is returned unchanged."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments)


class CallArguments:
    """The arguments of one call so far. What can't be passed on yet is held back until more arrives, or the end."""

    __slots__ = ("_encodings", "_held", "_is_valid", "_pieces", "_scan")

    def __init__(self) -> None:
        self._held: str | None = ""
        """The beginning, while it may be a placeholder. None afterwards."""
        self._pieces: list[str] = []
        """The text so far, without `_held`."""
        self._scan = JsonScan()
        self._is_valid: bool | None = None
        """Whether the value that has ended is valid JSON. None if that hasn't been checked."""
        self._encodings = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing but white space has arrived."""
        return self._held is not None and not self._held.strip()

    @property
    def is_placeholder(self) -> bool:
        """Whether the arguments are empty so far, but not missing: real ones may follow."""
        return self._held is not None and self._held.strip() not in ("", *_HALF_PLACEHOLDERS)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are a whole JSON value, so that more of them belong to another call."""
        if self._held is not None:
            return self.is_placeholder
        if not self._scan.closed:
            return False
        if self._is_valid is None:
            self._is_valid = _is_json("".join(self._pieces))
        return self._is_valid

    @property
    def is_half(self) -> bool:
        """Whether a JSON value has begun that hasn't ended."""
        return self._scan.is_open if self._held is None else self._held.strip() in ("{", "[", '"')

    def add(self, piece: str) -> tuple[str, str]:
        """Add `piece`. Return the text to pass on now, and the rest of `piece` if that belongs to another call."""
        if self._held is not None:
            piece = self._held + piece
            if match := _PLACEHOLDERS.match(piece):
                piece = piece[match.end() :]
            if len(piece) <= HELD_CHARS_MAX and _UNDECIDED.fullmatch(piece):
                self._held = piece
                return "", ""
            self._held = None
        if self._scan.closed:
            return self._add_after(piece)
        end = self._scan.feed(piece)
        if end < 0:
            self._pieces.append(piece)
            # A string is held back, because it may turn out to be the arguments, encoded twice.
            return ("" if self._scan.opener == '"' else piece), ""
        self._pieces.append(piece[:end])
        text, rest = self._decode_string() if self._scan.opener == '"' else (piece[:end], "")
        if rest or end == len(piece):
            return text, rest + piece[end:]
        more, rest = self.add(piece[end:])
        return text + more, rest

    def fill(self, whole: str) -> tuple[str, str]:
        """Add the rest of `whole`, the whole arguments, and return as `add` does.

        Add nothing if the arguments so far aren't its beginning.
        """
        if self._held is not None:
            self._held = ""
            return self.add(whole)
        said = "".join(self._pieces)
        self._pieces = [said]
        return self.add(whole[len(said) :]) if len(whole) > len(said) and whole.startswith(said) else ("", "")

    def is_like(self, other: str) -> bool:
        """Return whether `other` is the same JSON value as these arguments."""
        try:
            return _normalize("".join(self._pieces) or self._held or "{}") == _normalize(other)
        except (ValueError, RecursionError):
            return False

    def close(self, *, complete: bool = True) -> str:
        """Return what was held back. If the answer is `complete`, missing arguments are `{}`."""
        held, self._held = self._held, None
        if held is None:
            return "".join(self._pieces) if self._scan.is_open and self._scan.opener == '"' else ""
        if complete and held.strip() in ("", "null", '""'):
            held = "{}"
        self._scan.feed(held)
        self._pieces.append(held)
        return held

    def stop_merging(self) -> None:
        """Take whatever follows as part of these arguments."""
        self._is_valid = False

    def _decode_string(self) -> tuple[str, str]:
        """Replace the string that has ended with the arguments that it encodes, and return as `add` does.

        A string that encodes none is kept, and is itself the text to pass on.
        """
        text = "".join(self._pieces)
        try:
            inner = json.loads(text, strict=False)
        except ValueError:
            return text, ""
        if self._encodings == ENCODINGS_MAX or not inner.lstrip().startswith(("{", '"')):
            return text, ""
        self._encodings += 1
        self._held, self._pieces, self._scan = "", [], JsonScan()
        return self.add(inner)

    def _add_after(self, piece: str) -> tuple[str, str]:
        """Add a piece after the end of the value: white space, the same value again, or another call's arguments."""
        rest = piece.lstrip()
        if rest and rest[0] in '{"' and self.is_whole:
            return "", "" if self.is_like(rest) else rest
        if rest:
            self._is_valid = False
        self._pieces.append(piece)
        return piece, ""


def _normalize(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class OpenCall:
    """A tool call whose part has started. `id` is the host's id, which may be empty."""

    __slots__ = ("arguments", "id", "name", "part")

    def __init__(self, part: int, call_id: str, name: str) -> None:
        self.part = part
        self.id = call_id
        self.name = name
        self.arguments = CallArguments()


class OpenCalls:
    """The tool calls of one answer. It fills the buffer `parts`."""

    def __init__(self, parts: DeltaBuffer) -> None:
        self._parts = parts
        self._merged = 0
        self.calls: list[OpenCall] = []

    def open(self, call_id: str, name: str) -> OpenCall:
        """Start a call. An id that is missing or was used before is replaced."""
        call = OpenCall(self._parts.open_tool_call(None, call_id, name), call_id, name)
        self.calls.append(call)
        return call

    def append(self, call: OpenCall, piece: str) -> OpenCall:
        """Append `piece` to the arguments of `call`. Return the call that the next piece belongs to.

        It is a new one if the arguments of `call` were whole.
        """
        return self._pass_on(call, *call.arguments.add(piece))

    def fill(self, call: OpenCall, whole: str) -> OpenCall:
        """Append the rest of `whole`, the whole arguments. Return the call as `append` does."""
        return self._pass_on(call, *call.arguments.fill(whole))

    def has_half(self) -> bool:
        """Return whether the arguments of a call broke off, or a call has no name."""
        return any(call.arguments.is_half or not call.name for call in self.calls)

    def close(self, *, complete: bool) -> None:
        """Pass on what was held back. If the answer is `complete`, a call without arguments has the arguments `{}`."""
        for call in self.calls:
            self._parts.append(call.part, call.arguments.close(complete=complete))

    def _pass_on(self, call: OpenCall, text: str, rest: str) -> OpenCall:
        self._parts.append(call.part, text)
        while rest:
            if self._merged == MERGED_CALLS_MAX:
                call.arguments.stop_merging()
            else:
                self._merged += 1
                call = self.open("", call.name)
            text, rest = call.arguments.add(rest)
            self._parts.append(call.part, text)
        return call
