"""The limits of users with real gateways: on one SQLite file, and on one Redis with two instances."""

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
from tests.in_time import checks_time_limit, within
from tests.redis_process import redis_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

JWT = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET, "TURNWIRE_LEASE_S": "1.5"}
SLOW = {"params": {"demo": {"rate": 50, "tokens": 100_000}}, "input": "x"}
SHORT = {"params": {"demo": {"rate": 0, "tokens": 5}}, "input": "x"}


@asynccontextmanager
async def gateways(folder: Path, store: str, **settings: str) -> AsyncIterator[list[GatewayProcess]]:
    """Start two instances on one Redis, or one on a SQLite file, which is then in the list twice."""
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
    """Return a client of this user."""
    return client(gateway.ws_url, additional_headers=bearer(token(name)))


async def refused(c: Client, kind: str, **fields: Any) -> dict[str, Any]:
    """Send a request that must be refused, and return its error."""
    with pytest.raises(RequestFailed) as failed:
        await c.request(kind, **fields)
    return failed.value.error


both = pytest.mark.parametrize("store", ["sqlite", "redis"])


@both
@pytest.mark.timed
@checks_time_limit
async def test_a_flood_of_starts_doesnt_affect_other_users(tmp_path: Path, store: str) -> None:
    """Of 500 starts on one socket a burst is accepted, 8 of it run, and the rest is refused. Cancel and attach requests
    are accepted, and another user's turn isn't delayed."""
    async with (
        gateways(tmp_path, store) as (one, two),
        user(one, "mallory") as flood,
        user(one, "ann") as near,
        user(two, "ann") as far,
    ):
        request_ids = [await flood.send("turn.start", turn=f"t{n}", **SLOW) for n in range(500)]
        with within(5):
            for n, c in enumerate((near, far)):
                await c.request("turn.start", turn=f"a{n}", **SHORT)
                assert (await c.ending(f"a{n}"))["type"] == "turn.completed"
        answers = await asyncio.gather(*(flood.answer(one) for one in request_ids), return_exceptions=True)
        got = Counter(a.code if isinstance(a, RequestFailed) else a["status"] for a in answers)  # type: ignore[index]
        assert got["running"] == 8
        assert 32 <= got["queued"] <= 64
        assert set(got) == {"running", "queued", "rate_limited"}
        assert await flood.request("turn.cancel", turn="t0") == {"turns": {"t0": "cancelled"}}
        assert "t1" in (await flood.request("turn.attach", turn="t1", epoch=0))["turns"]
        await flood.request("turn.cancel", mine=True)


@both
async def test_a_request_after_retry_after_is_accepted(tmp_path: Path, store: str) -> None:
    """`retry_after_ms` is correct over the socket and over HTTP. A cancel request is accepted while the user is rate
    limited, but not with an unknown id."""
    # A slow rate, so that requests on a stalled machine still exceed the limit.
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


async def test_the_rate_limit_is_shared_by_all_instances(tmp_path: Path) -> None:
    """Two instances together accept as many requests as one: starts exactly, other requests with a short delay."""
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
        assert 12 <= started < 16, "each instance alone would accept 12"
        assert 0 < failed.value.error["retry_after_ms"] < 40_000

        for _ in range(12):
            await near.request("ping")
        taken = 0
        with pytest.raises(RequestFailed, match="rate_limited"):
            while await far.request("ping"):
                taken += 1
                await asyncio.sleep(0.1)
        assert taken < 10, "the instance alone would accept 12"


@both
async def test_turns_beyond_the_limit_are_queued_and_run_later(tmp_path: Path, store: str) -> None:
    """Running turns are counted across instances, queued ones are sent their position, and the next one runs at any
    instance when a permit is free."""
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
        positions = [frame.get("position") for frame in here.turns["d"].frames if frame.get("status") == "queued"]
        assert positions[1:] in ([2, 1], [2])
        await there.request("turn.cancel", turn="b")


async def test_law_9_a_queued_turn_outlives_its_owner(tmp_path: Path) -> None:
    """Law 9: after the owner is killed the other instance keeps the turn's position in the queue, and runs it."""
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
async def test_budgets_apply_at_all_instances(tmp_path: Path, store: str) -> None:
    """Tokens used at one instance count at the other: further turns of that user are refused until midnight UTC."""
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


async def test_connections_are_counted_across_instances(tmp_path: Path) -> None:
    """The limits of a user and of an address apply to sockets and streams of all instances. A permit is released when
    its client disconnects, or one lease after its instance was killed."""
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
        await asyncio.sleep(2)  # more than a lease: the permits of live connections are renewed
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
    raise AssertionError("no permit is released")
