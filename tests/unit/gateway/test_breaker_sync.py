"""A circuit that opens on one instance opens on the others, through ephemeral values in the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.breaker_sync import BreakerSync
from providers.retry.breaker import Breakers
from tests.in_process import ControlledStore, SharedStore, eventually, open_shared_store


@pytest.fixture(autouse=True)
def fast_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.breaker_sync.REFRESH_S", 0.02)


@asynccontextmanager
async def run_sync(store: ControlledStore, open_s: float = 30) -> AsyncIterator[Breakers]:
    """Run one instance's breaker sync and yield its breakers. One failure opens a circuit."""
    breakers = Breakers(1, open_s)
    breakers.get("openai:x")
    task = asyncio.get_running_loop().create_task(BreakerSync(store.as_store, breakers).run())
    try:
        yield breakers
    finally:
        task.cancel()
        await asyncio.wait([task])


def fail(breakers: Breakers) -> None:
    breaker = breakers.get("openai:x")
    breaker.record_failure("upstream_timeout", probe=breaker.acquire())


@asynccontextmanager
async def two_instances(open_s: float = 30) -> AsyncIterator[tuple[SharedStore, Breakers, Breakers]]:
    """Run two instances. Yield the first one's store and both instances' breakers."""
    async with open_shared_store() as view:
        here, there = view(), view()
        async with run_sync(here, open_s) as one, run_sync(there, open_s) as other:
            yield here, one, other


async def test_an_opened_circuit_opens_on_the_other_instance() -> None:
    """The other instance opens the circuit with the same cause and for the same time."""
    async with two_instances() as (_, one, other):
        fail(one)
        await eventually(lambda: other.get("openai:x").opening)
        opened = other.get("openai:x").opening
        assert opened == one.get("openai:x").opening
        assert 29 < other.get("openai:x").wait_s <= 30


async def test_an_opened_circuit_is_published_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance publishes a new opening at once, and doesn't wait for its next periodic read."""
    async with open_shared_store() as view:
        monkeypatch.setattr("gateway.breaker_sync.REFRESH_S", 60)
        store = view()
        async with run_sync(store) as one:
            await eventually(lambda: "get_ephemeral" in store.calls)
            fail(one)
            await eventually(lambda: "put_ephemeral" in store.calls)


async def test_every_instance_probes_for_itself() -> None:
    """After the ephemeral value expires, the circuit is half open on each instance, and each probes for itself."""
    async with two_instances(open_s=0.2) as (_, one, other):
        fail(one)
        await eventually(lambda: other.get("openai:x").opening)
        for breakers in (one, other):
            await eventually(lambda: breakers.get("openai:x").wait_s == 0)  # noqa: B023
            assert breakers.get("openai:x").acquire()


async def test_breakers_work_while_the_store_is_unavailable() -> None:
    """While the store is unavailable, an instance's own breakers work. Openings from that time are published
    afterwards."""
    async with two_instances() as (here, one, other):
        with here.failing("put_ephemeral"):
            fail(one)
            await eventually(lambda: here.calls.count("put_ephemeral") > 2)
            assert one.get("openai:x").wait_s > 29
            assert other.get("openai:x").opening is None
        await eventually(lambda: other.get("openai:x").opening)
        await eventually(lambda: not one.unshared)


async def test_an_embedded_store_is_not_used_for_sharing() -> None:
    """The SQLite store isn't called, because only one instance uses it."""
    async with open_shared_store() as view:
        alone = ControlledStore(view().real)
        await BreakerSync(alone.as_store, Breakers(1, 1)).run()
        assert alone.calls == []
