"""A buffer that combines the pieces of one answer into few deltas. This module does no I/O.

A dialect adds pieces in the order in which they arrive; `drain` returns the batch. Consecutive pieces of text of one
part become one delta.
"""

from __future__ import annotations

import re
from collections.abc import Hashable

from providers.base import Delta, PartDelta, PartKind, PartStarted, PartsWithdrawn, UsageReported

_HTTP_URL = re.compile(r"https?://[^\s\x00-\x1f]++\Z", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_HIGH_AT_END = re.compile("[\ud800-\udbff]\\Z")


class DeltaBuffer:
    """The parts of one answer. A `key` is the dialect's own identifier for a part that may get more content later."""

    def __init__(self, *, is_rest: bool = False) -> None:
        self.is_rest = is_rest
        """Whether the answer is the rest of one that broke off. It may be empty, because all was said before."""
        self._batch: list[Delta] = []
        self._keys: dict[Hashable, int] = {}
        self.count = 0
        """The number of parts started so far."""
        self.last_kind: PartKind | None = None
        """The kind of the last part that isn't a citation."""
        self.last = -1
        """The number of the last part that isn't a citation."""
        self._part = -1
        """The number of the part whose text waits in `_text`, continued in `_more_text`, or -1 if no text waits."""
        self._text = ""
        self._more_text: list[str] = []
        self.kinds: set[PartKind] = set()
        """The kinds of the parts started so far."""
        self.output_tokens = 0
        """The number of output tokens in the last report of usage."""
        self._call_ids: set[str] = set()
        self._high_surrogates: dict[int, str] = {}
        """Map from a part's number to the first half of a surrogate pair whose second half hasn't arrived yet."""
        self._drained = 0
        """The number of parts whose start has been returned by `drain`."""

    @property
    def is_at_text(self) -> bool:
        """Whether everything was drained, and more text would be appended to the last part."""
        return self.last_kind == "text" and not (self._batch or self._text or self._high_surrogates)

    def append_text(self, kind: PartKind, text: str) -> None:
        """Append `text` to the last part if it is of kind `kind`, otherwise to a new part of that kind.

        A citation doesn't interrupt the part, because it may come in the middle of a sentence.
        """
        if not text:
            return
        if self.last_kind != kind:
            self.open_part(kind)
        self._append(self.last, text)

    def open_part(self, kind: PartKind, *, key: Hashable = None, redacted: bool = False) -> int:
        """Start a part of kind `kind` that has no other fields yet. Return its number.

        `redacted`: the provider doesn't reveal the part's text.
        """
        return self.start_part(PartStarted(self.count, kind, redacted=redacted), key)

    def open_tool_call(self, key: Hashable, call: str, name: str) -> int:
        """Start a tool call with the id `call` and the tool's `name`. Return the part's number.

        A missing id is made up. One that an earlier call has is made unique, so that their results can be told apart.
        """
        new_id = f"call_{self.count}"
        call = call or new_id
        while call in self._call_ids:
            call = f"{call}_{new_id}"
        self._call_ids.add(call)
        return self.start_part(PartStarted(self.count, "tool_call", call=call, name=name), key)

    def add_citation(self, *, url: str | None, title: str | None, text: str | None) -> None:
        """Add a complete citation. Drop `url` if it isn't an http or https URL; do nothing if all fields are empty."""
        if url is not None and not _HTTP_URL.match(url):
            url = None
        if url or title or text:
            self.start_part(PartStarted(self.count, "citation", url=url, title=title, text=text))

    def add_image(
        self, media_type: str, *, url: str | None = None, data: str | None = None, size: int | None = None
    ) -> None:
        """Add a complete image: its `url`, or its base64 `data` and the number of bytes that they decode to."""
        part = self.start_part(PartStarted(self.count, "image", url=url, media_type=media_type, size=size))
        if data is not None:
            self._batch.append(PartDelta(part, data=data))

    def start_part(self, started: PartStarted, key: Hashable = None) -> int:
        """Start the part that `started` describes. Its number must be the next one. Return that number."""
        self._flush()
        self._batch.append(started)
        self.kinds.add(started.kind)
        if started.kind != "citation":
            self.last_kind, self.last = started.kind, started.part
        self.count += 1
        if key is not None:
            self._keys[key] = started.part
        return started.part

    def find_part(self, key: Hashable) -> int | None:
        """Return the number of the last part with this key, or None."""
        return self._keys.get(key)

    def remove_key(self, key: Hashable) -> None:
        """Forget `key`, so that `find_part` returns None for it."""
        self._keys.pop(key, None)

    def append(self, part: int, text: str) -> None:
        """Append `text` to part number `part`."""
        if text:
            self._append(part, text)

    def append_signature(self, part: int, signature: str) -> None:
        """Append a piece of the signature of part number `part`."""
        if signature:
            self._flush()
            self._batch.append(PartDelta(part, signature=signature))

    def append_delta(self, delta: Delta) -> None:
        """Append a delta that doesn't belong to a part."""
        self._flush()
        if isinstance(delta, UsageReported):
            self.output_tokens = delta.usage.output_tokens
        self._batch.append(delta)

    def drain(self) -> list[Delta]:
        """Return the deltas since the last call, and clear the buffer."""
        self._flush()
        batch, self._batch = self._batch, []
        self._drained = self.count
        return batch

    def withdraw(self, reason: str) -> None:
        """Withdraw all parts so far. The next part has the number 0. `reason` is for a person."""
        self._flush()
        self._batch = [delta for delta in self._batch if not isinstance(delta, PartStarted | PartDelta)]
        if self._drained:
            self._batch.append(PartsWithdrawn(reason))
        self._keys.clear()
        self.kinds.clear()
        self._high_surrogates.clear()
        self.count = self._drained = 0
        self.last_kind, self.last = None, -1

    def close(self) -> None:
        """Finish the answer. A surrogate pair whose second half never arrived becomes U+FFFD."""
        self._flush()
        unpaired, self._high_surrogates = self._high_surrogates, {}
        for part in unpaired:
            self._batch.append(PartDelta(part, "\ufffd"))

    def _append(self, part: int, text: str) -> None:
        if self._high_surrogates or not text.isascii():
            text = self._join_surrogates(part, text)
        if part == self._part:
            self._more_text.append(text)
        else:
            self._flush()
            self._part, self._text = part, text

    def _join_surrogates(self, part: int, text: str) -> str:
        """Return `text` without lone surrogates. A pair that was split across two pieces is joined."""
        text = self._high_surrogates.pop(part, "") + text
        if not _SURROGATE.search(text):
            return text
        if high := _HIGH_AT_END.search(text):
            self._high_surrogates[part] = high.group()
            text = text[: high.start()]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _flush(self) -> None:
        if self._more_text:
            self._text += "".join(self._more_text)
            self._more_text.clear()
        if self._text:
            self._batch.append(PartDelta(self._part, self._text))
            self._text = ""
        self._part = -1
