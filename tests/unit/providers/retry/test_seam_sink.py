"""The sink that joins the parts of an answer to its continuation."""

from __future__ import annotations

from typing import Final

from providers.base import (
    CitationPart,
    Delta,
    Finished,
    Part,
    PartDelta,
    PartStarted,
    ReasoningPart,
    TextPart,
    Usage,
    UsageReported,
    deliver,
)
from providers.retry.seam_sink import SeamSink


class Recorder:
    """A sink that records the deltas."""

    text_writer: Final = None

    def __init__(self) -> None:
        self.deltas: list[Delta] = []

    def offer(self, batch: list[Delta]) -> bool:
        self.deltas += batch
        return True

    async def put(self, batch: list[Delta]) -> None:
        self.deltas += batch


SAID: list[Part] = [ReasoningPart("Hm"), TextPart("The quick brown"), CitationPart("https://a.example")]


async def test_a_continuation_is_numbered_after_the_parts() -> None:
    """The first text continues the last text part, also after a citation. Other parts get new numbers."""
    recorder = Recorder()
    sink = SeamSink(SAID, recorder)
    first: list[Delta] = [
        PartStarted(0, "reasoning"),
        PartDelta(0, "So"),
        PartStarted(1, "text"),
        PartDelta(1, "brown "),
    ]
    assert not sink.offer(first)
    await sink.put(first)
    await sink.put([PartDelta(1, "fox")])
    assert sink.offer(
        [PartStarted(2, "citation", url="u"), PartDelta(1, "."), PartStarted(3, "text"), PartDelta(3, "x")]
    )
    assert sink.offer([UsageReported(Usage(1, 2)), Finished("stop")])
    assert recorder.deltas == [
        PartStarted(3, "reasoning"),
        PartDelta(3, "So"),
        PartDelta(1, " "),
        PartDelta(1, "fox"),
        PartStarted(4, "citation", url="u"),
        PartDelta(1, "."),
        PartStarted(5, "text"),
        PartDelta(5, "x"),
        UsageReported(Usage(1, 2)),
        Finished("stop"),
    ]


async def test_text_after_reasoning_is_a_new_part() -> None:
    """If reasoning followed the text, the continuation is a part of its own. What is held is passed on at the end."""
    recorder = Recorder()
    sink = SeamSink([TextPart("One."), ReasoningPart("Hm")], recorder)
    await sink.put([PartStarted(0, "text"), PartDelta(0, "One")])
    assert recorder.deltas == []
    await sink.end()
    assert recorder.deltas == [PartStarted(2, "text"), PartDelta(2, "One")]


class BusyRecorder(Recorder):
    """A sink whose `offer` never accepts a batch."""

    def offer(self, batch: list[Delta]) -> bool:
        return False


async def test_a_new_part_is_started_even_if_the_sink_refuses_its_first_batch() -> None:
    """A repetition ends where its batch ends. The next batch starts the new part, even if the sink's `offer` never accepts
    a batch."""
    recorder = BusyRecorder()
    sink = SeamSink([TextPart("The quick brown"), ReasoningPart("Hm")], recorder, asked=True)
    await sink.put([PartStarted(0, "text"), PartDelta(0, "quick brown")])
    await deliver([PartDelta(0, " fox")], sink)
    await deliver([PartDelta(0, ".")], sink)
    assert recorder.deltas == [PartStarted(2, "text"), PartDelta(2, " fox"), PartDelta(2, ".")]
