"""Permits for what may run at once."""

from __future__ import annotations

import asyncio

from store.api import Store
from tests.conformance.base import Conformance
from tests.stored import LONG_MS, SHORT_MS, can_acquire, eventually


class Permits(Conformance):
    """Permits for what may run at once."""

    async def test_a_key_has_a_limit_of_permits(self, store: Store) -> None:
        """Each key has its own limit; a holder that acquires again keeps its one permit, and can release it."""
        assert await store.acquire_permits("a", [("u", 2), ("v", 1)], LONG_MS) == [True, True]
        assert await store.acquire_permits("b", [("u", 2), ("v", 1)], LONG_MS) == [True, False]
        assert await store.acquire_permits("c", [("u", 2)], LONG_MS) == [False]
        assert await store.acquire_permits("a", [("u", 2)], LONG_MS) == [True]
        await store.release_permits([("u", "a"), ("u", "unknown"), ("w", "a")])
        assert await store.acquire_permits("c", [("u", 2), ("v", 1)], LONG_MS) == [True, False]
        await store.release_permits([])
        await store.renew_permits([], LONG_MS)

    async def test_concurrent_acquisitions_stay_within_the_limit(self, store: Store, other: Store) -> None:
        """Concurrent acquisitions on two instances never exceed the limit."""
        acquisitions = (
            one.acquire_permits(f"{n}{one is store}", [("u", 3)], LONG_MS) for n in range(10) for one in (store, other)
        )
        assert sum(acquired for (acquired,) in await asyncio.gather(*acquisitions)) == 3

    async def test_a_permit_expires_unless_it_is_renewed(self, store: Store) -> None:
        """A renewed permit is held again even if it had expired, and even beyond the limit."""
        assert await store.acquire_permits("a", [("u", 1), ("v", 1)], SHORT_MS) == [True, True]
        assert await store.acquire_permits("b", [("u", 1)], SHORT_MS) == [False]
        await store.renew_permits([("u", "a")], LONG_MS)
        await eventually(lambda: can_acquire(store, "b", "v"))
        assert await store.acquire_permits("b", [("u", 1)], LONG_MS) == [False]
        await store.renew_permits([("v", "a")], LONG_MS)
        await store.release_permits([("v", "b")])
        assert await store.acquire_permits("c", [("v", 1)], LONG_MS) == [False]
