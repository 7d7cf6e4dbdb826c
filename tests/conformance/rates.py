"""Rates of requests."""

from __future__ import annotations

from store.api import Store
from tests.conformance.base import Conformance


class RateLimits(Conformance):
    """Rates of requests."""

    async def test_requests_are_counted_across_instances(self, store: Store, other: Store) -> None:
        """Each user's requests on all instances are counted together; a request whose interval has passed doesn't count."""
        assert await store.count_requests([], 1000) == []
        minute_us = 60_000_000
        first = await store.count_requests([("ann", 2, 0), ("bob", 1, 0)], minute_us)
        second = await other.count_requests([("bob", 3, 0), ("ann", 1, minute_us), ("cid", 4, minute_us)], minute_us)
        for ahead_us, minutes in zip([*first, *second], (2, 1, 4, 3, 3), strict=True):
            assert (minutes - 0.5) * minute_us < ahead_us <= minutes * minute_us
        assert await store.count_requests([("dan", 1, minute_us)], 1000) < [0]
        assert 0 < (await other.count_requests([("dan", 1, 0)], minute_us))[0] <= minute_us
