"""An answer that is told again from its start, without what was heard of it before. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from providers.base import Delta, DeltaSink, Part, PartDelta, PartKind, PartStarted, ToolCallPart, ToolResultPart, give


class Retold(Exception):
    """What is told now isn't what was heard."""


class Continued:
    """The rest of one answer, of which `heard` is known: how much of each part, by its length."""

    def __init__(self, heard: Iterable[Part]) -> None:
        self._kinds: list[PartKind] = []
        self._texts: list[int] = []
        self._signatures: list[int] = []
        for part in heard:
            self._kinds.append(part.__struct_config__.tag)  # type: ignore[arg-type]
            self._texts.append(len(_text(part)))
            self._signatures.append(len(part.signature or ""))

    def rest(self, batch: list[Delta]) -> list[Delta]:
        """What of a batch is new. Raises `Retold`."""
        new: list[Delta] = []
        for delta in batch:
            if type(delta) is PartStarted and delta.part < len(self._kinds):
                if delta.kind != self._kinds[delta.part]:
                    raise Retold(f"part {delta.part} was a {self._kinds[delta.part]}, and is a {delta.kind}")
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
    """`piece` without the characters of it that were heard."""
    known = min(heard[part], len(piece))
    heard[part] -= known
    return piece[known:]


class Unheard:
    """Passes the batches of an answer that is told again on to `sink`, without what was heard of it before."""

    def __init__(self, heard: Continued, sink: DeltaSink) -> None:
        self._heard = heard
        self._sink = sink

    def take(self, batch: list[Delta]) -> bool:
        """See `DeltaSink`. `Retold` is raised in the task."""
        return False

    async def put(self, batch: list[Delta]) -> None:
        """See `DeltaSink`. Raises `Retold`."""
        await give(self._heard.rest(batch), self._sink)
