"""Recover starts that the store didn't answer.

The store may have accepted the turn nevertheless, and then no task runs it. The client was told to try again. The turn
is run as soon as the store reports that it has the turn, rather than only after its lease has expired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from store.api import Store
from store.records import NotFound, StoreError

log = structlog.stdlib.get_logger("turnwire.turn")

LOOK_FIRST_S = 0.25


async def recover_unconfirmed_start(
    store: Store, user: str, turn: str, instance: str, lease_s: float, take: Callable[[], Awaitable[None]]
) -> None:
    """Call `take` once the store reports that it has the turn as this instance's, without an ending.

    Stop after `lease_s` seconds: the reaper then finds the expired lease.
    """
    time = asyncio.get_running_loop().time
    deadline = time() + lease_s
    delay_s = LOOK_FIRST_S
    while time() < deadline:
        await asyncio.sleep(delay_s)
        delay_s *= 2
        try:
            record = await store.turn(user, turn)
            if record.owner == instance and record.ending is None:
                log.warning("running a turn that was accepted without a reply", turn=turn)
                await take()
            return
        except NotFound:
            return
        except StoreError as error:
            log.info("unconfirmed start can't be checked", turn=turn, error=str(error))
