"""Routes events to the turns of a connection until each has ended. Reports violations of laws 1 and 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from turnwire.client.errors import LawViolation, TurnwireError
from turnwire.client.events import TurnDetached, TurnEvent, TurnReset, TurnStarted
from turnwire.client.requests import Key
from turnwire.client.turn import Turn

OUTCOMES_MAX = 2_000


class Attacher(Protocol):
    """What has to know whether the events of a turn arrive."""

    def attach(self, turns: list[Turn]) -> None:
        """Attach to turns from their positions."""

    def detach(self, turn: Turn) -> None:
        """Let no more events of the turn be sent."""

    def mark_attached(self, turn: Turn) -> None:
        """Events of the turn arrive."""

    def mark_detached(self, turn: Turn) -> None:
        """No more events of the turn arrive."""

    def begins_again(self, turn: Turn) -> bool:
        """Whether the turn's first event may arrive a second time."""


class FollowedTurns:
    """The turns that haven't ended, by user and id.

    `start_remote` returns a turn that was started elsewhere, if its conversation is attached, else None.
    """

    def __init__(self, start_remote: Callable[[TurnStarted], Turn | None]) -> None:
        self.attacher: Attacher | None = None
        self.violations: list[LawViolation] = []
        self._start_remote = start_remote
        self._turns: dict[Key, Turn] = {}
        self._outcomes: dict[Key, str] = {}
        """Those of the latest past turns: `ended` (by an event), `failed` (here only) or `withdrawn`."""

    def running(self) -> list[Turn]:
        """Return the turns, oldest first."""
        return list(self._turns.values())

    def get(self, user: str | None, turn: str) -> Turn | None:
        """Return a turn."""
        return self._turns.get((user, turn))

    def add(self, turn: Turn) -> None:
        """Follow a turn."""
        key = (turn.user, turn.id)
        self._turns[key] = turn
        self._outcomes.pop(key, None)

    def withdraw(self, turn: Turn, reason: str | None) -> None:
        """End a turn whose start was never sent."""
        turn._withdraw(reason)
        self._remove(turn, "withdrawn")

    def fail(self, turn: Turn, error: TurnwireError) -> None:
        """End a turn here only."""
        if not turn.ended:
            turn._fail(error)
            self._remove(turn, "failed")

    def receive(self, event: TurnEvent | TurnDetached) -> bool:
        """Handle an event that names a turn. Return False if it belongs to none of them."""
        key = (event.user, event.turn or "")
        turn = self._turns.get(key)
        if turn is not None:
            if isinstance(event, TurnDetached):
                self._reattach(turn)
            else:
                self._apply(turn, event)
            return True
        outcome = self._outcomes.get(key)
        if outcome == "ended" and not isinstance(event, TurnDetached):
            self.violations.append(LawViolation(f"Turn {event.turn}: {event.type} after its ending (law 2)."))
        elif outcome is None and isinstance(event, TurnStarted):
            turn = self._start_remote(event)
            if turn is None:
                return False
            self._turns[key] = turn
            self._apply(turn, event)
        return outcome is not None or turn is not None

    def _reattach(self, turn: Turn) -> None:
        """Attach again from the turn's position. If the gateway refuses for good, the turn fails."""
        if self.attacher is not None:
            self.attacher.mark_detached(turn)
            self.attacher.attach([turn])

    def _apply(self, turn: Turn, event: TurnEvent) -> None:
        try:
            if (
                isinstance(event, TurnStarted)
                and turn.position.seq > 0
                and self.attacher
                and self.attacher.begins_again(turn)
            ):
                reason = "the turn was attached from its start"
                turn._receive(TurnReset(user=event.user, turn=turn.id, seq=0, epoch=event.epoch, reason=reason))
            turn._receive(event)
        except LawViolation as error:
            self.violations.append(error)
            self.fail(turn, error)
            if self.attacher is not None:
                self.attacher.detach(turn)  # further events can't be applied
            return
        if self.attacher is not None:
            self.attacher.mark_attached(turn)
        if turn.ended:
            self._remove(turn, "ended")

    def _remove(self, turn: Turn, outcome: str) -> None:
        key = (turn.user, turn.id)
        self._turns.pop(key, None)
        if self.attacher is not None:
            self.attacher.mark_detached(turn)
        self._outcomes[key] = outcome
        if len(self._outcomes) > OUTCOMES_MAX:
            del self._outcomes[next(iter(self._outcomes))]
