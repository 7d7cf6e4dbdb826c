"""What the events of a turn fold into: the parts of its message, and the model that answers."""

from __future__ import annotations

import pytest
from hypothesis import given

from gateway.protocol.events import TurnDelta, TurnEvent, TurnPart, TurnReset, TurnStatus
from gateway.turns.message_fold import fold, model_of
from providers.base import (
    CitationPart,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tests.turn_events import EPOCH, PIECES, answer, completed, delta, part, started

PARTS: list[tuple[TurnPart, Part, Part]] = [
    (part(2), TextPart(""), TextPart("abc", "S")),
    (
        TurnPart(turn="t", seq=2, part=0, kind="reasoning", redacted=True),
        ReasoningPart("", True),
        ReasoningPart("abc", True, "S"),
    ),
    (part(2, kind="refusal"), RefusalPart(""), RefusalPart("abc", "S")),
    (
        TurnPart(turn="t", seq=2, part=0, kind="tool_call", call="c1", name="add"),
        ToolCallPart("c1", "add", ""),
        ToolCallPart("c1", "add", "abc", "S"),
    ),
    (
        TurnPart(turn="t", seq=2, part=0, kind="tool_result", call="c1"),
        ToolResultPart("c1", ""),
        ToolResultPart("c1", "abc", signature="S"),
    ),
    (
        TurnPart(turn="t", seq=2, part=0, kind="citation", url="u", title="T", text="said"),
        CitationPart("u", "T", "said"),
        CitationPart("u", "T", "said", "S"),
    ),
    (part(2, kind="citation"), CitationPart(), CitationPart(text="abc", signature="S")),
    (
        TurnPart(turn="t", seq=2, part=0, kind="image", media_type="image/webp", url="u", name="n"),
        ImagePart("image/webp", url="u", name="n"),
        ImagePart("image/webp", url="u", name="n", signature="S"),
    ),
    (part(2, kind="image"), ImagePart("image/png"), ImagePart("image/png", signature="S")),
    (
        TurnPart(turn="t", seq=2, part=0, kind="file", media_type="text/csv", url="u", name="n"),
        FilePart("text/csv", url="u", name="n"),
        FilePart("text/csv", url="u", name="n", signature="S"),
    ),
    (
        part(2, kind="file"),
        FilePart("application/octet-stream"),
        FilePart("application/octet-stream", signature="S"),
    ),
]


@pytest.mark.parametrize(("opening", "bare", "whole"), PARTS, ids=lambda value: getattr(value, "kind", None))
def test_every_kind_of_part_is_folded(opening: TurnPart, bare: Part, whole: Part) -> None:
    """A part has the fields of its opening event and the joined signature of its deltas.

    It also has their joined text, unless its kind has no text or the opening event gave one.
    """
    assert fold([started(), opening]) == [bare]
    more: list[TurnEvent] = [
        TurnDelta("t", 3, 0, "a"),
        TurnDelta("t", 4, 0, "bc"),
        TurnDelta("t", 5, 0, signature="S"),
    ]
    assert fold([started(), opening, *more, completed(6)]) == [whole]


def test_a_reset_drops_all_earlier_parts() -> None:
    """After a reset the message begins again at part 0."""
    events: list[TurnEvent] = [
        started(),
        part(2),
        delta(3, "old"),
        TurnReset("t", 4, EPOCH + 1, "a new attempt"),
        part(5, kind="refusal"),
        delta(6, "new"),
    ]
    assert fold(events) == [RefusalPart("new")]
    assert fold(events[:4]) == []


@given(PIECES)
def test_interleaved_parts_are_folded_without_losing_a_character(pieces: list[tuple[int, bool, str]]) -> None:
    """In any order of the deltas, each part's text and signature are its own pieces joined."""
    events = answer(pieces)
    texts: dict[int, str] = {}
    signatures: dict[int, str] = {}
    for event in events:
        if isinstance(event, TurnPart):
            texts[event.part] = signatures[event.part] = ""
        if isinstance(event, TurnDelta):
            texts[event.part] += event.text or ""
            signatures[event.part] += event.signature or ""
    assert fold(events) == [TextPart(texts[n], signatures[n] or None) for n in sorted(texts)]


def test_the_model_is_the_last_fallback_since_the_reset() -> None:
    """The model is the last fallback of the turn. After a reset it is the first model again."""
    back, further = (TurnStatus(turn="t", seq=n, status="fallback", model=f"m{n}") for n in (2, 3))
    waiting = TurnStatus(turn="t", seq=4, status="waiting")
    assert model_of([started("t"), waiting], "m") == "m"
    assert model_of([started("t"), back, further, waiting], "m") == "m3"
    assert model_of([started("t"), back, TurnReset("t", 3, 2, "again")], "m") == "m"


def test_another_model_gets_no_signatures_of_the_first() -> None:
    """If another model continues an answer, the message has only the signatures that were made after that."""
    begun: list[TurnEvent] = [started("t"), part(2), delta(3, "one "), TurnDelta("t", 4, 0, signature="A")]
    same, other = (TurnStatus(turn="t", seq=5, status="continued", model=model) for model in (begun[0].model, "b"))  # type: ignore[union-attr]
    rest: list[TurnEvent] = [delta(6, "two"), part(7, 1), TurnDelta("t", 8, 1, signature="B")]
    assert fold([*begun, same, *rest]) == [TextPart("one two", "A"), TextPart("", "B")]
    assert fold([*begun, other, *rest]) == [TextPart("one two"), TextPart("", "B")]
    assert model_of([*begun, other, *rest], "m") == "b"
