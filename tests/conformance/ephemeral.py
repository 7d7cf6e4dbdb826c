"""Values that expire."""

from __future__ import annotations

import asyncio

from store.api import Store
from store.records import DAY_MS
from tests.conformance.base import Conformance
from tests.stored import LONG_MS, NOW, SHORT_MS, are_expired, eventually


class EphemeralValues(Conformance):
    """Values that expire."""

    async def test_an_ephemeral_value_expires(self, store: Store) -> None:
        """`put_ephemeral` replaces an earlier value and returns it; the value expires."""
        assert await store.put_ephemeral("n1", b"\x00one", LONG_MS) is None
        assert await store.put_ephemeral("n1", b"two", LONG_MS) == b"\x00one"
        assert await store.put_ephemeral("n2", b"", SHORT_MS) is None
        assert await store.get_ephemeral(["n2", "unknown", "n1"]) == [b"", None, b"two"]
        assert await store.get_ephemeral([]) == []
        before, after = await store.clock_ms(), await store.clock_ms()
        assert NOW - 10 * 365 * DAY_MS < before <= after
        await eventually(lambda: are_expired(store, "n2"))
        assert await store.put_ephemeral("n2", b"again", LONG_MS) is None

    async def test_of_concurrent_pops_one_gets_the_value(self, store: Store) -> None:
        """Of many concurrent callers, exactly one gets the value."""
        await store.put_ephemeral("ticket", b"ann", LONG_MS)
        popped = await asyncio.gather(*(store.pop_ephemeral("ticket") for _ in range(8)))
        assert sorted(popped, key=bool) == [None] * 7 + [b"ann"]
        assert await store.get_ephemeral(["ticket"]) == [None]
