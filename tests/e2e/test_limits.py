"""The limits of users with real gateways: on one SQLite file, and on one Redis with two instances."""

from __future__ import annotations

import asyncio
import math
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
    """Start two instances that share a Redis, or a single instance with a SQLite file, listed twice."""
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
    """Of 500 starts on one socket, a burst is accepted: 8 turns run and the others are queued. The remaining starts are
    refused. The user's cancel and attach requests are still accepted, and another user's turns aren't delayed."""
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
        answers = await asyncio.gather(
            *(flood.answer(request_id) for request_id in request_ids), return_exceptions=True
        )
        outcomes = Counter(a.code if isinstance(a, RequestFailed) else a["status"] for a in answers)  # type: ignore[index]
        assert outcomes["running"] == 8
        assert 32 <= outcomes["queued"] <= 64
        assert set(outcomes) == {"running", "queued", "rate_limited"}
        assert await flood.request("turn.cancel", turn="t0") == {"turns": {"t0": "cancelled"}}
        assert "t1" in (await flood.request("turn.attach", turn="t1", epoch=0))["turns"]
        await flood.request("turn.cancel", mine=True)


@both
async def test_a_request_after_retry_after_is_accepted(tmp_path: Path, store: str) -> None:
    """`retry_after_ms` is correct over the socket and over HTTP. While the user is rate limited, a request to
    cancel a known turn is still accepted, but one with an unknown id isn't."""
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
            limited = next(answer for answer in answers if answer.status_code == 429)
            error = limited.json()["error"]
            assert (error["code"], 0 < error["retry_after_ms"] <= 2000) == ("rate_limited", True)
            assert limited.headers["retry-after"] == str(math.ceil(error["retry_after_ms"] / 1000))
            assert (await http.post("/v1/turns/t/cancel")).status_code == 200
            await asyncio.sleep(2)
            assert (await http.get("/v1/models")).status_code == 200


async def test_the_rate_limit_is_shared_by_all_instances(tmp_path: Path) -> None:
    """Two instances together accept as many requests as one. The limit is exact for starts. For other requests, an
    instance learns after a short delay what the other has accepted."""
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
        assert 12 <= started < 16, "with separate limits, each instance would accept 12"
        assert 0 < failed.value.error["retry_after_ms"] < 40_000

        for _ in range(12):
            await near.request("ping")
        accepted = 0
        with pytest.raises(RequestFailed, match="rate_limited"):
            while await far.request("ping"):
                accepted += 1
                await asyncio.sleep(0.1)
        assert accepted < 10, "with a separate limit, this instance would accept 12"


@both
async def test_turns_beyond_the_limit_are_queued_and_run_later(tmp_path: Path, store: str) -> None:
    """The limit applies to the running turns of all instances together. Clients receive each queued turn's position,
    and the first in the queue runs as soon as a running turn ends on any instance."""
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
    """Law 9: after the owner is killed, its turns stay queued on the other instance, which then runs them."""
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
async def test_budgets_apply_on_all_instances(tmp_path: Path, store: str) -> None:
    """Tokens used on one instance reduce the budget on the other: the user's next turns are refused until midnight UTC.
    A conversation's budget isn't renewed, so the error has no `retry_after_ms`."""
    async with (
        gateways(tmp_path, store, TURNWIRE_USER_TOKENS_PER_DAY="5", TURNWIRE_CONVERSATION_TOKENS="3") as (one, two),
        user(one, "ann") as here,
        user(two, "ann") as there,
        user(two, "bob") as bob,
    ):
        conversation = (
            await bob.request("turn.start", turn="b", input="x", params={"demo": {"rate": 0, "tokens": 2}})
        )["conversation"]
        await bob.ending("b")
        error = await refused(bob, "turn.start", turn="b2", conversation=conversation, **SHORT)
        assert (error["code"], error.get("retry_after_ms")) == ("budget_exceeded", None)
        await here.request("turn.start", turn="a", **SHORT)
        await here.ending("a")
        error = await refused(there, "turn.start", turn="a2", **SHORT)
        assert (error["code"], error["retryable"]) == ("budget_exceeded", False)
        until_midnight_ms = 86_400_000 - time.time() * 1000 % 86_400_000
        assert abs(error["retry_after_ms"] - until_midnight_ms) < 5000
        await bob.request("turn.start", turn="b3", **SHORT)
        async with http_client(two.url, headers=bearer(token("ann"))) as http:
            answer = await http.post("/v1/turns", json=SHORT)
            assert answer.status_code == 429
            assert 0 <= int(answer.headers["retry-after"]) * 1000 - until_midnight_ms + 5000 < 10_000


async def test_connections_are_counted_across_instances(tmp_path: Path) -> None:
    """The limits per user and per client address apply to the sockets and streams of all instances together. A
    permit is released when its client disconnects, or when its lease expires after its instance is killed."""
    lease_s = 5  # more than a busy machine may stop an instance, which could then not renew its permits
    settings = {
        "TURNWIRE_USER_CONNECTIONS": "3",
        "TURNWIRE_ADDRESS_CONNECTIONS": "5",
        "TURNWIRE_LEASE_S": str(lease_s),
    }
    async with gateways(tmp_path, "redis", **settings) as (one, two), AsyncExitStack() as stack:
        here = [await stack.enter_async_context(user(one, "ann")) for _ in range(2)]
        await stack.enter_async_context(user(two, "ann"))
        for gateway in (one, two):
            with pytest.raises(InvalidStatus, match="429"):
                await stack.enter_async_context(user(gateway, "ann"))
        async with http_client(two.url, headers=bearer(token("ann"))) as http:
            answer = await http.post("/v1/turns", json=SLOW)
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")
        await asyncio.sleep(1.2 * lease_s)  # the permits of open connections are renewed
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
    raise AssertionError("no permit was released")
