"""The keys of a JWKS address: fetched once, rotated, unknown names, and an address that is away."""

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
def short_times(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody waits minutes in a test."""
    monkeypatch.setattr(jwks, "FAILED_COOLDOWN_S", 0.0)
    yield


async def test_many_who_ask_are_one_fetch() -> None:
    """Also while it is still under way."""
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        found = await asyncio.gather(*[keys.key("old") for _ in range(20)])
        assert all(key is not None and key.key_id == "old" for key in found)
        assert server.requests == 1


async def test_a_new_key_is_fetched_when_it_is_first_seen() -> None:
    """Rotation: the old one goes when the address names it no longer."""
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        assert await keys.key("old") is not None
        server.keys = [NEW]
        await asyncio.sleep(0)
        keys._next_fetch_at = 0
        assert await keys.key("new") is not None
        assert await keys.key("old") is None


async def test_unknown_keys_are_asked_for_now_and_then() -> None:
    """A flood of invented names is one question."""
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        await keys.key("old")
        before = server.requests
        assert await asyncio.gather(*[keys.key(f"k{n}") for n in range(50)]) == [None] * 50
        assert server.requests - before <= 1
        assert await keys.key(None) is None


async def test_a_flood_of_unknown_keys_hides_no_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invented names are asked for once in each pause, and the real one is found after the pause that it came in."""
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


async def test_while_the_address_is_away_known_keys_stay() -> None:
    """And where none was ever known, that is our fault and not the client's."""
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


async def test_what_is_fetched_by_itself_begins_no_pause() -> None:
    """A key that is new just behind it is found at once."""
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        task = asyncio.create_task(keys.run())
        await eventually(lambda: "old" in keys._keys)
        server.keys = [OLD, NEW]
        assert await keys.key("new") is not None
        task.cancel()
        await asyncio.wait([task])


async def test_a_key_that_was_withdrawn_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anybody asking for another."""
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


async def test_an_answer_that_is_no_key_set_changes_nothing() -> None:
    """Neither an empty set nor something else."""
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        await keys.key("old")
        server.keys = []
        keys._next_fetch_at = 0
        assert await keys.key("new") is None
        assert await keys.key("old") is not None


async def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who wait for it wait for one fetch and its deadline; the pause begins behind it, and no thread stays behind."""
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.3)
    monkeypatch.setattr(jwks, "COOLDOWN_S", 0.3)
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        await keys.key("old")
        await asyncio.sleep(0.35)
        server.keys, server.byte_s = [OLD, NEW], 0.05
        before, threads, began = server.requests, threading.active_count(), time.monotonic()
        assert await asyncio.gather(*[keys.key(f"k{n}") for n in range(50)]) == [None] * 50
        assert await keys.key("new") is None
        assert time.monotonic() - began < 1
        assert server.requests - before == 1
        assert threading.active_count() <= threads + 1
        server.byte_s = 0
        await asyncio.sleep(0.3)
        assert await keys.key("new") is not None


async def test_so_much_of_an_answer_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest isn't, and what is cut is no set of keys."""
    monkeypatch.setattr(jwks, "BYTES_MAX", 50)
    monkeypatch.setattr(jwks, "FAILED_COOLDOWN_S", 0.0)
    async with jwks_server() as server:
        server.keys = [OLD]
        keys = Jwks(server.url)
        with pytest.raises(ApiError):
            await keys.key("old")
        monkeypatch.setattr(jwks, "BYTES_MAX", 5000)
        assert await keys.key("old") is not None
