"""The outcome of a turn: completed, cancelled or failed."""

from __future__ import annotations

import pytest

from gateway.protocol.errors import ApiError
from gateway.protocol.events import CancelledBy
from gateway.turns.abort import Abort
from gateway.turns.outcome import Outcome


@pytest.mark.parametrize("by", ["client", "disconnect", "limit", "admin"])
def test_an_abort_by_a_client_or_limit_cancels_the_turn(by: CancelledBy) -> None:
    """A turn stopped by a client, an admin, a disconnect or a limit is cancelled, with the reason."""
    assert Outcome.from_abort(Abort(by, "why")) == Outcome("cancelled", by=by, reason="why")


def test_an_abort_with_an_error_fails_the_turn() -> None:
    """A drain or a defect fails the turn with the error's code. Without an error the code is `internal`."""
    error = ApiError("shutting_down")
    assert Outcome.from_abort(Abort("error", error=error)) == Outcome("failed", error=error)
    without = Outcome.from_abort(Abort("error"))
    assert without.status == "failed"
    assert without.error is not None
    assert without.error.code == "internal"
