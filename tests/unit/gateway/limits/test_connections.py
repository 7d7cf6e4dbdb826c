"""Tests of the connection limits per user and address, in one instance and, through the store, in all instances."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from gateway.identity.principal import Principal
from gateway.limits.connections import ConnectionLimiter, ConnectionPermit, network_of
from gateway.protocol.errors import ApiError
from store.sqlite.store import SqliteStore
from tests.credentials import SECRET
from tests.in_process import ControlledStore, eventually, make_settings

ANN, BOB = Principal(user="ann"), Principal(user="bob")


def make_limiter(store: Any = None, *, reachable: bool = True, **fields: Any) -> ConnectionLimiter:
    on = {} if fields.get("auth") == "none" else {"auth": "jwt", "jwt_secret": SECRET}
    settings = make_settings(**{**on, **fields})
    return ConnectionLimiter(settings, store or SqliteStore(":memory:"), lambda: reachable)


@asynccontextmanager
async def running(limiter: ConnectionLimiter) -> AsyncIterator[ConnectionLimiter]:
    """Run the limiter's background task."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(limiter.run())
        yield limiter
        task.cancel()


async def test_connections_are_counted_by_user_and_by_address() -> None:
    """A connection over either limit is refused. A refused connection doesn't use up the other limit."""
    limiter = make_limiter(user_connections=2, address_connections=3)
    permits = [ConnectionPermit(limiter) for _ in range(2)]
    for permit in permits:
        await permit.acquire(ANN, "192.0.2.1")
    with pytest.raises(ApiError, match="2 connections of this user") as error:
        await ConnectionPermit(limiter).acquire(ANN, "192.0.2.1")
    assert error.value.body.retry_after_ms
    with ConnectionPermit(limiter) as third:
        await third.acquire(BOB, "192.0.2.1")
        with pytest.raises(ApiError, match="3 connections of this address"):
            await ConnectionPermit(limiter).acquire(None, "192.0.2.1")
        await ConnectionPermit(limiter).acquire(None, "192.0.2.2")
    permits[0].release()
    await ConnectionPermit(limiter).acquire(ANN, "192.0.2.1")


async def test_instances_share_their_counts() -> None:
    """Each instance counts the other's connections, including one whose user is known only later.

    A connection closed on one instance frees a permit on the other.
    """
    store = SqliteStore(":memory:")
    fields: dict[str, Any] = {"user_connections": 2, "address_connections": 3}
    async with running(make_limiter(store, **fields)) as one, running(make_limiter(store, **fields)) as two:
        first, second = ConnectionPermit(one), ConnectionPermit(two)
        await first.acquire(ANN, "192.0.2.1")
        await second.acquire(ANN, "192.0.2.1")
        with pytest.raises(ApiError, match="2 connections of this user"):
            await ConnectionPermit(two).acquire(ANN, "192.0.2.2")
        unnamed = ConnectionPermit(one)
        await unnamed.acquire(None, "192.0.2.1")
        with pytest.raises(ApiError, match="3 connections of this address"):
            await ConnectionPermit(two).acquire(None, "192.0.2.1")
        with pytest.raises(ApiError, match="2 connections of this user"):
            await unnamed.acquire(ANN)
        first.release()
        for _ in range(20):
            with suppress(ApiError):
                await ConnectionPermit(two).acquire(ANN, "192.0.2.1")
                break
            await asyncio.sleep(0.01)
        else:
            pytest.fail("the permit was never freed")
        assert set(one.holders) == set()


async def test_a_closed_connection_frees_its_permit_at_once() -> None:
    """The permit is free before the background task updates the store, so a page reload at the limit succeeds."""
    limiter = make_limiter(user_connections=1)
    for _ in range(5):
        permit = ConnectionPermit(limiter)
        await permit.acquire(ANN, "192.0.2.1")
        permit.release()


async def test_one_store_call_per_connection_and_none_without_limits() -> None:
    """One call acquires the permits of the user and the address.

    With auth off, or with limits of 0, the store isn't called.
    """
    store = ControlledStore(SqliteStore(":memory:"))
    await ConnectionPermit(make_limiter(store)).acquire(ANN, "192.0.2.1")
    assert store.calls == ["acquire_permits"]
    switched_off: tuple[dict[str, Any], ...] = ({"auth": "none"}, {"user_connections": 0, "address_connections": 0})
    for off in switched_off:
        limiter = make_limiter(store, **off)
        for _ in range(100):
            await ConnectionPermit(limiter).acquire(ANN, "192.0.2.1")
        await limiter.run()
        assert limiter.holders == {}
    assert store.calls == ["acquire_permits"]


@pytest.mark.parametrize("reachable", [True, False])
async def test_without_the_store_each_instance_counts_its_own_connections(reachable: bool) -> None:
    """No connection is refused because of a store failure, and a store known to be unreachable isn't called."""
    store = ControlledStore(SqliteStore(":memory:"))
    limiter = make_limiter(store, reachable=reachable, user_connections=1)
    with store.failing():
        permit = ConnectionPermit(limiter)
        await permit.acquire(ANN, "192.0.2.1")
        assert store.calls == ["acquire_permits"] * reachable
        with pytest.raises(ApiError, match="1 connections of this user"):
            await ConnectionPermit(limiter).acquire(ANN, "192.0.2.1")
        permit.release()
        assert limiter.holders == {}


async def test_permits_of_a_dead_instance_expire_after_a_lease() -> None:
    """A live instance's permits are kept, even after the store has lost them."""
    store = SqliteStore(":memory:")
    fields: dict[str, Any] = {"user_connections": 1, "lease_s": 1}
    async with running(make_limiter(store, **fields)) as living:
        await ConnectionPermit(living).acquire(ANN, "192.0.2.1")
        other = make_limiter(store, **fields)
        store._permits.clear()
        store._permits["user:bob"] = {"dead": asyncio.get_running_loop().time() + 1}
        await eventually(lambda: "user:ann" in store._permits)
        with pytest.raises(ApiError):
            await ConnectionPermit(other).acquire(BOB, "192.0.2.1")
        await asyncio.sleep(1.2)
        await ConnectionPermit(other).acquire(BOB, "192.0.2.1")
        with pytest.raises(ApiError):
            await ConnectionPermit(other).acquire(ANN, "192.0.2.1")


async def test_a_services_connections_are_not_limited() -> None:
    """A service has no limits, and its address isn't counted. Each user that it acts for has its own limit."""
    limiter = make_limiter(user_connections=1, address_connections=1)
    for number in range(10):
        await ConnectionPermit(limiter).acquire(Principal(user="service:backend"), "192.0.2.1")
        await ConnectionPermit(limiter).acquire(Principal(user=f"user{number}", service="service:backend"), "192.0.2.1")
    with pytest.raises(ApiError):
        await ConnectionPermit(limiter).acquire(Principal(user="user1", service="service:backend"), "192.0.2.1")


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("", ""),
        ("somewhere", "somewhere"),
    ],
)
def test_an_ipv6_network_is_one_address(host: str, network: str) -> None:
    """An IPv6 network of 2^64 addresses has the limit of a single address."""
    assert network_of(host) == network
