"""What users may have, with real gateways: on one file, and on one Redis with two instances."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.client import Client, RequestFailed, client
from tests.credentials import SECRET, bearer, token
from tests.gateway_process import GatewayProcess, gateway_process
from tests.http_events import http_client
from tests.in_time import bounds_a_time, within
from tests.redis_process import redis_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

JWT = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET, "TURNWIRE_LEASE_S": "1.5"}
SLOW = {"params": {"demo": {"rate": 50, "tokens": 100_000}}, "input": "x"}
SHORT = {"params": {"demo": {"rate": 0, "tokens": 5}}, "input": "x"}


@asynccontextmanager
async def gateways(folder: Path, store: str, **settings: str) -> AsyncIterator[list[GatewayProcess]]:
    """Two instances on one Redis, or one on a file, which then stands for both."""
    environment = {**JWT, **settings}
    async with AsyncExitStack() as stack:
        if store == "sqlite":
            one = await stack.enter_async_context(gateway_process(folder, environment))
            yield [one, one]
            return
        redis = stack.enter_context(redis_process(folder / "redis"))
        yield [
            await stack.enter_async_context(gateway_process(folder, environment, store=redis.url, allow_kill=True))
            for _ in range(2)
        ]


def user(gateway: GatewayProcess, name: str) -> Any:
    """A client of this user."""
    return client(gateway.ws_url, additional_headers=bearer(token(name)))


async def refused(c: Client, kind: str, **fields: Any) -> dict[str, Any]:
    """The error that a request is answered with."""
    with pytest.raises(RequestFailed) as failed:
        await c.request(kind, **fields)
    return failed.value.error


both = pytest.mark.parametrize("store", ["sqlite", "redis"])


@both
@pytest.mark.timed
@bounds_a_time
async def test_a_flood_of_starts_leaves_others_alone(tmp_path: Path, store: str) -> None:
    """500 starts on one socket: a burst is taken, 8 of it run, the rest is refused; cancel and attach go through, and
    another user's turn is as quick as ever."""
    async with (
        gateways(tmp_path, store) as (one, two),
        user(one, "mallory") as flood,
        user(one, "ann") as near,
        user(two, "ann") as far,
    ):
        asked = [await flood.send("turn.start", turn=f"t{n}", **SLOW) for n in range(500)]
        with within(5):
            for n, c in enumerate((near, far)):
                await c.request("turn.start", turn=f"a{n}", **SHORT)
                assert (await c.ending(f"a{n}"))["type"] == "turn.completed"
        answers = await asyncio.gather(*(flood.answer(one) for one in asked), return_exceptions=True)
        got = Counter(a.code if isinstance(a, RequestFailed) else a["status"] for a in answers)  # type: ignore[index]
        assert got["running"] == 8
        assert 32 <= got["queued"] <= 64
        assert set(got) == {"running", "queued", "rate_limited"}
        assert await flood.request("turn.cancel", turn="t0") == {"turns": {"t0": "cancelled"}}
        assert "t1" in (await flood.request("turn.attach", turn="t1", epoch=0))["turns"]
        await flood.request("turn.cancel", mine=True)


@both
async def test_who_waits_as_told_is_taken(tmp_path: Path, store: str) -> None:
    """`retry_after_ms` is right, over the socket and over HTTP; cancelling costs nothing while throttled, but for ids that
    lead nowhere."""
    # Slow enough that a machine that stands still for a moment doesn't find the pace kept.
    settings = {"TURNWIRE_USER_REQUESTS_PER_S": "0.5", "TURNWIRE_USER_REQUESTS_BURST": "2"}
    async with gateways(tmp_path, store, **settings) as (one, _), user(one, "ann") as ann:
        await ann.request("turn.start", turn="t", **SLOW)
        await ann.request("ping")
        for _ in range(2):
            wait_ms = (await refused(ann, "ping"))["retry_after_ms"]
            assert 0 < wait_ms <= 2000
            assert (await refused(ann, "turn.cancel", turn="unknown"))["code"] == "rate_limited"
            await asyncio.sleep(wait_ms / 1000)
            await ann.request("ping")
        assert (await ann.request("turn.cancel", turn="t")) == {"turns": {"t": "cancelled"}}
        async with http_client(one.url, headers=bearer(token("ann"))) as http:
            answers = await asyncio.gather(*(http.get("/v1/models") for _ in range(12)))
            late = next(answer for answer in answers if answer.status_code == 429)
            assert (late.headers["retry-after"], late.json()["error"]["code"]) == ("2", "rate_limited")
            assert (await http.post("/v1/turns/t/cancel")).status_code == 200
            await asyncio.sleep(2)
            assert (await http.get("/v1/models")).status_code == 200


async def test_requests_have_one_pace_at_all_instances(tmp_path: Path) -> None:
    """Two instances together take what one would: of starts at once, of other requests a moment later."""
    settings = {
        "TURNWIRE_USER_REQUESTS_PER_S": "0.1",
        "TURNWIRE_USER_REQUESTS_BURST": "12",
        "TURNWIRE_USER_RUNNING_TURNS": "0",
    }
    async with (
        gateways(tmp_path, "redis", **settings) as (one, two),
        user(one, "ann") as a,
        user(two, "ann") as b,
        user(one, "bob") as near,
        user(two, "bob") as far,
    ):
        started = 0
        with pytest.raises(RequestFailed, match="rate_limited") as failed:
            while await (a, b)[started % 2].request("turn.start", turn=f"t{started}", **SHORT):
                started += 1
        assert 12 <= started < 16, "each alone would have taken 12"
        assert 0 < failed.value.error["retry_after_ms"] < 40_000

        for _ in range(12):
            await near.request("ping")
        taken = 0
        with pytest.raises(RequestFailed, match="rate_limited"):
            while await far.request("ping"):
                taken += 1
                await asyncio.sleep(0.1)
        assert taken < 10, "alone it would have taken 12"


@both
async def test_turns_beyond_the_places_wait_and_run(tmp_path: Path, store: str) -> None:
    """Running turns are counted over the instances, waiting ones are told their position, and a place that is free is
    taken wherever the next one waits."""
    async with (
        gateways(tmp_path, store, TURNWIRE_USER_RUNNING_TURNS="2") as (one, two),
        user(one, "ann") as here,
        user(two, "ann") as there,
    ):
        await here.request("turn.start", turn="a", **SLOW)
        await there.request("turn.start", turn="b", **SLOW)
        assert (await there.request("turn.start", turn="c", **SHORT))["status"] == "queued"
        assert (await here.request("turn.start", turn="d", **SHORT))["status"] == "queued"
        await here.until(lambda: here.turns["d"].frames[-1].get("position") == 2)
        await there.until(lambda: there.turns["c"].frames[-1].get("position") == 1)
        await here.request("turn.cancel", turn="a")
        assert (await there.ending("c"))["type"] == "turn.completed"
        assert (await here.ending("d"))["type"] == "turn.completed"
        told = [frame.get("position") for frame in here.turns["d"].frames if frame.get("status") == "queued"]
        assert told[1:] in ([2, 1], [2])
        await there.request("turn.cancel", turn="b")


async def test_law_9_a_waiting_turn_outlives_its_owner(tmp_path: Path) -> None:
    """Law 9: its owner is killed; the other instance keeps its place in the line, and runs it."""
    async with gateways(tmp_path, "redis", TURNWIRE_USER_RUNNING_TURNS="1") as (one, two), user(two, "ann") as there:
        await there.request("turn.start", turn="a", **SLOW)
        async with user(one, "ann") as here:
            for turn in ("b", "c"):
                assert (await here.request("turn.start", turn=turn, **SHORT))["status"] == "queued"
            one.process.kill()
        await there.request("turn.attach", positions={turn: {"epoch": 0, "seq": 0} for turn in ("b", "c")})
        await asyncio.sleep(4)
        assert (await there.request("turn.get", turn="b"))["status"] == "queued"
        await there.request("turn.cancel", turn="a")
        for turn in ("b", "c"):
            assert (await there.ending(turn))["type"] == "turn.completed"


@both
async def test_budgets_hold_at_all_instances(tmp_path: Path, store: str) -> None:
    """What one instance has counted the other refuses, until midnight UTC, and for that user alone."""
    async with (
        gateways(tmp_path, store, TURNWIRE_USER_TOKENS_PER_DAY="5", TURNWIRE_CONVERSATION_TOKENS="3") as (one, two),
        user(one, "ann") as here,
        user(two, "ann") as there,
        user(two, "bob") as bob,
    ):
        where = (await bob.request("turn.start", turn="b", input="x", params={"demo": {"rate": 0, "tokens": 2}}))[
            "conversation"
        ]
        await bob.ending("b")
        error = await refused(bob, "turn.start", turn="b2", conversation=where, **SHORT)
        assert (error["code"], error.get("retry_after_ms")) == ("budget_exceeded", None)
        await here.request("turn.start", turn="a", **SHORT)
        await here.ending("a")
        error = await refused(there, "turn.start", turn="a2", **SHORT)
        assert (error["code"], error["retryable"]) == ("budget_exceeded", False)
        left_ms = 86_400_000 - time.time() * 1000 % 86_400_000
        assert abs(error["retry_after_ms"] - left_ms) < 5000
        await bob.request("turn.start", turn="b3", **SHORT)
        async with http_client(two.url, headers=bearer(token("ann"))) as http:
            answer = await http.post("/v1/turns", json=SHORT)
            assert answer.status_code == 429
            assert 0 <= int(answer.headers["retry-after"]) * 1000 - left_ms + 5000 < 10_000


async def test_connections_are_counted_over_all_instances(tmp_path: Path) -> None:
    """Of a user and of an address, over sockets and streams; a place comes back when its client leaves, and a lease after
    its instance was killed."""
    settings = {"TURNWIRE_USER_CONNECTIONS": "3", "TURNWIRE_ADDRESS_CONNECTIONS": "5"}
    async with gateways(tmp_path, "redis", **settings) as (one, two), AsyncExitStack() as stack:
        here = [await stack.enter_async_context(user(one, "ann")) for _ in range(2)]
        await stack.enter_async_context(user(two, "ann"))
        for gateway in (one, two):
            with pytest.raises(InvalidStatus, match="429"):
                await stack.enter_async_context(user(gateway, "ann"))
        async with http_client(two.url, headers=bearer(token("ann"))) as http:
            answer = await http.post("/v1/turns", json=SLOW)
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")
        await asyncio.sleep(2)  # more than a lease: living ones are kept
        with pytest.raises(InvalidStatus):
            await stack.enter_async_context(user(two, "ann"))
        await here[0].socket.close()
        await _until_free(two, "ann")
        for gateway in (one, two, two):
            await stack.enter_async_context(user(gateway, "bob"))
        with pytest.raises(InvalidStatus):
            await stack.enter_async_context(user(two, "cid"))
        one.process.kill()
        await _until_free(two, "cid")


async def _until_free(gateway: GatewayProcess, name: str) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            async with user(gateway, name):
                return
        except InvalidStatus:
            await asyncio.sleep(0.1)
    raise AssertionError("no place comes free")
