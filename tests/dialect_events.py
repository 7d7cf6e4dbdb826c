"""Events of one turn for tests of the dialects' translators, which hardly look at the `seq`: see also tests/turn_events.py."""

from __future__ import annotations

from typing import Any

from gateway.protocol.errors import ErrorBody
from gateway.protocol.events import (
    Timing,
    TurnCancelled,
    TurnCompleted,
    TurnDelta,
    TurnFailed,
    TurnPart,
    TurnStarted,
)
from providers.base import Usage

TIMING = Timing(0, 1, 1)


def started(turn: str = "t", *, epoch: int = 1, status: Any = "running", conversation: str | None = "c") -> TurnStarted:
    """Return the first event of a turn."""
    return TurnStarted(
        turn=turn,
        seq=1,
        epoch=epoch,
        status=status,
        conversation=conversation,
        model="m",
        input=None,
        message="a",
        parent=None,
    )


def part(number: int, kind: Any = "text", *, turn: str = "t", seq: int = 2, **fields: Any) -> TurnPart:
    """Return the event that begins a part."""
    return TurnPart(turn=turn, seq=seq, part=number, kind=kind, **fields)


def delta(number: int, text: str = "", *, turn: str = "t", seq: int = 3, **fields: Any) -> TurnDelta:
    """Return a delta of a part."""
    return TurnDelta(turn, seq, number, text=text, **fields)


def completed(
    reason: Any = "stop", usage: Usage | None = None, *, turn: str = "t", seq: int = 99, **fields: Any
) -> TurnCompleted:
    """Return the ending of a completed turn."""
    ending = {"cost": None, "timing": TIMING, **fields}
    return TurnCompleted(turn=turn, seq=seq, finish_reason=reason, usage=usage, message="a", **ending)


def cancelled(by: Any = "client", *, turn: str = "t", seq: int = 99, **fields: Any) -> TurnCancelled:
    """Return the ending of a cancelled turn."""
    ending = {"cost": None, "timing": TIMING, "usage": None, **fields}
    return TurnCancelled(turn=turn, seq=seq, by=by, message="a", **ending)


def failed(error: ErrorBody, *, turn: str = "t", seq: int = 99, **fields: Any) -> TurnFailed:
    """Return the ending of a failed turn."""
    ending = {"cost": None, "timing": TIMING, "usage": None, **fields}
    return TurnFailed(turn=turn, seq=seq, error=error, message="a", **ending)
