"""Events of turns for tests: one of each kind, and random valid sequences."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from gateway.protocol.errors import ApiError
from gateway.protocol.events import (
    Ending,
    Timing,
    TurnCancelled,
    TurnCompleted,
    TurnDelta,
    TurnEvent,
    TurnFailed,
    TurnPart,
    TurnReset,
    TurnStarted,
    TurnStatus,
)
from providers.base import PartKind

EPOCH = 1_795_247_464_000
TIMING = Timing(queued_ms=0, total_ms=1, attempts=1)


def started(turn: str = "t", *, queued: bool = False) -> TurnStarted:
    """Return the first event of a turn."""
    return TurnStarted(
        turn=turn,
        seq=1,
        epoch=EPOCH,
        status="queued" if queued else "running",
        conversation="c",
        model="demo",
        input=None,
        message="m",
        parent=None,
    )


def part(seq: int, number: int = 0, kind: PartKind = "text", turn: str = "t") -> TurnPart:
    """Return the event that begins a part."""
    return TurnPart(turn=turn, seq=seq, part=number, kind=kind)


def delta(seq: int, text: str = "x", number: int = 0, turn: str = "t") -> TurnDelta:
    """Return a delta of a part."""
    return TurnDelta(turn, seq, number, text)


def completed(seq: int, turn: str = "t") -> TurnCompleted:
    """Return the ending of a completed turn."""
    return TurnCompleted(turn=turn, seq=seq, finish_reason="stop", usage=None, cost=None, timing=TIMING, message="m")


def cancelled(seq: int, turn: str = "t") -> TurnCancelled:
    """Return the ending of a cancelled turn."""
    return TurnCancelled(turn=turn, seq=seq, by="client", usage=None, cost=None, timing=TIMING, message="m")


def failed(seq: int, turn: str = "t") -> TurnFailed:
    """Return the ending of a failed turn."""
    return TurnFailed(
        turn=turn,
        seq=seq,
        error=ApiError("internal").body,
        usage=None,
        cost=None,
        timing=TIMING,
        message="m",
    )


def one_of_each() -> dict[str, TurnEvent]:
    """Return an event for each row of the table of turn states, by the row's name."""
    statuses = ("queued", "running", "retrying", "fallback", "waiting", "trimmed", "resumed", "continued")
    return {
        "started.running": started(),
        "started.queued": started(queued=True),
        **{f"status.{status}": TurnStatus(turn="t", seq=2, status=status) for status in statuses},  # type: ignore[arg-type]
        "part": part(2),
        "delta": delta(2),
        "reset": TurnReset("t", 2, EPOCH + 1, "a new attempt"),
        "completed": completed(2),
        "cancelled": cancelled(2),
        "failed": failed(2),
    }


def answer(pieces: Sequence[tuple[int, bool, str]], turn: str = "t", *, ended: bool = True) -> list[TurnEvent]:
    """Return all events of a turn that has one delta per piece. A part begins with its first delta.

    A piece is (part number, whether the content is a signature instead of text, content). A number that is too high
    means the next new part. With `ended` false, the turn has no ending.
    """
    events: list[TurnEvent] = [started(turn)]
    opened = 0
    for part_number, is_signature, content in pieces:
        number = min(part_number, opened)
        if number == opened:
            events.append(part(len(events) + 1, number, turn=turn))
            opened += 1
        seq = len(events) + 1
        if is_signature:
            events.append(TurnDelta(turn, seq, number, signature=content))
        else:
            events.append(TurnDelta(turn, seq, number, text=content))
    if ended:
        ending: Ending = completed(len(events) + 1, turn)
        events.append(ending)
    return events


PIECES = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.booleans(),
        st.one_of(
            st.text(min_size=1, max_size=12),
            st.builds(
                lambda unit, n: unit * n,
                st.sampled_from(["a", "é", "\n", "😀", '"', "\x01"]),
                st.integers(1, 2500),
            ),
        ),
    ),
    max_size=30,
)
