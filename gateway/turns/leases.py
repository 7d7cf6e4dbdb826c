"""Whose turns are whose: renews the leases of this process's turns, and takes those that lapsed (law 9)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from gateway.limits.fair_queue import TooManyWaiting
from gateway.turns.abort import Abort
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_writer import LogWriter, obey
from gateway.turns.registry import TurnRegistry
from store.api import Store
from store.records import Lease, NotFound, StoreError

log = structlog.stdlib.get_logger("turnwire.lease")

RENEWALS_PER_LEASE = 3
REAP_S = 2.0
RENEW_TIMEOUT_S = 3.0


class Leases:
    """The leases of one instance. `take_over` is called for a turn whose lease has lapsed."""

    def __init__(
        self,
        registry: TurnRegistry,
        store: Store,
        writer: LogWriter,
        instance: str,
        lease_s: float,
        take_over: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._registry = registry
        self._store = store
        self._writer = writer
        self._instance = instance
        self._lease_s = lease_s
        self._take_over = take_over
        self._time = asyncio.get_running_loop().time
        self._checked_at = self._time()
        self._renewing = asyncio.Lock()

    @property
    def lease_ms(self) -> int:
        """How long a lease lasts."""
        return int(self._lease_s * 1000)

    @property
    def stale(self) -> bool:
        """Whether this process stood still for a whole lease: others may have its turns (frozen, suspended).

        While the store can't be reached nobody can say, and the stream goes on.
        """
        return self._writer.reachable and self._time() - self._checked_at > self._lease_s

    async def confirm(self) -> None:
        """Renew before anything more is said; while the store can't be reached, go on."""
        async with self._renewing:
            if self.stale:
                await self._renew()

    async def keep(self) -> None:
        """Renew until cancelled."""
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS_PER_LEASE)
            async with self._renewing:
                await self._renew()

    async def _renew(self) -> None:
        """Renew, or say that the store can't be reached: whoever waits for this waits no longer than its time limit."""
        began = asyncio.get_running_loop().time()
        streams = [stream for stream in self._registry.live() if stream.owned and stream.message]
        turns = [(stream.user, stream.turn, stream.epoch) for stream in streams]
        leases: list[Lease] = []
        try:
            async with asyncio.timeout(RENEW_TIMEOUT_S):
                if turns:
                    leases = await self._store.renew(self._instance, turns, self.lease_ms)
                elif not self._writer.reachable:
                    await self._store.ping()
            self._writer.say(reachable=True)
        except (StoreError, TimeoutError) as error:
            log.warning("can't renew leases", error=str(error))
            self._writer.say(reachable=False, since=began)
        for stream, (_, _, epoch), lease in zip(streams, turns, leases, strict=False):
            if stream.owned and stream.epoch == epoch:  # else it was lost, or taken again, meanwhile
                self._settle(stream, lease)
        self._checked_at = began  # an answer says how it was when the question was asked

    def _settle(self, stream: LiveTurn, lease: Lease) -> None:
        if lease.missing:
            self._writer.on_missing(stream)
        elif lease.held:
            obey(stream, lease.cancel)
        elif stream.running:
            log.warning("lost a turn to another instance", turn=stream.turn)
            stream.signal.abort(Abort("lost"))

    async def reap(self) -> None:
        """Take over what nobody runs, until cancelled; not while our own calls fail, for then we may be the one cut off."""
        loop = asyncio.get_running_loop()
        # Often enough to notice every outage in which a lease may lapse; it may have ended just before the next look.
        interval_s = min(REAP_S, self._lease_s / RENEWALS_PER_LEASE)
        sure_after_s = self._lease_s + 1.25 * interval_s
        while True:
            try:
                # Asked also while nothing may be taken: an outage counts until it is over, for then owners renew first.
                lapsed = await self._store.takeable()
                if loop.time() - self._writer.failed_at > sure_after_s:
                    for user, turn in lapsed:
                        known = self._registry.get(user, turn)
                        if known is None or not known.owned:
                            await self._take(user, turn)
            except StoreError as error:
                log.info("can't look for lapsed leases", error=str(error))
                self._writer.say(reachable=False)
            await asyncio.sleep(interval_s * random.uniform(0.75, 1.25))

    async def _take(self, user: str, turn: str) -> None:
        """One turn that can't be taken, whatever is wrong with it, keeps nobody from taking the others."""
        try:
            await self._take_over(user, turn)
        except NotFound:
            log.info("a turn that was to be taken over is gone", turn=turn)
        except TooManyWaiting:
            log.info("a turn can't be taken over yet, its user's requests are too many", turn=turn)
        except StoreError:
            raise
        except Exception:
            log.exception("can't take a turn over", turn=turn)
