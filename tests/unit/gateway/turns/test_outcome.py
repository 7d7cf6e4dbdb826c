"""In which of the three ways a turn ends."""

from __future__ import annotations

import pytest

from gateway.protocol.errors import ApiError
from gateway.protocol.events import CancelledBy
from gateway.turns.abort import Abort
from gateway.turns.outcome import Outcome


@pytest.mark.parametrize("by", ["client", "disconnect", "limit", "admin"])
def test_who_stops_a_turn_cancels_it(by: CancelledBy) -> None:
    """A person, a disconnect or a limit: cancelled, with the reason."""
    assert Outcome.from_abort(Abort(by, "why")) == Outcome("cancelled", by=by, reason="why")


def test_an_abort_with_an_error_fails_the_turn() -> None:
    """A drain or a defect fails it with the error's code; without one it is `internal`."""
    error = ApiError("shutting_down")
    assert Outcome.from_abort(Abort("error", error=error)) == Outcome("failed", error=error)
    without = Outcome.from_abort(Abort("error"))
    assert without.status == "failed"
    assert without.error is not None
    assert without.error.code == "internal"
