"""What a provider's stream says, for comparison: the sink `Answer` folds it into parts, usage and finish reason.

Decoders are tested with `decode_events` and `decode_named`.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from providers.base import Delta, Finished, PartDelta, PartStarted, PartsWithdrawn, ProviderError, Usage, UsageReported
from providers.http.stream import Decoder

STREAMS = Path(__file__).parent / "streams"


@dataclass
class Answer:
    """One folded stream. A part is its kind and text; `started`, `signatures` and `data` hold the rest."""

    text_writer: Final[None] = None

    parts: list[tuple[str, str]] = field(default_factory=list)
    started: list[PartStarted] = field(default_factory=list)
    signatures: dict[int, str] = field(default_factory=dict)
    data: dict[int, str] = field(default_factory=dict)
    usage: Usage | None = None
    cost: Decimal | None = None
    finish: str | None = None
    error: ProviderError | None = None
    batches: int = 0
    withdrawn: list[list[tuple[str, str]]] = field(default_factory=list)
    """The parts before each withdrawal."""

    def add(self, batch: Iterable[Delta]) -> None:
        """Add one batch. Parts must open in order, and only usage may follow the finish reason."""
        self.batches += 1
        for delta in batch:
            assert self.finish is None or isinstance(delta, UsageReported)
            match delta:
                case PartStarted():
                    assert delta.part == len(self.parts)
                    self.parts.append((delta.kind, ""))
                    self.started.append(delta)
                case PartDelta():
                    kind, text = self.parts[delta.part]
                    self.parts[delta.part] = (kind, "")  # only `text` refers to the text, so it isn't copied
                    text += delta.text or ""
                    self.parts[delta.part] = (kind, text)
                    if delta.signature:
                        previous = self.signatures.get(delta.part, "")
                        self.signatures[delta.part] = previous + delta.signature
                    if delta.data is not None:
                        self.data[delta.part] = self.data.get(delta.part, "") + delta.data
                case PartsWithdrawn():
                    self.withdrawn.append(self.parts)
                    self.parts, self.started, self.signatures, self.data = [], [], {}, {}
                case UsageReported():
                    self.usage, self.cost = delta.usage, delta.cost
                case Finished():
                    self.finish = delta.reason

    def offer(self, batch: list[Delta]) -> bool:
        """See `DeltaSink`. Every second batch must go through `put`."""
        if self.batches % 2:
            return False
        self.add(batch)
        return True

    async def put(self, batch: list[Delta]) -> None:
        """See `DeltaSink`."""
        self.add(batch)

    def text(self, kind: str = "text") -> str:
        """Return all text of one kind."""
        return "".join(text for part, text in self.parts if part == kind)

    @property
    def code(self) -> str | None:
        """The error's code."""
        return self.error.code if self.error else None


def fold(batches: Iterable[Iterable[Delta]]) -> Answer:
    """Return the answer that these batches make up."""
    answer = Answer()
    for batch in batches:
        answer.add(batch)
    return answer


def decode_events(decoder: Decoder, *events: dict[str, Any]) -> Answer:
    """Return the answer that the decoder makes of these events until it is done, with its error if it fails."""
    return decode_named(decoder, itertools.takewhile(lambda _: not decoder.done, unnamed(events)))


def unnamed(events: Iterable[dict[str, Any] | bytes]) -> Iterator[tuple[None, bytes]]:
    """Yield the events without a name. Those that are objects are encoded as JSON."""
    for event in events:
        yield None, event if isinstance(event, bytes) else json.dumps(event).encode()


def decode_named(decoder: Decoder, events: Iterable[tuple[str | None, bytes]], *, drains: bool = True) -> Answer:
    """Return the answer that the decoder makes of pairs of name and data, with its error if it fails.

    `drains`: its parts are drained after each event, as in a slow stream, and not only at the end.
    """
    answer = Answer()
    try:
        for name, data in events:
            decoder.decode_event(name, data)
            if drains:
                answer.add(decoder.parts.drain())
        decoder.end()
    except ProviderError as error:
        answer.error = error
    answer.add(decoder.parts.drain())
    return answer


def recordings() -> Path:
    """Return the folder of recorded streams, or skip the test if there is none."""
    folder = os.environ.get("RECORDED_STREAMS")
    if not folder:
        pytest.skip("RECORDED_STREAMS isn't set")
    return Path(folder)


class Batches:
    """A `DeltaSink` that records the batches. It accepts `offers_max` offered batches; later ones must be put."""

    text_writer: Final = None

    def __init__(self, offers_max: int = 0) -> None:
        self.offered: list[list[Delta]] = []
        self.put_batches: list[list[Delta]] = []
        self._offers_max = offers_max

    @property
    def deltas(self) -> list[Delta]:
        """All deltas."""
        return [delta for batch in [*self.offered, *self.put_batches] for delta in batch]

    def offer(self, batch: list[Delta]) -> bool:
        """See `DeltaSink`."""
        if self._offers_max == len(self.offered):
            return False
        self.offered.append(batch)
        return True

    async def put(self, batch: list[Delta]) -> None:
        """See `DeltaSink`."""
        self.put_batches.append(batch)
