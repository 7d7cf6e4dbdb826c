"""In which of the three ways a turn ended, before that is an event."""

from __future__ import annotations

from msgspec import Struct

from gateway.protocol.errors import ApiError
from gateway.protocol.events import CancelledBy, EndStatus
from gateway.turns.abort import Abort
from providers.base import FinishReason


class Outcome(Struct, frozen=True):
    """In which of the three ways a turn ends."""

    status: EndStatus
    finish_reason: FinishReason = "stop"
    by: CancelledBy = "client"
    reason: str | None = None
    error: ApiError | None = None

    @classmethod
    def from_abort(cls, abort: Abort) -> Outcome:
        """What an abort makes of a turn: cancelled, or failed where it carries an error."""
        assert abort.by not in {"lost", "handover"}, "the turn goes on elsewhere"
        if abort.by == "error":
            return cls("failed", error=abort.error or ApiError("internal"))
        return cls("cancelled", by=abort.by, reason=abort.reason)  # type: ignore[arg-type]
