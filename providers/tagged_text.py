"""The text of an answer in which a host may send reasoning between tags, for dialects with thinking blocks.

`ChatDecoder` has its own code for this, because its hosts repeat reasoning in other fields. This module does no I/O.
"""

from __future__ import annotations

from typing import Final

from providers.delta_buffer import DeltaBuffer
from providers.think_tags import ANSWER_RESTATED, REASONING_RESTATED, Piece, ThinkTags

RECORD_MAX: Final = 1_000_000
"""The maximum number of characters of reasoning that can be sent again."""


class TaggedText:
    """The text of one answer, without the reasoning in it. It fills the buffer `parts`.

    `is_opened` is that of `ThinkTags`. `is_whole`: the answer isn't the rest of another one, so it can be withdrawn.
    """

    def __init__(self, parts: DeltaBuffer, *, is_opened: bool, is_whole: bool) -> None:
        self._parts = parts
        self._tags: ThinkTags | None = ThinkTags(
            is_opened=is_opened, may_restate=self._may_restate if is_whole else None
        )
        self._record: list[tuple[str, str]] = []
        """The reasoning so far in order: pairs (text, signature), of which one is empty."""
        self._size = 0

    def append(self, text: str) -> None:
        """Append a piece of the text."""
        tags = self._tags
        if tags is None:
            self._parts.append_text("text", text)
        elif tags.watched is not None and "<" not in text:
            tags.watched.append(text)
            self._parts.append_text("text", text)
        elif text:
            self._add(tags.feed(text))

    def record(self, thought: str = "", signature: str = "") -> None:
        """Record reasoning that came in a block of its own, so that it can be sent again."""
        if self._tags is None:
            return
        self._tags.expect_text()
        self._size += len(thought) + len(signature)
        if self._size <= RECORD_MAX:
            self._record.append((thought, signature))

    def settle(self) -> None:
        """If the text so far ends with a closing tag, decide what it means, because something other than text follows."""
        if self._tags is not None:
            self._add(self._tags.settle())

    def close(self) -> None:
        """Finish the text. If no tag has marked the supposed reasoning, it is the answer."""
        tags = self._tags
        if tags is None:
            return
        self._add(tags.close())
        if tags.is_assumed and self._may_restate() and "text" not in self._parts.kinds:
            said = "".join(text for text, _ in self._record)
            self._parts.withdraw(ANSWER_RESTATED)
            self._parts.append_text("text", said)

    def _may_restate(self) -> bool:
        return self._parts.kinds <= {"text", "reasoning"} and self._size <= RECORD_MAX

    def _add(self, pieces: list[Piece]) -> None:
        for kind, text in pieces:
            if kind == "text":
                self._parts.append_text("text", text)
                continue
            if kind == "restated":
                self._restate()
            self._think(text)
        if self._tags is not None and self._tags.is_done:
            self._tags = None

    def _think(self, text: str) -> None:
        self._parts.append_text("reasoning", text)
        self._size += len(text)
        if self._size <= RECORD_MAX:
            self._record.append((text, ""))

    def _restate(self) -> None:
        """Withdraw all parts, and add the reasoning so far again. A signature ends its part."""
        self._parts.withdraw(REASONING_RESTATED)
        part = -1
        for text, signature in self._record:
            if part < 0:
                part = self._parts.open_part("reasoning")
            self._parts.append(part, text)
            if signature:
                self._parts.append_signature(part, signature)
                part = -1
        self._parts.last_kind = "reasoning" if part >= 0 else None
