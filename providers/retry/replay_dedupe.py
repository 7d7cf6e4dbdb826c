"""The replay of an answer from its start, without the content that was received before. It does no I/O."""

from __future__ import annotations

from collections.abc import Iterable

from providers.base import (
    Delta,
    DeltaSink,
    Part,
    PartDelta,
    PartKind,
    PartStarted,
    ToolCallPart,
    ToolResultPart,
    pass_on,
)


class ReplayMismatch(Exception):
    """The replayed answer differs from the one that was received."""


class ReplayFilter:
    """A filter that removes the parts `heard` from a replayed answer, by their kinds and text lengths."""

    def __init__(self, heard: Iterable[Part]) -> None:
        self._kinds: list[PartKind] = []
        self._texts: list[int] = []
        self._signatures: list[int] = []
        for part in heard:
            self._kinds.append(part.__struct_config__.tag)  # type: ignore[arg-type]
            self._texts.append(len(_text(part)))
            self._signatures.append(len(part.signature or ""))

    def rest(self, batch: list[Delta]) -> list[Delta]:
        """Return the deltas of `batch` that are new. Raise `ReplayMismatch` if a part's kind differs."""
        new: list[Delta] = []
        for delta in batch:
            if type(delta) is PartStarted and delta.part < len(self._kinds):
                if delta.kind != self._kinds[delta.part]:
                    raise ReplayMismatch(
                        f"part {delta.part} has the kind {delta.kind} instead of {self._kinds[delta.part]}"
                    )
            elif type(delta) is PartDelta and delta.part < len(self._kinds):
                if delta.text is not None and (text := _after(self._texts, delta.part, delta.text)):
                    new.append(PartDelta(delta.part, text))
                if delta.signature is not None and (rest := _after(self._signatures, delta.part, delta.signature)):
                    new.append(PartDelta(delta.part, signature=rest))
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


def _after(heard: list[int], part: int, piece: str) -> str:
    """Return `piece` without the characters that were already received, and reduce their count in `heard[part]`."""
    known = min(heard[part], len(piece))
    heard[part] -= known
    return piece[known:]


class ReplaySink:
    """A sink that passes the batches of a replayed answer to `sink`, without the content received before."""

    def __init__(self, heard: ReplayFilter, sink: DeltaSink) -> None:
        self._heard = heard
        self._sink = sink

    def offer(self, batch: list[Delta]) -> bool:
        """Return False, so that `ReplayMismatch` is raised in the task, by `put`. See `DeltaSink`."""
        return False

    async def put(self, batch: list[Delta]) -> None:
        """Pass the new deltas of `batch` to the sink. Raise `ReplayMismatch` if a part's kind differs."""
        await pass_on(self._heard.rest(batch), self._sink)
