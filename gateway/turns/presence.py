"""Report presence: which turns of other instances have connections attached here, so that the owners know (law 8)."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from gateway.tasks import spawn
from gateway.turns.instance import Instance
from gateway.turns.live_turn import LiveTurn
from store.errors import StoreError

log = structlog.stdlib.get_logger("turnwire.mirror")

PRESENCE_RENEW_S = 3.0


class Presence:
    """The reports of this instance's presence to the store."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._grace_s = instance.settings.disconnect_grace_s
        self._renewed_at = 0.0
        """The loop time in seconds of the last regular report."""

    def schedule(self, live_turns: list[LiveTurn]) -> None:
        """Report presence now, in a task of its own. The owner may ask for it before the next regular report."""
        spawn(self._instance.tasks, self._renew(live_turns))

    async def renew_regularly(self, now: float, attached: Callable[[], list[LiveTurn]]) -> None:
        """Report the presence of the `attached` turns if it is time at `now`, the loop time in seconds."""
        if now - self._renewed_at >= PRESENCE_RENEW_S:
            self._renewed_at = now
            await self._renew(attached())

    async def _renew(self, live_turns: list[LiveTurn]) -> None:
        if live_turns:
            # Presence expires one grace period after the last connection left (law 8). While a connection is attached,
            # it lasts for two more report intervals, so that a missed report doesn't end it.
            is_attached = any(live_turn.is_attached for live_turn in live_turns)
            ttl_s = self._grace_s + (2 * PRESENCE_RENEW_S if is_attached else 0)
            try:
                turns = [(live_turn.user, live_turn.turn) for live_turn in live_turns]
                await self._instance.store.renew_presence(self._instance.id, turns, int(ttl_s * 1000))
            except StoreError as error:
                log.info("presence can't be renewed", error=str(error))
