"""The parts of one answer as they open and grow, gathered into the fewest deltas. Pure.

A dialect says what arrived, in order; `take` gives the batch. Neighbouring pieces of one part become one
delta.
"""

from __future__ import annotations

import re
from collections.abc import Hashable

from providers.base import Delta, PartDelta, PartKind, PartStarted

_web = re.compile(r"https?://[^\s\x00-\x1f]++\Z", re.IGNORECASE)
_surrogate = re.compile("[\ud800-\udfff]")
_high_at_end = re.compile("[\ud800-\udbff]\\Z")


class DeltaBuffer:
    """One answer's parts. A `key` is the dialect's own name for a part that may get more later."""

    def __init__(self) -> None:
        self._batch: list[Delta] = []
        self._opened = 0
        self._keys: dict[Hashable, int] = {}
        self._kind: PartKind | None = None
        self._newest = -1
        self._part = -1
        """The part that `_text` belongs to, and `_more`, which follows it."""
        self._text = ""
        self._more: list[str] = []
        self._halves: dict[int, str] = {}
        """By part, the first half of a surrogate pair whose second half is still to come."""

    @property
    def opened(self) -> int:
        """How many parts there are."""
        return self._opened

    @property
    def kind(self) -> PartKind | None:
        """The kind of the newest part that isn't a citation."""
        return self._kind

    @property
    def newest(self) -> int:
        """The number of the newest part that isn't a citation."""
        return self._newest

    def say(self, kind: PartKind, text: str) -> None:
        """More text of `kind`: of the newest part if it is of that kind, else of a new one.

        A citation doesn't end the sentence that it stands in.
        """
        if not text:
            return
        if self._kind != kind:
            self.open(kind)
        self._grow(self._newest, text)

    def open(self, kind: PartKind, *, key: Hashable = None, redacted: bool = False) -> int:
        """A new part without whole fields; its number."""
        return self.start(PartStarted(self._opened, kind, redacted=redacted), key)

    def call(self, key: Hashable, call: str, name: str) -> int:
        """A new tool call."""
        return self.start(PartStarted(self._opened, "tool_call", call=call, name=name), key)

    def cite(self, *, url: str | None, title: str | None, text: str | None) -> None:
        """A citation, whole at once. An address that isn't of the web is nothing to show to anybody."""
        if url is not None and not _web.match(url):
            url = None
        if url or title or text:
            self.start(PartStarted(self._opened, "citation", url=url, title=title, text=text))

    def start(self, started: PartStarted, key: Hashable = None) -> int:
        """A new part as the dialect describes it; its number must be the next one."""
        self._flush()
        self._batch.append(started)
        if started.kind != "citation":
            self._kind, self._newest = started.kind, started.part
        self._opened += 1
        if key is not None:
            self._keys[key] = started.part
        return started.part

    def find(self, key: Hashable) -> int | None:
        """The number of the newest part with this key."""
        return self._keys.get(key)

    def forget(self, key: Hashable) -> None:
        """What comes under this key from now on is of another part."""
        self._keys.pop(key, None)

    def add(self, part: int, text: str) -> None:
        """More text of part number `part`."""
        if text:
            self._grow(part, text)

    def sign(self, part: int, signature: str) -> None:
        """A piece of the signature of part number `part`."""
        if signature:
            self._flush()
            self._batch.append(PartDelta(part, signature=signature))

    def put(self, delta: Delta) -> None:
        """A delta that is no part's."""
        self._flush()
        self._batch.append(delta)

    def take(self) -> list[Delta]:
        """What came since the last call."""
        self._flush()
        batch, self._batch = self._batch, []
        return batch

    def close(self) -> None:
        """The answer is whole: half a character that waited for its other half is replaced."""
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
        """`text` without lone surrogates: a pair that was split over two chunks is joined."""
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
