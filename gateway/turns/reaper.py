"""Take over the turns whose lease has expired, because their instance is dead or cut off (law 9)."""

from __future__ import annotations

import asyncio
import random

import structlog

from gateway.limits.fair_queue import QueueFull
from gateway.turns.instance import Instance
from gateway.turns.leases import RENEWALS_PER_LEASE
from gateway.turns.log_writer import LogWriter
from gateway.turns.takeover import Takeover
from store.api import OwnershipStore
from store.errors import NotFound, StoreError

log = structlog.stdlib.get_logger("turnwire.lease")

REAP_S = 2.0


class Reaper:
    """A background task that looks for expired leases, and takes over their turns if this instance isn't cut off."""

    def __init__(self, instance: Instance, writer: LogWriter, takeover: Takeover) -> None:
        self._store: OwnershipStore = instance.store
        self._lease_s = instance.settings.lease_s
        self._writer = writer
        self._takeover = takeover

    async def run(self) -> None:
        """Take over turns whose lease has expired, until cancelled.

        While the store calls of this instance fail, and for a little longer than a lease after that, it takes over
        none, because this instance may be the one that is cut off.
        """
        loop = asyncio.get_running_loop()
        # The interval is short enough to notice every outage in which a lease can expire. An outage may have ended
        # just before the next check, so an interval is added to the lease.
        interval_s = min(REAP_S, self._lease_s / RENEWALS_PER_LEASE)
        sure_after_s = self._lease_s + 1.25 * interval_s
        while True:
            try:
                # Ask even if no turn may be taken over now. A failure here extends the wait, so that owners can renew
                # their leases first when the outage is over.
                expired = await self._store.expired_leases()
                if loop.time() - self._writer.last_failure_at > sure_after_s:
                    for user, turn in expired:
                        await self._take_over(user, turn)
            except StoreError as error:
                log.info("expired leases can't be read", error=str(error))
                self._writer.report_reachable(reachable=False)
            await asyncio.sleep(interval_s * random.uniform(0.75, 1.25))

    async def _take_over(self, user: str, turn: str) -> None:
        """Take over one turn. Raises `StoreError` if the store fails.

        A failure that concerns only this turn is logged, so that the other turns are still taken over.
        """
        try:
            await self._takeover.take_over(user, turn)
        except NotFound:
            log.info("turn to take over no longer exists", turn=turn)
        except QueueFull:
            log.info("takeover postponed: too many store calls of the user wait", turn=turn)
        except StoreError:
            raise
        except Exception:
            log.exception("takeover failed", turn=turn)
