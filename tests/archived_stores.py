"""Stores with an archive for tests, and the ways in which Redis forgets what only the archive keeps."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from gateway.store_wrapper import Call, wrap_calls
from store.api import Store
from store.archive.api import Archive
from store.archive.archived_store import ArchivedStore
from store.redis.store import RedisStore
from tests.redis_process import RedisProcess

_HISTORY = re.compile(
    r"turnwire:\{@[^}]*\}:(conversation:.*|messages:.*|message:.*|conversations|sizes|stored)", re.DOTALL
)
_NOT_HISTORY = frozenset(
    """append renew release expired_leases claim request_cancel run_pubsub subscribe unsubscribe publish renew_presence
    has_other_presence open close ping log running put_ephemeral pop_ephemeral get_ephemeral count_requests acquire_permits
    renew_permits release_permits""".split()
)


def forget_history(server: RedisProcess) -> None:
    """Delete the conversations and messages of all users in Redis, as if they had expired. Turns stay."""
    keys = [key for key in server.execute("KEYS", "turnwire:*") if _HISTORY.fullmatch(key.decode("utf-8", "replace"))]
    if keys:
        server.execute("DEL", *keys)


@asynccontextmanager
async def archived_store(
    url: str, archive: Archive, *, sync: bool = False, **options: Any
) -> AsyncIterator[ArchivedStore]:
    """Open a store on a Redis with an archive. On exit, close it."""
    store = ArchivedStore(RedisStore(url, archived=True, **options), archive, sync=sync)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


def always_cold(store: ArchivedStore, server: RedisProcess) -> Store:
    """Return a wrapper of `store` for which Redis forgets all history before each call that runs alone.

    Before the calls of a turn it forgets it only sometimes, so that tests with many turns aren't slow.
    """
    running = 0
    turn_calls = itertools.count()

    def wrap(name: str, call: Call) -> Call:
        if name in _NOT_HISTORY:
            return call

        async def cold(*args: Any, **fields: Any) -> Any:
            nonlocal running
            is_often = name in {"accept", "end"} and next(turn_calls) % 3
            if not running and not is_often:
                running += 1
                try:
                    await store._drain.settle_all()
                    if running == 1:  # no other call has begun meanwhile
                        forget_history(server)
                finally:
                    running -= 1
            running += 1
            try:
                return await call(*args, **fields)
            finally:
                running -= 1

        return cold

    return wrap_calls(cast("Store", store), wrap)
