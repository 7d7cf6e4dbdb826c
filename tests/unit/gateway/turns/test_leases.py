"""Tests of leases: they are renewed in time and after a suspension, a turn is lost when another instance has taken it
over, and only an instance that can reach the store takes turns over."""

from __future__ import annotations

import asyncio

import pytest

from gateway.turns.abort import Abort
from gateway.turns.reaper import REAP_S
from tests.demo import expected
from tests.in_process import SLOW, Instance, eventually, open_client, open_instance, open_pair, open_shared_store
from tests.in_time import checks_time_limit, within


async def test_a_long_turn_keeps_its_owner(quick: None) -> None:
    """A turn that runs for longer than two leases keeps its owner, because its lease is renewed in time.

    The lease in this test is longer than any delay to expect on a loaded machine.
    """
    async with open_pair(lease_s=1.2) as (one, two), open_client(one.services) as here:
        await here.start("t", demo=SLOW)
        await here.start("u", demo=SLOW)
        renewals = one.store.calls.count("renew")
        await eventually(lambda: one.store.calls.count("renew") >= renewals + 7)
        assert one.stream("t").is_abortable
        assert "claim" not in two.store.calls


async def test_an_expired_lease_without_a_takeover_is_renewed(quick: None) -> None:
    """If the only instance can't reach the store for longer than the lease, its turn continues, and the turn's log is
    complete afterwards."""
    demo = {"rate": 200, "tokens": 200}
    async with open_shared_store() as open_view:
        async with open_instance(open_view(), lease_s=0.3) as one, open_client(one.services) as here:
            await here.start("t", demo=demo)
            with one.store.failing():
                await here.until(lambda: here.turns["t"].seq > 100)
                await eventually(lambda: one.durabilities)
            assert (await here.ending("t"))["type"] == "turn.completed"
            assert here.turns["t"].text() == expected("Hello", demo)
            assert [frame.state for frame in one.durabilities] == ["degraded", "ok"]
            entries = await one.store.log("ann", "t", 0)
            assert entries[-1].last == here.turns["t"].seq


async def test_an_owner_cut_off_from_the_store_loses_its_turns(quick: None) -> None:
    """Law 9: another instance takes the turn over. When the former owner reaches the store again, it stops the turn, and
    its clients get the complete answer from the new owner."""
    demo = {"rate": 100, "tokens": 200}
    async with open_pair() as (one, two), open_client(one.services) as here, open_client(two.services) as there:
        await here.start("t", demo=demo)
        await here.until(lambda: here.turns["t"].seq > 10)
        with one.store.failing(), one.shared.disconnected():
            await eventually(lambda: two.services.registry.get("ann", "t") is not None and two.stream("t").is_owned)
            await there.request("turn.attach", turn="t")
            await here.until(lambda: here.turns["t"].seq > 40)
        for client in (here, there):
            await client.ending("t")
            assert client.turns["t"].text() == expected("Hello", demo)
        assert not one.stream("t").is_owned


async def test_a_suspended_process_renews_before_it_publishes(quick: None) -> None:
    """Law 9: a process that was suspended for longer than a lease renews its leases before it publishes more events. It
    publishes no more events of a turn that was taken over."""
    async with open_pair(lease_s=30) as (one, two), open_client(one.services) as here:
        await here.start("t", demo=SLOW)
        leases = one.runtime.leases
        assert not leases.is_stale
        with one.store.blocked("append") as flushing:
            await flushing.wait()
            await two.services.cancellation._takeover.take_over("ann", "t", force=True)
            leases._confirmed_at -= 60
            assert leases.is_stale
            await here.until(lambda: one.stream("t").signal.is_aborted)
            assert not leases.is_stale
        await here.until(lambda: not one.stream("t").is_owned)
        await two.services.cancellation.cancel("ann", "t", Abort("client"))
        await here.ending("t")
        assert here.turns["t"].text() == _text(two)


async def test_a_suspended_process_keeps_turns_that_were_not_taken_over(quick: None) -> None:
    """If no instance took the turn over, it continues after one renewal. It also continues if the store is
    unavailable."""
    async with open_pair(lease_s=30) as (one, _), open_client(one.services) as here:
        await here.start("t", demo=SLOW)
        one.runtime.leases._confirmed_at -= 60
        await eventually(lambda: one.store.calls.count("renew") == 1)
        with one.store.failing():
            one.runtime.leases._confirmed_at -= 60
            seq = here.turns["t"].seq
            await here.until(lambda: here.turns["t"].seq > seq + 5)
        assert one.stream("t").is_abortable


async def test_a_hanging_renewal_delays_a_turn_only_briefly(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the timeout of the renewal, the turn continues with durability `degraded`."""
    monkeypatch.setattr("gateway.turns.leases.RENEW_TIMEOUT_S", 0.05)
    async with open_pair(lease_s=30) as (one, _), open_client(one.services) as here:
        await here.start("t", demo=SLOW)
        with one.store.blocked("renew"), one.store.blocked("append"):
            one.runtime.leases._confirmed_at -= 60
            seq = here.turns["t"].seq
            await here.until(lambda: here.turns["t"].seq > seq + 5)
            assert [frame.state for frame in one.durabilities] == ["degraded"]
        assert one.stream("t").is_abortable


async def test_an_instance_takes_over_no_turns_after_a_failed_call(quick: None) -> None:
    """After a failed store call an instance takes over no turns for the length of a lease, because it may be the one that
    is cut off."""
    async with open_pair(lease_s=0.5) as (one, two):
        async with open_client(one.services) as here:
            await here.start("t", demo=SLOW)
            with two.store.failing("expired_leases", 1):
                await eventually(lambda: two.durabilities)
            failed_at = two.runtime.writer.last_failure_at
            await one.kill()
        await eventually(lambda: "claim" in two.store.calls)
        assert asyncio.get_running_loop().time() - failed_at > 0.5


async def test_the_last_failure_of_an_outage_is_recorded(quick: None) -> None:
    """Law 9: the time in which an instance takes over no turns begins with the last failure of an outage, not the
    first."""
    async with open_pair(lease_s=30) as (_, two):
        with two.store.failing("expired_leases"):
            for _ in range(3):
                failed_at = two.runtime.writer.last_failure_at
                await eventually(lambda: two.runtime.writer.last_failure_at > failed_at)  # noqa: B023


async def test_an_expired_lease_of_a_missing_turn_is_ignored(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expired lease of a turn that no longer exists isn't a failure of the store."""

    async def expired_leases() -> list[tuple[str, str]]:
        return [("ann", "deleted")]

    async with open_pair() as (one, _):
        monkeypatch.setattr(one.store.real, "expired_leases", expired_leases)
        await eventually(lambda: one.store.calls.count("claim") > 2)
        assert one.durabilities == []


def _text(instance: Instance) -> str:
    return "".join(getattr(event, "text", None) or "" for event in instance.stream("t").log.events)


@checks_time_limit
async def test_the_reaper_notices_every_outage_that_may_expire_a_lease() -> None:
    """An instance without turns notices a short outage too. So after the outage it takes over no turns until their
    owners have had time to renew."""
    time = asyncio.get_running_loop().time
    async with open_shared_store() as open_view, open_instance(open_view(), lease_s=0.3) as one:
        began = time()
        with within(0.75 * REAP_S), one.store.failing():
            await eventually(lambda: one.runtime.writer.last_failure_at > began)
