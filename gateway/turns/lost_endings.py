"""After a loss of the store's connection, look whether the store has lost endings that this instance knows.

A promoted replica, or a store that was restored from its file, may lack the last seconds: there, a turn is running again
although clients have seen its ending. An instance that knows the ending stores it at once, before another one takes the
turn over and ends it in another way (laws 2 and 3).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

import structlog

from gateway.tasks import spawn
from gateway.turns.instance import Instance
from gateway.turns.known_ending import has_ending, restore_ending
from gateway.turns.live_turn import LiveTurn
from store.errors import NotFound, StoreError

log = structlog.stdlib.get_logger("turnwire.turn")

RETRY_S = 0.1
USERS_AT_ONCE = 32


class LostEndings:
    """The search for lost endings. Its attempts end when the time of a lease is over: then turns are taken over."""

    def __init__(self, instance: Instance) -> None:
        self._registry = instance.registry
        self._store = instance.store
        self._tasks = instance.tasks
        self._lease_s = instance.settings.lease_s
        self._is_searching = False
        self._is_due = False

    def schedule(self) -> None:
        """Search in a task. If a search is running, start another one after it."""
        self._is_due = True
        if not self._is_searching:
            self._is_searching = True
            spawn(self._tasks, self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._is_due:
                self._is_due = False
                until = loop.time() + self._lease_s
                while loop.time() < until:
                    if await self._search():
                        break
                    await asyncio.sleep(RETRY_S)
        finally:
            self._is_searching = False

    async def _search(self) -> bool:
        """Store the endings that the store has lost. Return whether the store could be asked for all of them."""
        by_user: dict[str, list[LiveTurn]] = defaultdict(list)
        for live_turn in self._registry.ended():
            if has_ending(live_turn):
                by_user[live_turn.user].append(live_turn)
        users = list(by_user)
        try:
            for start in range(0, len(users), USERS_AT_ONCE):
                await asyncio.gather(
                    *(self._search_for(user, by_user[user]) for user in users[start : start + USERS_AT_ONCE])
                )
        except StoreError as error:
            log.info("lost endings can't be looked for, retrying", error=str(error))
            return False
        return True

    async def _search_for(self, user: str, ended: list[LiveTurn]) -> None:
        states = await self._store.running(user, [live_turn.turn for live_turn in ended])
        for live_turn, runs in zip(ended, states, strict=True):
            if runs:
                try:
                    await restore_ending(self._store, live_turn)
                except NotFound:
                    log.info("a turn without its ending is no longer in the store", turn=live_turn.turn)
