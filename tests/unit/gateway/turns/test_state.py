"""The complete table of turn states, and the statuses that clients see."""

from __future__ import annotations

from itertools import product

import pytest

from gateway.turns.state import (
    ENDED,
    STATES,
    TRANSITIONS,
    IllegalTransition,
    State,
    event_name,
    shown_status,
    step,
    transition,
)
from tests.turn_events import one_of_each

EVENTS = one_of_each()

# Written by hand and not derived from `TRANSITIONS`, so that a change of the table is deliberate.
ALLOWED: dict[State, set[str]] = {
    "accepting": {"started.running", "started.queued"},
    "queued": {"status.queued", "status.running", "reset", "cancelled", "failed"},
    "running": {
        *("status.running", "status.retrying", "status.fallback", "status.waiting", "status.trimmed"),
        *("status.resumed", "reset", "part", "completed", "cancelled", "failed"),
    },
    "streaming": {
        *("status.trimmed", "status.resumed", "status.continued"),
        *("reset", "part", "delta", "completed", "cancelled", "failed"),
    },
    "completed": set(),
    "cancelled": set(),
    "failed": set(),
}


@pytest.mark.parametrize(("state", "name"), list(product(STATES, EVENTS)))
def test_every_event_in_every_state_moves_or_raises(state: State, name: str) -> None:
    """Law 2: each event moves the state as the table says, or raises. After an ending every event raises."""
    event = EVENTS[name]
    assert event_name(event) == name
    if name in ALLOWED[state]:
        assert step(state, event) == TRANSITIONS[state][name]
        assert step(state, event) in STATES
    else:
        with pytest.raises(IllegalTransition, match=name):
            step(state, event)


def test_the_table_has_a_row_for_every_state_and_no_other() -> None:
    """States, table and endings agree; an ending has the name of the state that it leads to."""
    assert set(TRANSITIONS) == set(STATES)
    assert {state for state in STATES if not TRANSITIONS[state]} == ENDED
    for rows in TRANSITIONS.values():
        for name, after in rows.items():
            assert (after in ENDED) == (name in ENDED or name == "rejected")
            if name in ENDED:
                assert after == name


def test_a_start_is_rejected_only_before_its_answer_begins() -> None:
    """A turn whose answer has begun ends only with an event, and an ended turn can't end again."""
    for state in STATES:
        if state in {"accepting", "queued", "running"}:
            assert transition(state, "rejected") == "failed"
        else:
            with pytest.raises(IllegalTransition, match="rejected"):
                transition(state, "rejected")


def test_a_retry_is_only_legal_before_the_first_part() -> None:
    """After the first part, only a reset leads back to the state in which a retry or a fallback is legal."""
    for name in ("status.retrying", "status.fallback"):
        assert {state for state in STATES if name in TRANSITIONS[state]} == {"running"}
    assert [name for name, after in TRANSITIONS["streaming"].items() if after == "running"] == ["reset"]


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("accepting", "running"),
        ("queued", "queued"),
        ("running", "running"),
        ("streaming", "running"),
        ("completed", "completed"),
        ("cancelled", "cancelled"),
        ("failed", "failed"),
    ],
)
def test_a_client_sees_five_states(state: State, shown: str) -> None:
    """Three internal states are `running` on the wire."""
    assert shown_status(state) == shown
