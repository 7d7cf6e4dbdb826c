"""The states of a turn as one table of transitions, without I/O. `message_fold.py` folds the events into a message."""

#               started.running ┌─────────┐    part    ┌───────────┐
#   accepting ─────────────────►│ running ├───────────►│ streaming │◄─┐ part, delta
#       │                       │         │◄───────────┤           ├──┘
#       │ started.queued        └────▲────┘   reset    └───────────┘
#       │                            │ status.running
#       │                       ┌────┴────┐
#       └──────────────────────►│ queued  │
#                               └─────────┘
#
# Not drawn: the endings (`running` and `streaming` end as completed, cancelled or failed; `queued` ends as cancelled or
# failed), and the statuses and resets that keep the state.
# Every event changes the state, or keeps it, as `TRANSITIONS` says, or is refused. No event is allowed after an ending
# (law 2).
# A start that begins no turn is rejected: its state becomes failed, though no event says so.
# No retry or fallback is legal after a part was opened: `streaming` has no entry for them. After a reset they are legal
# again, because it leads back to `running`. An answer that broke off is continued in `streaming`.

from __future__ import annotations

from typing import Literal

from gateway.protocol.events import TurnDelta, TurnEvent, TurnPart, TurnReset, TurnStarted, TurnStatus
from gateway.protocol.results import TurnState

State = Literal["accepting", "queued", "running", "streaming", "completed", "cancelled", "failed"]
STATES: tuple[State, ...] = ("accepting", "queued", "running", "streaming", "completed", "cancelled", "failed")
ENDED: frozenset[State] = frozenset({"completed", "cancelled", "failed"})

_ANY_ENDING: dict[str, State] = {"cancelled": "cancelled", "failed": "failed"}
_REJECTED: dict[str, State] = {"rejected": "failed"}
"""The end of a start that began no turn. It isn't an event; a client gets an error instead."""

TRANSITIONS: dict[State, dict[str, State]] = {
    "accepting": {"started.running": "running", "started.queued": "queued", **_REJECTED},
    "queued": {
        "status.queued": "queued",
        "status.running": "running",
        "reset": "queued",
        **_ANY_ENDING,
        **_REJECTED,
    },
    "running": {
        "status.running": "running",
        "status.retrying": "running",
        "status.fallback": "running",
        "status.waiting": "running",
        "status.trimmed": "running",
        "status.resumed": "running",
        "reset": "running",
        "part": "streaming",
        "completed": "completed",
        **_ANY_ENDING,
        **_REJECTED,
    },
    "streaming": {
        "status.trimmed": "streaming",
        "status.continued": "streaming",
        "status.resumed": "streaming",
        "reset": "running",
        "part": "streaming",
        "delta": "streaming",
        "completed": "completed",
        **_ANY_ENDING,
    },
    "completed": {},
    "cancelled": {},
    "failed": {},
}


class IllegalTransition(Exception):
    """An event that isn't allowed in the current state. The gateway has a defect or the stored log is damaged."""


def event_name(event: TurnEvent) -> str:
    """Return the name of `event` in the rows of `TRANSITIONS`, such as "status.running"."""
    if isinstance(event, TurnDelta):
        return "delta"
    if isinstance(event, TurnPart):
        return "part"
    if isinstance(event, TurnStarted):
        return f"started.{event.status}"
    if isinstance(event, TurnStatus):
        return f"status.{event.status}"
    if isinstance(event, TurnReset):
        return "reset"
    return type(event).__name__.removeprefix("Turn").lower()


def step(state: State, event: TurnEvent) -> State:
    """Return the state after `event`. Raise `IllegalTransition` if the event isn't allowed in `state`."""
    return transition(state, event_name(event))


def transition(state: State, name: str) -> State:
    """Return the state after the event with this name. Raise `IllegalTransition` if it isn't allowed in `state`."""
    after = TRANSITIONS[state].get(name)
    if after is None:
        raise IllegalTransition(f"event {name} isn't allowed in state {state}")
    return after


def shown_status(state: State) -> TurnState:
    """Return the state as the protocol names it."""
    return "running" if state == "accepting" or state == "streaming" else state
