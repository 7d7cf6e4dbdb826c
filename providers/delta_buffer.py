"""A buffer that collects the parts of one answer into as few deltas as possible. It does no I/O.

A dialect adds what arrived, in order; `take` returns the batch. Adjacent pieces of one part become one delta.
"""

from __future__ import annotations

import re
from collections.abc import Hashable

from providers.base import Delta, PartDelta, PartKind, PartStarted

_web = re.compile(r"https?://[^\s\x00-\x1f]++\Z", re.IGNORECASE)
_surrogate = re.compile("[\ud800-\udfff]")
_high_at_end = re.compile("[\ud800-\udbff]\\Z")


class DeltaBuffer:
    """The parts of one answer. A `key` is the dialect's own name for a part that may grow later."""

    def __init__(self) -> None:
        self._batch: list[Delta] = []
        self._opened = 0
        self._keys: dict[Hashable, int] = {}
        self._kind: PartKind | None = None
        self._newest = -1
        self._part = -1
        """The number of the part that `_text` and then `_more` belong to, or -1."""
        self._text = ""
        self._more: list[str] = []
        self._halves: dict[int, str] = {}
        """Map from a part's number to the first half of a surrogate pair whose second half hasn't arrived yet."""

    @property
    def opened(self) -> int:
        """The number of parts started so far."""
        return self._opened

    @property
    def kind(self) -> PartKind | None:
        """The kind of the newest part that isn't a citation."""
        return self._kind

    @property
    def newest(self) -> int:
        """The number of the newest part that isn't a citation."""
        return self._newest

    def append_text(self, kind: PartKind, text: str) -> None:
        """Append `text` to the newest part if it is of kind `kind`, otherwise to a new part of that kind.

        A citation doesn't interrupt the part, because it may come in the middle of a sentence.
        """
        if not text:
            return
        if self._kind != kind:
            self.open_part(kind)
        self._grow(self._newest, text)

    def open_part(self, kind: PartKind, *, key: Hashable = None, redacted: bool = False) -> int:
        """Start a part of kind `kind` without any other complete field. Return its number.

        `redacted`: the provider shows nothing of its text.
        """
        return self.start_part(PartStarted(self._opened, kind, redacted=redacted), key)

    def open_tool_call(self, key: Hashable, call: str, name: str) -> int:
        """Start a tool call with the id `call` and the tool's `name`. Return the part's number."""
        return self.start_part(PartStarted(self._opened, "tool_call", call=call, name=name), key)

    def add_citation(self, *, url: str | None, title: str | None, text: str | None) -> None:
        """Add a complete citation. Drop `url` if it isn't an http or https URL; do nothing if all fields are empty."""
        if url is not None and not _web.match(url):
            url = None
        if url or title or text:
            self.start_part(PartStarted(self._opened, "citation", url=url, title=title, text=text))

    def start_part(self, started: PartStarted, key: Hashable = None) -> int:
        """Start the part that `started` describes. Its number must be the next one. Return that number."""
        self._flush()
        self._batch.append(started)
        if started.kind != "citation":
            self._kind, self._newest = started.kind, started.part
        self._opened += 1
        if key is not None:
            self._keys[key] = started.part
        return started.part

    def find_part(self, key: Hashable) -> int | None:
        """Return the number of the newest part with this key, or None."""
        return self._keys.get(key)

    def forget_key(self, key: Hashable) -> None:
        """Remove `key`, so that it can name another part from now on."""
        self._keys.pop(key, None)

    def append(self, part: int, text: str) -> None:
        """Append `text` to part number `part`."""
        if text:
            self._grow(part, text)

    def append_signature(self, part: int, signature: str) -> None:
        """Append a piece of the signature of part number `part`."""
        if signature:
            self._flush()
            self._batch.append(PartDelta(part, signature=signature))

    def append_delta(self, delta: Delta) -> None:
        """Add a delta that belongs to no part."""
        self._flush()
        self._batch.append(delta)

    def drain(self) -> list[Delta]:
        """Return the deltas since the last call, and clear the buffer."""
        self._flush()
        batch, self._batch = self._batch, []
        return batch

    def close(self) -> None:
        """Finish the answer. Replace each unpaired half of a surrogate pair with U+FFFD."""
        self._flush()
        halves, self._halves = self._halves, {}
        for part in halves:
            self._batch.append(PartDelta(part, "\ufffd"))

    def _grow(self, part: int, text: str) -> None:
        if self._halves or not text.isascii():
            text = self._mend(part, text)
        if part == self._part:
            self._more.append(text)
        else:
            self._flush()
            self._part, self._text = part, text

    def _mend(self, part: int, text: str) -> str:
        """Return `text` without lone surrogates. A pair that was split over two chunks is joined."""
        text = self._halves.pop(part, "") + text
        if not _surrogate.search(text):
            return text
        if half := _high_at_end.search(text):
            self._halves[part] = half.group()
            text = text[: half.start()]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _flush(self) -> None:
        if self._more:
            self._text += "".join(self._more)
            self._more.clear()
        if self._text:
            self._batch.append(PartDelta(self._part, self._text))
            self._text = ""
        self._part = -1
