"""The turns that have to end before a turn may run: turns of its conversation, and turns of its user."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.protocol.errors import ApiError
from gateway.turns.event_writer import EventWriter
from gateway.turns.live_turn import LiveTurn
from gateway.turns.mirrors import Mirrors
from store.records import NotFound, Slots


@dataclass(slots=True)
class TurnQueue:
    """The turns that a turn waits for.

    All turns in `ahead` have to end. Each of `slots` is a group of turns of which one runs at a time; fewer than
    `places` groups may still have a live turn.
    """

    ahead: list[LiveTurn] = field(default_factory=list)
    slots: list[list[LiveTurn]] = field(default_factory=list)
    places: int = 0

    @property
    def waits(self) -> bool:
        """Whether there were turns to wait for when the queue was made."""
        return bool(self.ahead or self.slots)

    def position(self) -> int:
        """Return how many turns have to end first; 0 means the turn may run."""
        ahead = sum(not other.ended.is_set() for other in self.ahead)
        taken = sum(any(not other.ended.is_set() for other in slot) for slot in self.slots)
        return max(ahead, taken - self.places + 1 if taken else 0)

    async def wait(self, event_writer: EventWriter) -> None:
        """Wait until the turn may run. Publish each new position as a `turn.status`."""
        live_turns = list(dict.fromkeys([*self.ahead, *(other for slot in self.slots for other in slot)]))
        told = 0
        for other in live_turns:
            other.waiters += 1
        try:
            while position := self.position():
                if position != told:
                    event_writer.status(status="queued", position=position)
                    told = position
                await _first_ended(other for other in live_turns if not other.ended.is_set())
        finally:
            for other in live_turns:
                other.waiters -= 1
        if event_writer.live_turn.state == "queued":
            event_writer.status(status="running")


async def find_queue(
    mirrors: Mirrors, user: str, ahead: Iterable[str], slots: Slots = (), places: int = 0
) -> TurnQueue:
    """Return the queue of a turn, built from turn ids; the turns may run on any instance. Raises `StoreError`.

    `ahead`, `slots` and `places` are those of `TurnQueue`.
    """
    return TurnQueue(
        await _find_each(mirrors, user, ahead), [await _find_each(mirrors, user, slot) for slot in slots], places
    )


async def _find_each(mirrors: Mirrors, user: str, turns: Iterable[str]) -> list[LiveTurn]:
    """Return the turns that can still be found. Raises `StoreError`."""
    found = []
    for turn in turns:
        with suppress(NotFound, ApiError):
            found.append(await mirrors.find(user, turn))
    return found


async def _first_ended(live_turns: Iterable[LiveTurn]) -> None:
    """Wait until one of the turns has ended."""
    loop = asyncio.get_running_loop()
    waiting = [loop.create_task(live_turn.ended.wait()) for live_turn in live_turns]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
