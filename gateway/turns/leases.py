"""Renew the leases of the turns that this instance runs, and notice when one is lost (law 9)."""

from __future__ import annotations

import asyncio

import structlog

from gateway.turns.abort import Abort
from gateway.turns.instance import Instance
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_writer import LogWriter, apply_cancel
from store.errors import StoreError
from store.records import Lease

log = structlog.stdlib.get_logger("turnwire.lease")

RENEWALS_PER_LEASE = 3
RENEW_TIMEOUT_S = 3.0


class Leases:
    """The leases of the turns that this instance runs."""

    def __init__(self, instance: Instance, writer: LogWriter) -> None:
        self._instance = instance
        self._registry = instance.registry
        self._store = instance.store
        self._writer = writer
        self._lease_s = instance.settings.lease_s
        self._time = asyncio.get_running_loop().time
        self._confirmed_at = self._time()
        self._renew_lock = asyncio.Lock()

    @property
    def is_stale(self) -> bool:
        """Whether this process was frozen or suspended for a whole lease, so that others may own its turns.

        False while the store can't be reached: the owner can't be determined then, and the turns continue.
        """
        return self._time() - self._confirmed_at > self._lease_s and self._writer.is_reachable()

    async def confirm(self) -> None:
        """Renew the leases if they are stale, before anything more is published.

        Return without an error if the store can't be reached; the turns continue then.
        """
        async with self._renew_lock:
            if self.is_stale:
                await self._renew()

    async def run(self) -> None:
        """Renew the leases `RENEWALS_PER_LEASE` times per lease, until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS_PER_LEASE)
            async with self._renew_lock:
                await self._renew()

    async def _renew(self) -> None:
        """Renew the leases, or report that the store can't be reached.

        The call is limited to `RENEW_TIMEOUT_S`, so a caller waits no longer than that.
        """
        began = asyncio.get_running_loop().time()
        live_turns = [live_turn for live_turn in self._registry.live() if live_turn.is_owned and live_turn.message]
        turns = [(live_turn.user, live_turn.turn, live_turn.epoch) for live_turn in live_turns]
        leases: list[Lease] = []
        try:
            async with asyncio.timeout(RENEW_TIMEOUT_S):
                if turns:
                    leases = await self._store.renew(self._instance.id, turns, self._instance.lease_ms)
                elif not self._writer.is_reachable():
                    await self._store.ping()
            self._writer.report_reachable(reachable=True)
        except (StoreError, TimeoutError) as error:
            log.warning("leases can't be renewed", error=str(error))
            self._writer.report_reachable(reachable=False, since=began)
        for live_turn, (_, _, epoch), lease in zip(live_turns, turns, leases, strict=False):
            # Skip a turn that was lost, or taken over again, during the call.
            if live_turn.is_owned and live_turn.epoch == epoch:
                self._apply_reply(live_turn, lease)
        # A reply describes the state when the call began. After a failure, `is_stale` is False until a call succeeds.
        self._confirmed_at = began

    def _apply_reply(self, live_turn: LiveTurn, lease: Lease) -> None:
        if lease.missing:
            self._writer.schedule_restore(live_turn)
        elif lease.held:
            apply_cancel(live_turn, lease.cancel)
        elif live_turn.is_abortable:
            log.warning("turn lost to another instance", turn=live_turn.turn)
            live_turn.signal.abort(Abort("lost"))
