"""The sink that joins the parts of an answer that broke off to its continuation. This module does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from providers.base import (
    CitationPart,
    Delta,
    DeltaSink,
    Finished,
    Part,
    PartDelta,
    PartStarted,
    ResponseHandle,
    TextPart,
)
from providers.continuation import said_text
from providers.retry.seam import Seam


class SeamSink:
    """A sink that joins a continuation to the parts `said`, and passes it to `sink`.

    The first text continues the last text part, unless reasoning followed that. All other parts are numbered after the
    parts that were said. See `Seam` for the other arguments.
    """

    text_writer: Final = None
    """See `DeltaSink`."""

    def __init__(
        self,
        said: Sequence[Part],
        sink: DeltaSink,
        *,
        asked: bool = False,
        echoes: bool = False,
        stripped: bool = False,
    ) -> None:
        self._sink = sink
        self._seam = Seam(said_text(said), asked=asked, echoes=echoes, stripped=stripped)
        self._next = len(said)
        last = next((number for number in reversed(range(len(said))) if not isinstance(said[number], CitationPart)), -1)
        self._joined: int | None = last if last >= 0 and isinstance(said[last], TextPart) else None
        """The number of the part that the first text continues. None until the part is opened."""
        self._text_part: int | None = None
        """The continuation's own number of its first text part."""
        self._numbers: dict[int, int] = {}

    def offer(self, batch: list[Delta]) -> bool:
        """See `DeltaSink`. Return False until the seam is decided, so that a failure is raised in the task.

        Also return False until the first text has a part. If `sink` refuses a batch, `put` numbers it again,
        and would then leave out the start of that part.
        """
        if not self._seam.is_done or self._joined is None:
            return False
        numbered = self._number(batch)
        return not numbered or self._sink.offer(numbered)

    async def put(self, batch: list[Delta]) -> None:
        """See `DeltaSink`. Raise `AnotherAnswer` if the answer isn't a continuation."""
        numbered = self._number(batch)
        if numbered:
            await self._sink.put(numbered)

    async def end(self) -> None:
        """Pass on what is still held back."""
        held: list[Delta] = []
        self._append(held, self._seam.close())
        if held:
            await self._sink.put(held)

    def _number(self, batch: list[Delta]) -> list[Delta]:
        """Return `batch` with the parts numbered after those that were said, and with the text joined.

        Once the seam is decided and the first text has a part, the same batch gives the same result again.
        """
        numbered: list[Delta] = []
        for delta in batch:
            if type(delta) is PartDelta:
                if delta.part != self._text_part:
                    numbered.append(structs.replace(delta, part=self._numbers[delta.part]))
                elif delta.text is not None:
                    self._append(numbered, self._seam.feed(delta.text))
            elif type(delta) is PartStarted:
                self._start(delta, numbered)
            elif isinstance(delta, Finished):
                self._append(numbered, self._seam.close())
                numbered.append(delta)
            elif not isinstance(delta, ResponseHandle):  # the handle of a continuation can't replay the whole answer
                numbered.append(delta)
        return numbered

    def _start(self, started: PartStarted, numbered: list[Delta]) -> None:
        if started.kind == "text" and self._text_part in (None, started.part):
            self._text_part = started.part
            return
        if started.part not in self._numbers:
            self._numbers[started.part] = self._next
            self._next += 1
        numbered.append(structs.replace(started, part=self._numbers[started.part]))

    def _append(self, numbered: list[Delta], text: str) -> None:
        """Append `text` to the part that the continuation's first text part continues."""
        if not text:
            return
        if self._joined is None:
            self._joined = self._next
            self._next += 1
            numbered.append(PartStarted(self._joined, "text"))
        numbered.append(PartDelta(self._joined, text))
