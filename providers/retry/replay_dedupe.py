"""The replay of an answer from its start, without the content that was received before. This module does no I/O."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

from providers.base import (
    Delta,
    DeltaSink,
    ImagePart,
    Part,
    PartDelta,
    PartKind,
    PartStarted,
    ToolCallPart,
    ToolResultPart,
    deliver,
)


class ReplayMismatch(Exception):
    """The replayed answer differs from the one that was received."""


class ReplayFilter:
    """A filter that removes the parts `received` from a replayed answer, by their kinds and lengths."""

    def __init__(self, received: Iterable[Part]) -> None:
        self._kinds: list[PartKind] = []
        self._texts: list[int] = []
        self._signatures: list[int] = []
        self._data: list[int] = []
        for part in received:
            self._kinds.append(part.__struct_config__.tag)  # type: ignore[arg-type]
            self._texts.append(len(_text(part)))
            self._signatures.append(len(part.signature or ""))
            # All data of an image that was replaced with a text, because it was too large, is skipped.
            self._data.append(len(part.data or "") if isinstance(part, ImagePart) else sys.maxsize)

    def filter(self, batch: list[Delta]) -> list[Delta]:
        """Return the deltas of `batch` that are new. Raise `ReplayMismatch` if a part's kind differs."""
        new: list[Delta] = []
        for delta in batch:
            if type(delta) is PartStarted and delta.part < len(self._kinds):
                is_left_out = delta.size is not None and self._kinds[delta.part] == "text"
                if delta.kind != self._kinds[delta.part] and not is_left_out:
                    raise ReplayMismatch(
                        f"part {delta.part} has the kind {delta.kind} instead of {self._kinds[delta.part]}"
                    )
            elif type(delta) is PartDelta and delta.part < len(self._kinds):
                if delta.text is not None and (text := _skip(self._texts, delta.part, delta.text)):
                    new.append(PartDelta(delta.part, text))
                if delta.signature is not None and (signature := _skip(self._signatures, delta.part, delta.signature)):
                    new.append(PartDelta(delta.part, signature=signature))
                if delta.data is not None and (data := _skip(self._data, delta.part, delta.data)):
                    new.append(PartDelta(delta.part, data=data))
            else:
                new.append(delta)
        return new


def _text(part: Part) -> str:
    match part:
        case ToolCallPart():
            return part.arguments
        case ToolResultPart():
            return part.output
        case _:
            return getattr(part, "text", None) or ""


def _skip(received: list[int], part: int, piece: str) -> str:
    """Return `piece` without the characters that were already received, and reduce their count in `received[part]`."""
    skipped = min(received[part], len(piece))
    received[part] -= skipped
    return piece[skipped:]


class ReplaySink:
    """A sink that passes the batches of a replayed answer to `sink`, without the parts `received` before."""

    text_writer: Final = None
    """See `DeltaSink`."""

    def __init__(self, received: Iterable[Part], sink: DeltaSink) -> None:
        self._replay = ReplayFilter(received)
        self._sink = sink

    def offer(self, batch: list[Delta]) -> bool:
        """Return False, so that `ReplayMismatch` is raised in the task, by `put`. See `DeltaSink`."""
        return False

    async def put(self, batch: list[Delta]) -> None:
        """Pass the new deltas of `batch` to the sink. Raise `ReplayMismatch` if a part's kind differs."""
        await deliver(self._replay.filter(batch), self._sink)
