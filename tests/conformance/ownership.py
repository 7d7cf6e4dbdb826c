"""Leases, claims and takeovers."""

from __future__ import annotations

import asyncio

from store.api import Store
from tests.conformance.base import Conformance
from tests.stored import LONG_MS, NOW, SHORT_MS, ending, eventually, missing, running, stateless_turn


class Ownership(Conformance):
    """Leases, claims and takeovers."""

    async def test_an_owner_renews_its_leases(self, store: Store) -> None:
        """Law 9: one call renews many leases; the results are in order, each with its cancel request. A wrong owner or
        epoch is refused."""
        turn = await running(store)
        await store.accept(stateless_turn("t2", "bob"))
        await store.request_cancel("bob", "t2", b"stop")
        held, cancelled, wrong_epoch = await store.renew(
            "one", [("ann", "t1", turn.epoch), ("bob", "t2", turn.epoch), ("ann", "t1", turn.epoch - 1)], LONG_MS
        )
        assert (held.held, held.cancel, held.missing) == (True, None, False)
        assert (cancelled.held, cancelled.cancel) == (True, b"stop")
        assert (wrong_epoch.held, wrong_epoch.missing) == (False, False)
        (wrong_owner,) = await store.renew("two", [("ann", "t1", turn.epoch)], LONG_MS)
        assert not wrong_owner.held
        assert await store.renew("one", [], LONG_MS) == []
        await store.end(ending(turn))
        (ended,) = await store.renew("one", [("ann", "t1", turn.epoch)], LONG_MS)
        assert not ended.held

    async def test_renewing_a_lost_turn_reports_it_missing(self, store: Store) -> None:
        """A store that lost its data refuses no renewal; the result says that the turn has to be restored."""
        (lost,) = await store.renew("one", [("ann", "lost", NOW)], LONG_MS)
        assert (lost.held, lost.missing) == (True, True)

    async def test_a_held_turn_can_not_be_claimed(self, store: Store) -> None:
        """Law 9: while the lease is valid and after the turn has ended, no other instance becomes the owner."""
        turn = await running(store)
        assert await store.claim("ann", "t1", "two", NOW + 1, LONG_MS) is None
        assert await store.expired_leases() == []
        (lease,) = await store.renew("one", [("ann", "t1", turn.epoch)], LONG_MS)
        assert lease.held
        await store.end(ending(turn))
        assert await store.claim("ann", "t1", "two", NOW + 1, LONG_MS, force=True) is None
        assert await missing(store.claim("ann", "unknown", "two", NOW, LONG_MS)) == "turn"

    async def test_an_expired_lease_is_found_and_claimed(self, store: Store) -> None:
        """Law 9: the new owner gets the whole request and a higher epoch; the former owner's renewals are refused."""
        turn = await running(store, stateless_turn(lease_ms=SHORT_MS))
        assert await eventually(store.expired_leases) == [("ann", "t1")]
        claimed = await store.claim("ann", "t1", "two", 1, LONG_MS)
        assert claimed is not None
        assert (claimed.owner, claimed.request, claimed.seq) == ("two", b"{}", 0)
        assert claimed.epoch > turn.epoch
        assert await store.turn("ann", "t1", with_request=True) == claimed
        assert await store.expired_leases() == []
        (lease,) = await store.renew("one", [("ann", "t1", turn.epoch)], LONG_MS)
        assert not lease.held
        assert await store.claim("ann", "t1", "three", 1, LONG_MS) is None

    async def test_an_epoch_only_grows(self, store: Store) -> None:
        """Law 9: a claim's epoch is at least the proposed one, and always higher than the previous one."""
        turn = await running(store)
        high = await store.claim("ann", "t1", "two", turn.epoch + 5_000, LONG_MS, force=True)
        low = await store.claim("ann", "t1", "three", turn.epoch, LONG_MS, force=True)
        assert high is not None
        assert low is not None
        assert high.epoch >= turn.epoch + 5_000
        assert low.epoch > high.epoch

    async def test_an_expired_unclaimed_lease_can_be_renewed(self, store: Store) -> None:
        """Law 9: an owner whose lease expired keeps its turn if no other instance claimed it."""
        turn = await running(store, stateless_turn(lease_ms=1))
        await eventually(store.expired_leases)
        (lease,) = await store.renew("one", [("ann", "t1", turn.epoch)], LONG_MS)
        assert lease.held
        assert await store.expired_leases() == []
        assert await store.claim("ann", "t1", "two", NOW, LONG_MS) is None

    async def test_a_released_turn_can_be_claimed_at_once(self, store: Store) -> None:
        """An owner that stops releases its turns. A release with another epoch, user or id changes nothing."""
        turn = await running(store)
        await store.release("ann", "t1", turn.epoch - 1)
        await store.release("ann", "unknown", turn.epoch)
        await store.release("bob", "t1", turn.epoch)
        assert await store.expired_leases() == []
        await store.release("ann", "t1", turn.epoch)
        assert await store.expired_leases() == [("ann", "t1")]
        claimed = await store.claim("ann", "t1", "two", NOW, LONG_MS)
        assert claimed is not None
        await store.end(ending(claimed))
        await store.release("ann", "t1", claimed.epoch)
        assert await store.expired_leases() == []

    async def test_of_concurrent_claims_one_succeeds(self, other: Store, store: Store) -> None:
        """Law 9: a claim is one atomic step."""
        turn = await running(store)
        await store.release("ann", "t1", turn.epoch)
        claims = [(store, other)[n % 2].claim("ann", "t1", f"owner{n}", NOW + n, LONG_MS) for n in range(10)]
        assert len([one for one in await asyncio.gather(*claims) if one is not None]) == 1
