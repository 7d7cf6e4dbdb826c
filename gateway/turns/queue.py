"""What has to end before a turn may run: turns of its conversation, and turns that have its user's places."""

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
    """`ahead` have all to end. Of the `slots`, in each of which one turn runs at a time, fewer than `places` may be left."""

    ahead: list[LiveTurn] = field(default_factory=list)
    slots: list[list[LiveTurn]] = field(default_factory=list)
    places: int = 0

    @property
    def waits(self) -> bool:
        """Whether there was anything to wait for."""
        return bool(self.ahead or self.slots)

    def position(self) -> int:
        """How many have to go first; 0: the turn may run."""
        ahead = sum(not other.ended.is_set() for other in self.ahead)
        taken = sum(any(not other.ended.is_set() for other in slot) for slot in self.slots)
        return max(ahead, taken - self.places + 1 if taken else 0)

    async def wait(self, event_writer: EventWriter) -> None:
        """Stand in the queue; every move forward is told."""
        live_turns = list(dict.fromkeys([*self.ahead, *(other for slot in self.slots for other in slot)]))
        told = 0
        for other in live_turns:
            other.waited_for += 1
        try:
            while position := self.position():
                if position != told:
                    event_writer.status(status="queued", position=position)
                    told = position
                await _first_ended(other for other in live_turns if not other.ended.is_set())
        finally:
            for other in live_turns:
                other.waited_for -= 1
        if event_writer.live_turn.state == "queued":
            event_writer.status(status="running")


async def find_queue(
    mirrors: Mirrors, user: str, ahead: Iterable[str], slots: Slots = (), places: int = 0
) -> TurnQueue:
    """The queue behind these turns, wherever they run. Raises `StoreError`."""
    return TurnQueue(
        await _find_each(mirrors, user, ahead), [await _find_each(mirrors, user, slot) for slot in slots], places
    )


async def _find_each(mirrors: Mirrors, user: str, turns: Iterable[str]) -> list[LiveTurn]:
    """Those of the turns that can still be followed."""
    found = []
    for turn in turns:
        with suppress(NotFound, ApiError):
            found.append(await mirrors.find(user, turn))
    return found


async def _first_ended(live_turns: Iterable[LiveTurn]) -> None:
    """Until one of them has ended."""
    loop = asyncio.get_running_loop()
    waiting = [loop.create_task(live_turn.ended.wait()) for live_turn in live_turns]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
