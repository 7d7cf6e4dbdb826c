"""Tests of what a client of a dialect keeps when an answer begins again."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.dialects.resets import Diverged, SentAnswer
from gateway.dialects.stream import DIVERGED, StreamTranslator
from gateway.protocol.errors import ErrorBody
from gateway.protocol.events import (
    ServerEvent,
    Timing,
    TurnCompleted,
    TurnDelta,
    TurnFailed,
    TurnPart,
    TurnReset,
)

Pieces = list[tuple[str, list[str]]]
"""An answer: the kind of each part, and the pieces of its text."""

texts = st.lists(st.sampled_from(["a", "b", "ab", "é"]), max_size=4)
answers = st.lists(st.tuples(st.sampled_from(["text", "reasoning"]), texts), max_size=3)


class Flat(StreamTranslator):
    """A translator whose frames are the text itself, with a mark before each part."""

    def part(self, event: TurnPart) -> bytes:
        return f"<{event.kind}>".encode()

    def text(self, part: int, text: str) -> bytes:
        return text.encode()

    def completed(self, event: TurnCompleted) -> bytes:
        return b"."

    def failed(self, error: ErrorBody, event: TurnFailed | None) -> bytes:
        return b"!"


def events_of(answer: Pieces) -> list[ServerEvent]:
    found: list[ServerEvent] = []
    for n, (kind, pieces) in enumerate(answer):
        found.append(TurnPart(turn="t", seq=1, part=n, kind=kind))  # type: ignore[arg-type]
        found += [TurnDelta("t", 1, n, piece) for piece in pieces]
    return found


def ended() -> ServerEvent:
    return TurnCompleted(
        turn="t", seq=9, finish_reason="stop", usage=None, cost=None, timing=Timing(0, 0, 1), message="m"
    )


def flat(answer: Pieces) -> str:
    return "".join(f"<{kind}>{''.join(pieces)}" for kind, pieces in answer)


@example([([("text", ["a"]), ("text", [])], 3)], [("text", []), ("text", ["a"])])
@given(st.lists(st.tuples(answers, st.integers(0, 12)), max_size=3), answers)
def test_text_is_never_doubled_or_wrong(attempts: list[tuple[Pieces, int]], last: Pieces) -> None:
    """Law 7: after any resets, the client has the last answer, or a prefix of some attempt and an error."""
    translator, received = Flat(), ""
    allowed = {flat(last)[:n] for n in range(len(flat(last)) + 1)}
    for answer, sent in attempts:
        allowed |= {flat(answer)[:n] for n in range(len(flat(answer)) + 1)}
        for event in [*events_of(answer)[:sent], TurnReset("t", 1, 1, "again")]:
            if not translator.ended:
                received += translator.encode(event).decode()
    for event in [*events_of(last), ended()]:
        if not translator.ended:
            received += translator.encode(event).decode()
    assert translator.ended
    if translator.failure is None:
        assert received == flat(last) + "."
    else:
        assert translator.failure is DIVERGED
        assert received[-1] == "!"
        assert received[:-1] in allowed


@given(answers, st.integers(0, 12), st.integers(0, 2))
def test_the_same_answer_is_continued(answer: Pieces, sent: int, resets: int) -> None:
    translator, received = Flat(), ""
    for event in events_of(answer)[:sent]:
        received += translator.encode(event).decode()
    for _ in range(resets):
        received += translator.encode(TurnReset("t", 1, 1, "again")).decode()
    rest = events_of(answer) if resets else events_of(answer)[sent:]
    for event in [*rest, ended()]:
        received += translator.encode(event).decode()
    assert (translator.failure, received) == (None, flat(answer) + ".")


def test_a_later_part_ends_the_growth_of_an_earlier_one() -> None:
    """The client has appended the second part already."""
    sent = SentAnswer()
    for n in range(2):
        assert sent.is_new(TurnPart(turn="t", seq=1, part=n, kind="text"))
        sent.texts[n].append("ab")
    sent.reset()
    assert not sent.is_new(TurnPart(turn="t", seq=1, part=0, kind="text"))
    with pytest.raises(Diverged):
        sent.unsent_text(0, "abc")


def test_a_later_part_doesnt_grow_before_an_earlier_one_is_whole() -> None:
    """The new answer may still differ from what the client has of the earlier part."""
    sent = SentAnswer()
    for n, text in enumerate(("a", "")):
        assert sent.is_new(TurnPart(turn="t", seq=1, part=n, kind="text"))
        sent.texts[n].append(text)
    sent.reset()
    for n in range(2):
        assert not sent.is_new(TurnPart(turn="t", seq=1, part=n, kind="text"))
    with pytest.raises(Diverged):
        sent.unsent_text(1, "a")


def test_another_call_id_is_another_part() -> None:
    sent = SentAnswer()
    assert sent.is_new(TurnPart(turn="t", seq=1, part=0, kind="tool_call", call="c1", name="add"))
    sent.reset()
    with pytest.raises(Diverged):
        sent.is_new(TurnPart(turn="t", seq=1, part=0, kind="tool_call", call="c2", name="add"))


def test_signatures_are_compared() -> None:
    sent = SentAnswer()
    assert sent.is_new(TurnPart(turn="t", seq=1, part=0, kind="reasoning"))
    sent.signatures[0].append("sig")
    sent.reset()
    assert not sent.is_new(TurnPart(turn="t", seq=1, part=0, kind="reasoning"))
    assert sent.unsent_signature(0, "sign") == "n"
    assert not sent.is_behind
