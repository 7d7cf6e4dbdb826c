"""Circuits that open on one instance are open on the others, through notes in the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.breaker_sync import BreakerSync
from providers.retry.breaker import Breakers
from tests.in_process import SharedStore, SteeredStore, eventually, open_shared_store


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.breaker_sync.REFRESH_S", 0.02)


@asynccontextmanager
async def keeping(store: SteeredStore, open_s: float = 30) -> AsyncIterator[Breakers]:
    """One instance's breakers, kept like the others'; one circuit that fails once is open."""
    breakers = Breakers(1, open_s)
    breakers.get("openai:x")
    chore = asyncio.get_running_loop().create_task(BreakerSync(store.as_store, breakers).run())
    try:
        yield breakers
    finally:
        chore.cancel()
        await asyncio.wait([chore])


def fail(breakers: Breakers) -> None:
    breaker = breakers.get("openai:x")
    breaker.record_failure("upstream_timeout", probe=breaker.acquire())


@asynccontextmanager
async def two(open_s: float = 30) -> AsyncIterator[tuple[SharedStore, Breakers, Breakers]]:
    """Two instances, and the store as the first has it."""
    async with open_shared_store() as view:
        here, there = view(), view()
        async with keeping(here, open_s) as one, keeping(there, open_s) as other:
            yield here, one, other


async def test_what_opens_here_is_open_there() -> None:
    """With what was wrong, and for as long."""
    async with two() as (_, one, other):
        fail(one)
        await eventually(lambda: other.get("openai:x").opening)
        opened = other.get("openai:x").opening
        assert opened == one.get("openai:x").opening
        assert 29 < other.get("openai:x").wait_s <= 30


async def test_it_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others look now and then; who has something to tell doesn't wait for that."""
    async with open_shared_store() as view:
        monkeypatch.setattr("gateway.breaker_sync.REFRESH_S", 60)
        store = view()
        async with keeping(store) as one:
            await eventually(lambda: "get_ephemeral" in store.calls)
            fail(one)
            await eventually(lambda: "put_ephemeral" in store.calls)


async def test_every_instance_probes_for_itself() -> None:
    """When the note is gone it is half open everywhere; what one learns by its probe holds for that one."""
    async with two(open_s=0.2) as (_, one, other):
        fail(one)
        await eventually(lambda: other.get("openai:x").opening)
        await eventually(lambda: other.get("openai:x").wait_s == 0)
        assert other.get("openai:x").acquire()


async def test_a_store_that_is_away_costs_nothing() -> None:
    """Each instance has its own eyes; what opened meanwhile is told when the store is back."""
    async with two() as (here, one, other):
        with here.failing("put_ephemeral"):
            fail(one)
            await eventually(lambda: here.calls.count("put_ephemeral") > 2)
            assert one.get("openai:x").wait_s > 29
            assert other.get("openai:x").opening is None
        await eventually(lambda: other.get("openai:x").opening)
        await eventually(lambda: not one.unshared)


async def test_alone_there_is_nothing_to_share() -> None:
    """The embedded store isn't asked."""
    async with open_shared_store() as view:
        alone = SteeredStore(view().real)
        await BreakerSync(alone.as_store, Breakers(1, 1)).run()
        assert alone.calls == []
