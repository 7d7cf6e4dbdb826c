"""The reasoning of one answer, from every field that a host may give it in. It is added once. This module does no I/O.

Many hosts repeat the reasoning: in a second field of the same chunk, in a later chunk, or in tags within the text.
"""

from __future__ import annotations

from typing import Final

from providers.delta_buffer import DeltaBuffer

RECORD_MAX: Final = 1_000_000
"""The maximum number of characters of reasoning that are compared. After that, only one field is used."""
REPEATED_MIN: Final = 32
"""A field that has this many equal characters repeats the reasoning, even if it differs afterward."""
SNAPSHOT_MIN: Final = 5
"""A detail that begins with all reasoning so far repeats it, if that has at least this many characters."""
SKIPS_MAX: Final = 1000
"""The maximum number of differences in white space between two fields."""
TEXT: Final = "text"
"""The source of reasoning in tags within the text."""


class _Source:
    """The part of the record that one field has given: the pieces before number `piece`, and `offset` characters of that one."""

    __slots__ = ("blanks", "matched", "offset", "piece", "repeats", "skips", "start")

    def __init__(self) -> None:
        self.piece = 0
        self.offset = 0
        self.start = 0
        """The piece with which the comparison began."""
        self.matched = 0
        self.skips = 0
        """How often white space was skipped."""
        self.blanks = ""
        """White space after the end of the record, which is added if more follows."""
        self.repeats: bool | None = None
        """None until the field differs from the record. Then: whether it had repeated `REPEATED_MIN` characters of it."""


class Reasoning:
    """The reasoning so far. `add` takes the pieces of each source, which is a field's name."""

    def __init__(self, parts: DeltaBuffer) -> None:
        self._parts = parts
        self._record: list[str] = []
        self._size = 0
        self._segment = 0
        """The number of pieces in the record before the last reasoning part."""
        self._segment_size = 0
        self._leader = ""
        """The source that has given everything in the record."""
        self._others: dict[str, _Source] = {}
        self.spoken = False
        """Whether a source has given reasoning in the current chunk. The caller sets it to False after each chunk. If
        two fields of one chunk differ, they are two accounts of the same reasoning, and only the first is added."""
        self.part = -1
        """The number of the last reasoning part with text, or -1."""

    @property
    def is_recorded(self) -> bool:
        """Whether the reasoning so far can be added again."""
        return self._size <= RECORD_MAX

    @property
    def text(self) -> str:
        """The reasoning so far, if it is recorded."""
        return "".join(self._record)

    @property
    def is_from_text(self) -> bool:
        """Whether all reasoning came in the text of the answer."""
        return self._leader == TEXT and not self._others

    def add(self, source: str, text: str) -> None:
        """Add `text`, except what another source has already given."""
        if not text:
            return
        if source == self._leader or not self._leader:
            self._leader = source
            self._append(text)
        else:
            self._compare(source, text)
        self.spoken = True

    def add_snapshot(self, source: str, text: str) -> None:
        """Add `text`, without what it repeats. Some hosts begin each text with all reasoning so far."""
        if len(text) < self._size - self._segment_size:
            self.add(source, text)
            return
        for first, size in ((0, self._size), (self._segment, self._size - self._segment_size)):
            if SNAPSHOT_MIN <= size <= len(text) and size <= RECORD_MAX:
                said = "".join(self._record[first:])
                if text.startswith(said):
                    if len(text) > size:
                        self._lead(source)
                        self.add(source, text[size:])
                    elif source != self._leader:
                        self._move_to_end(source)
                    self.spoken = True
                    return
        self.add(source, text)

    def restate(self, thought: str) -> None:
        """Add everything again after all parts were withdrawn: the reasoning so far, then `thought`, which was taken for text."""
        said, self._record, self._others = "".join(self._record), [], {}
        self._size = self._segment = self._segment_size = 0
        self.part = -1
        self.add(self._leader, said)
        self.spoken = False
        self.add(TEXT, thought)

    def _append(self, text: str) -> None:
        parts = self._parts
        if parts.last_kind != "reasoning":
            self._segment, self._segment_size = len(self._record), self._size
        parts.append_text("reasoning", text)
        self.part = parts.last
        self._size += len(text)
        if self._size <= RECORD_MAX:
            self._record.append(text)

    def _lead(self, source: str) -> None:
        """Make `source` the leader, and record that the previous leader has given everything so far."""
        if source == self._leader:
            return
        self._move_to_end(self._leader)
        self._leader = source

    def _move_to_end(self, name: str) -> None:
        source = self._others.setdefault(name, _Source())
        source.piece, source.offset, source.repeats = len(self._record), 0, None
        source.blanks = ""

    def _compare(self, name: str, text: str) -> None:
        source = self._others.get(name)
        if source is None:
            source = self._others[name] = _Source()
        piece, record = source.piece, self._record
        is_aligned = source.repeats is None and not source.offset and not source.blanks
        if is_aligned and piece < len(record) and record[piece] == text:
            source.piece += 1
            source.matched += len(text)
            return
        if source.blanks and source.piece < len(self._record):
            text, source.blanks = source.blanks + text, ""
        if source.repeats is False:
            # Two accounts in one chunk: only the first is added.
            if not self.spoken:
                self._append(text)
            return
        if source.repeats:
            # It has differed after a long repetition. Compare it again only with the next reasoning part.
            if self._segment <= source.piece:
                return
            source.piece = source.start = self._segment
            source.offset, source.matched, source.repeats = 0, 0, None
        rest = self._skip(source, text)
        if not source.matched and rest and self._segment > source.piece:
            source.piece = source.start = self._segment
            rest = self._skip(source, text)
        if not rest or self._size > RECORD_MAX:
            return
        if source.piece < len(self._record):
            self._differ(source, rest)
        elif rest.isspace():
            source.blanks += rest
        else:
            rest, source.blanks = source.blanks + rest, ""
            self._lead(name)
            self._append(rest)

    def _differ(self, source: _Source, rest: str) -> None:
        """Process `rest`, which differs from what other sources have given at the same position."""
        if source.matched >= REPEATED_MIN:
            source.repeats = True
            return
        if source.matched:
            skipped = "".join(self._record[source.start : source.piece + 1])
            rest = skipped[: len(skipped) - len(self._record[source.piece]) + source.offset] + rest
        source.repeats = False
        if not self.spoken:
            self._append(rest)

    def _skip(self, source: _Source, text: str) -> str:
        """Return `text` without its start that repeats the record after the source's position; white space may differ."""
        record, at = self._record, 0
        before_blanks: tuple[int, int, int] | None = None
        while at < len(text) and source.piece < len(record):
            piece, offset = record[source.piece], source.offset
            size = min(len(piece) - offset, len(text) - at)
            is_equal = piece.startswith(text[at : at + size], offset)
            equal = size if is_equal else _equal_size(piece, offset, text, at, size)
            if equal:
                before_blanks = None
                source.matched += equal
            at, source.offset = at + equal, offset + equal
            if equal < size:
                blank, other = _blank_size(piece, source.offset), _blank_size(text, at)
                if (not blank and not other) or source.skips == SKIPS_MAX:
                    break
                source.skips += 1
                before_blanks = before_blanks or (at, source.piece, source.offset)
                at, source.offset = at + other, source.offset + blank
            if source.offset == len(piece):
                source.piece, source.offset = source.piece + 1, 0
        if before_blanks is not None and at < len(text) and source.piece < len(record):
            at, source.piece, source.offset = before_blanks
        return text[at:]


def _equal_size(one: str, at: int, other: str, other_at: int, size: int) -> int:
    """Return how many of the next `size` characters are equal."""
    low, high = 0, size
    while low < high:
        middle = (low + high + 1) // 2
        if one[at + low : at + middle] == other[other_at + low : other_at + middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _blank_size(text: str, at: int) -> int:
    """Return the number of white space characters from `at` on."""
    rest = text[at:]
    return len(rest) - len(rest.lstrip())
