"""The end of retention: delete the conversations whose last change is long enough ago.

One instance at a time does this, the one that holds the permit. A conversation is deleted as if its user deleted it.
"""

from __future__ import annotations

import asyncio

import structlog

from gateway.protocol.ids import now_ms
from gateway.requests.deletion import delete_conversation
from gateway.requests.services import Services
from gateway.turns.abort import Abort
from store.errors import Damaged, NotFound, StoreError
from store.records import DAY_MS

log = structlog.stdlib.get_logger("turnwire.retention")

SWEEP_S = 60.0
PERMIT = "retention"
BATCH = 100
ENDED = Abort("limit", "The conversation was deleted, because its retention is over.")


class Retention:
    """The sweep of this instance. `days` is the retention of conversations that have none of their own; 0 means forever."""

    def __init__(self, services: Services, days: int) -> None:
        self._services = services
        self._days = days

    async def run(self) -> None:
        """Sweep every `SWEEP_S` seconds until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                count = await self.sweep()
            except StoreError as error:
                log.warning("expired conversations can't be deleted, retrying", retry_s=SWEEP_S, error=str(error))
            except Exception:
                log.exception("the deletion of expired conversations failed, retrying", retry_s=SWEEP_S)
            else:
                if count:
                    log.info("expired conversations deleted", conversations=count)

    async def sweep(self) -> int:
        """Delete all conversations whose retention is over, unless another instance does that now.

        Return how many were deleted. Raises `StoreError`.
        """
        count = 0
        while await self._may_sweep():
            # The earlier of the two clocks is used, this instance's or the store's, so that nothing is deleted early.
            time_ms = min(now_ms(), await self._services.store.clock_ms())
            expired = await self._services.store.expired_conversations(time_ms, self._days, BATCH)
            deleted = sum([await self._delete(user, conversation, time_ms) for user, conversation in expired])
            count += deleted
            if not deleted or len(expired) < BATCH:
                break
        return count

    async def _may_sweep(self) -> bool:
        """Take or renew the permit, which lasts until this instance's next sweep. Return whether it is held."""
        ttl_ms = int(SWEEP_S * 2.5 * 1000)
        (is_held,) = await self._services.store.acquire_permits(self._services.instance, [(PERMIT, 1)], ttl_ms)
        return is_held

    async def _delete(self, user: str, conversation: str, time_ms: int) -> bool:
        """Delete a conversation, unless it has been changed since it was found, or deleted."""
        try:
            record = await self._services.store.conversation(user, conversation)
            days = self._days if record.retention_days is None else record.retention_days
            if not days or record.updated_ms + days * DAY_MS > time_ms:
                return False
            await delete_conversation(self._services, user, conversation, ENDED)
        except NotFound:
            return False
        except Exception as error:
            if isinstance(error, StoreError) and not isinstance(error, Damaged):
                raise
            log.error(
                "an expired conversation can't be deleted, because its data is damaged",
                user=user,
                conversation=conversation,
                error=type(error).__name__,
            )
            return False
        return True
