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
from store.errors import NotFound
from store.records import RunningGroups


@dataclass(slots=True)
class TurnQueue:
    """The turns that a turn waits for.

    The turn may run when all turns in `ahead` have ended, and fewer than `running_max` of the `groups` still have a
    live turn. The turns of one group run one after the other.
    """

    ahead: list[LiveTurn] = field(default_factory=list)
    groups: list[list[LiveTurn]] = field(default_factory=list)
    running_max: int = 0

    @property
    def must_wait(self) -> bool:
        """Whether there were turns to wait for when the queue was made."""
        return bool(self.ahead or self.groups)

    def position(self) -> int:
        """Return how many turns or groups have to end first; 0 means the turn may run."""
        ahead = sum(not other.ended.is_set() for other in self.ahead)
        running = sum(any(not other.ended.is_set() for other in group) for group in self.groups)
        return max(ahead, running - self.running_max + 1 if running else 0)

    async def wait(self, event_writer: EventWriter) -> None:
        """Wait until the turn may run. Publish each new position as a `turn.status`."""
        others = list(dict.fromkeys([*self.ahead, *(other for group in self.groups for other in group)]))
        published = 0
        while position := self.position():
            if position != published:
                event_writer.publish_status(status="queued", position=position)
                published = position
            await _first_ended(other for other in others if not other.ended.is_set())
        if event_writer.live_turn.state == "queued":
            event_writer.publish_status(status="running")


async def find_queue(
    mirrors: Mirrors, user: str, ahead: Iterable[str], groups: RunningGroups = (), running_max: int = 0
) -> TurnQueue:
    """Return the queue of a turn, built from turn ids; the turns may run on any instance. Raises `StoreError`.

    `ahead`, `groups` and `running_max` are those of `TurnQueue`.
    """
    return TurnQueue(
        await _find_all(mirrors, user, ahead), [await _find_all(mirrors, user, group) for group in groups], running_max
    )


async def _find_all(mirrors: Mirrors, user: str, turns: Iterable[str]) -> list[LiveTurn]:
    """Return the turns that can still be found. Raises `StoreError`."""
    found = []
    for turn in turns:
        with suppress(NotFound, ApiError):
            found.append(await mirrors.find(user, turn))
    return found


async def _first_ended(live_turns: Iterable[LiveTurn]) -> None:
    """Wait until one of the turns has ended."""
    loop = asyncio.get_running_loop()
    waiting = [loop.create_task(live_turn.wait_ended()) for live_turn in live_turns]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
