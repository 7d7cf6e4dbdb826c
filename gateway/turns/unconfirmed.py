"""Starts that the store didn't answer: it may have accepted the turn all the same, and then nobody runs it.

Whoever asked was told to come again; the turn goes on as soon as the store can say that it has it, and not only when
its lease has lapsed.
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
    """Take the turn if the store has it as ours; after a lease those who look for lapsed ones do."""
    time = asyncio.get_running_loop().time
    deadline = time() + lease_s
    delay_s = LOOK_FIRST_S
    while time() < deadline:
        await asyncio.sleep(delay_s)
        delay_s *= 2
        try:
            record = await store.turn(user, turn)
            if record.owner == instance and record.ending is None:
                log.warning("a turn was accepted without an answer", turn=turn)
                await take()
            return
        except NotFound:
            return
        except StoreError as error:
            log.info("can't look for an unanswered start now", turn=turn, error=str(error))
