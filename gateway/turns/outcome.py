"""The outcome of a turn, before it becomes an event."""

from __future__ import annotations

from msgspec import Struct

from gateway.protocol.errors import ApiError
from gateway.protocol.events import CancelledBy, EndStatus
from gateway.turns.abort import Abort
from providers.base import FinishReason


class Outcome(Struct, frozen=True):
    """The ending of a turn: completed, cancelled or failed. `stop_sequence`: see `Finished`."""

    status: EndStatus
    finish_reason: FinishReason = "stop"
    stop_sequence: str | None = None
    by: CancelledBy = "client"
    reason: str | None = None
    error: ApiError | None = None

    @classmethod
    def from_abort(cls, abort: Abort) -> Outcome:
        """Return the outcome of an aborted turn: failed if the abort is by "error", cancelled otherwise."""
        assert abort.by not in {"lost", "handover"}, "the turn goes on elsewhere"
        if abort.by == "error":
            return cls("failed", error=abort.error or ApiError("internal"))
        return cls("cancelled", by=abort.by, reason=abort.reason)  # type: ignore[arg-type]
