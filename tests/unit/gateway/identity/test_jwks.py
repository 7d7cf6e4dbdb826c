"""Tests of the keys of a JWKS URL: fetches, rotation, unknown key ids, and an unavailable URL."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.identity import jwks
from gateway.identity.jwks import Jwks
from gateway.protocol.errors import ApiError
from tests.credentials import jwks_server, private_key, public_jwk
from tests.in_process import eventually

OLD = public_jwk(private_key("ES256"), "old")
NEW = public_jwk(private_key("ES256"), "new")


@pytest.fixture(autouse=True)
def no_cooldown_after_failure(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the pause after a failed fetch to zero."""
    monkeypatch.setattr(jwks, "FAILED_COOLDOWN_S", 0.0)
    yield


async def test_concurrent_requests_share_one_fetch() -> None:
    """Requests that arrive during a fetch wait for it."""
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        found = await asyncio.gather(*[keys.key("old") for _ in range(20)])
        assert all(key is not None and key.key_id == "old" for key in found)
        assert server.requests == 1


async def test_a_new_key_is_fetched_when_it_is_first_seen() -> None:
    """In a rotation, the old key is removed after the URL no longer lists it."""
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        assert await keys.key("old") is not None
        server.keys = [NEW]
        await asyncio.sleep(0)
        keys._next_fetch_at = 0
        assert await keys.key("new") is not None
        assert await keys.key("old") is None


async def test_unknown_keys_cause_few_fetches() -> None:
    """A flood of made-up key ids causes at most one fetch."""
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        await keys.key("old")
        before = server.requests
        assert await asyncio.gather(*[keys.key(f"k{n}") for n in range(50)]) == [None] * 50
        assert server.requests - before <= 1
        assert await keys.key(None) is None


async def test_a_new_key_is_found_during_a_flood_of_unknown_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up ids cause one fetch per cooldown. A new key is found after the cooldown in which it was added."""
    monkeypatch.setattr(jwks, "COOLDOWN_S", 0.2)
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        await keys.key("old")
        await keys.key("invented")
        before, began = server.requests, time.monotonic()
        server.keys = [OLD, NEW]
        for number in itertools.count():
            assert await keys.key(f"k{number}") is None
            assert await keys.key("old") is not None
            if await keys.key("new") is not None:
                break
            assert time.monotonic() - began < 5
            await asyncio.sleep(0)
        assert number > 3
        assert server.requests - before <= (time.monotonic() - began) / 0.2 + 1


async def test_known_keys_stay_while_the_url_is_unavailable() -> None:
    """If no key was ever known, the error is `internal`, because it isn't the client's fault."""
    async with jwks_server() as server:
        server.keys = [OLD]
        server.status = 500
        keys = Jwks(server.url)
        with pytest.raises(ApiError) as failed:
            await keys.key("old")
        assert (failed.value.code, failed.value.body.retryable) == ("internal", True)
        server.status = 200
        assert await keys.key("old") is not None
        server.status = 500
        keys._next_fetch_at = 0
        assert await keys.key("new") is None
        assert await keys.key("old") is not None


async def test_a_periodic_fetch_starts_no_cooldown() -> None:
    """A request finds a new key at once, even if the key was added right after a periodic fetch."""
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        task = asyncio.create_task(keys.run())
        await eventually(lambda: "old" in keys._keys)
        server.keys = [OLD, NEW]
        assert await keys.key("new") is not None
        task.cancel()
        await asyncio.wait([task])


async def test_a_withdrawn_key_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request for another key is needed."""
    monkeypatch.setattr(jwks, "REFRESH_S", 0.02)
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        task = asyncio.get_running_loop().create_task(keys.run())
        await eventually(lambda: "old" in keys._keys)
        server.keys = [NEW]
        await eventually(lambda: "old" not in keys._keys and "new" in keys._keys)
        task.cancel()
        await asyncio.wait([task])


async def test_an_empty_key_set_changes_nothing() -> None:
    """The known keys stay valid."""
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        await keys.key("old")
        server.keys = []
        keys._next_fetch_at = 0
        assert await keys.key("new") is None
        assert await keys.key("old") is not None


async def test_a_slow_response_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """All requests share one fetch and its deadline. The cooldown starts after it. At most one thread is added."""
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.3)
    monkeypatch.setattr(jwks, "COOLDOWN_S", 0.3)
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        await keys.key("old")
        await asyncio.sleep(0.35)
        server.keys, server.pause_s = [OLD, NEW], 0.05
        before, threads, began = server.requests, threading.active_count(), time.monotonic()
        assert await asyncio.gather(*[keys.key(f"k{n}") for n in range(50)]) == [None] * 50
        assert await keys.key("new") is None
        assert time.monotonic() - began < 1
        assert server.requests - before == 1
        assert threading.active_count() <= threads + 1
        server.pause_s = 0
        await asyncio.sleep(0.3)
        assert await keys.key("new") is not None


async def test_a_response_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A truncated response isn't a valid key set."""
    monkeypatch.setattr(jwks, "BYTES_MAX", 50)
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        with pytest.raises(ApiError):
            await keys.key("old")
        monkeypatch.setattr(jwks, "BYTES_MAX", 5000)
        assert await keys.key("old") is not None
