"""Cancel a turn with `on_disconnect: cancel` once no connection of any instance is attached to it (law 8)."""

from __future__ import annotations

import asyncio

from gateway.protocol.requests import TurnStart
from gateway.tasks import spawn
from gateway.turns.abort import Abort
from gateway.turns.instance import Instance
from gateway.turns.live_turn import LiveTurn
from store.errors import StoreError

PRESENCE_RECHECK_S = 1.0


class Abandonment:
    """The cancellation of this instance's turns that no connection is attached to any longer."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def cancel_on_disconnect(self, live_turn: LiveTurn, request: TurnStart) -> None:
        """Cancel the turn after the grace period without a connection, if `request` has `on_disconnect: cancel`."""
        if request.on_disconnect == "cancel":
            live_turn.set_disconnect_callback(self._instance.settings.disconnect_grace_s, self._on_abandoned)

    def _on_abandoned(self, live_turn: LiveTurn) -> None:
        spawn(self._instance.tasks, self._cancel_abandoned(live_turn, live_turn.disconnect_timer))

    async def _cancel_abandoned(self, live_turn: LiveTurn, timer: asyncio.TimerHandle | None) -> None:
        """Cancel a turn without attachments here, unless another instance has one. `timer`: the timer that fired."""
        try:
            attached_elsewhere = await self._instance.store.has_other_presence(
                live_turn.user, live_turn.turn, self._instance.id
            )
        except StoreError:
            if live_turn.is_abortable and not live_turn.is_attached:
                # The store may come back without the presence of other instances: give them time to report it again.
                live_turn.start_disconnect_timer()
            return
        if not live_turn.is_abortable or live_turn.is_attached or live_turn.disconnect_timer is not timer:
            # If the timer was restarted during the call, another grace period runs. That is so if, for example, the store
            # has lost its data: the reply then lacks the presence of other instances.
            return
        if attached_elsewhere:
            live_turn.start_disconnect_timer(PRESENCE_RECHECK_S)
        else:
            live_turn.signal.abort(Abort("disconnect", "No client was attached to the turn any longer."))
