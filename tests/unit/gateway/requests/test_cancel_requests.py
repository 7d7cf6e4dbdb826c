"""Tests of the ids in a cancel or an attach: running turns are always found, and unknown ids count as requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.limits.limits import UNTHROTTLED_IN_FLIGHT
from tests.credentials import SECRET
from tests.in_process import ControlledStore, Instance, SessionClient, open_client, open_pair, open_services

SLOW = {"rate": 50, "tokens": 100_000}
RATE_LIMITED: dict[str, Any] = {
    "auth": "jwt",
    "jwt_secret": SECRET,
    "user_requests_per_s": 10,
    "user_requests_burst": 5,
}
UNKNOWN = [f"nowhere{n}" for n in range(1000)]


@asynccontextmanager
async def rate_limited_pair() -> AsyncIterator[tuple[Instance, Instance, SessionClient, SessionClient]]:
    """Open two instances with a rate limit, and a client of `ann` at each."""
    async with (
        open_pair(**RATE_LIMITED) as (one, two),
        open_client(one.services) as here,
        open_client(two.services) as there,
    ):
        yield one, two, here, there


async def test_unknown_ids_are_looked_up_in_one_call(store: ControlledStore) -> None:
    """A thousand ids in a frame are one store call, for a cancel and for an attach, and each id has its answer."""
    async with open_services(store) as services, open_client(services) as ann:
        await ann.start("t", demo=SLOW)
        for kind, fields in (
            ("turn.cancel", {"turns": [*UNKNOWN[:999], "t"]}),
            ("turn.attach", {"positions": {turn: {"epoch": 1, "seq": 0} for turn in UNKNOWN}}),
        ):
            store.calls.clear()
            found = (await ann.request(kind, **fields))["turns"]
            assert len(found) == 1000
            asked = [name for name in store.calls if name in {"turn", "running", "request_cancel", "active", "log"}]
            assert asked == ["running"], kind
        assert (await ann.ending("t"))["type"] == "turn.cancelled"


async def test_unknown_ids_count_as_requests() -> None:
    """After many unknown ids the user is rate limited, for unknown ids too; another user isn't."""
    async with rate_limited_pair() as (one, _, ann, _there), open_client(one.services, user="bob") as bob:
        await ann.start("t", demo=SLOW)
        answer = (await ann.request("turn.cancel", turns=UNKNOWN[:20]))["turns"]
        assert set(answer.values()) == {"not_found"}
        for kind, fields in (
            ("ping", {}),
            ("turn.cancel", {"turn": "nowhere"}),
            ("turn.cancel", {"turns": ["t2", "nowhere"]}),
            ("conversation.attach", {"conversation": "nowhere"}),
        ):
            refused = await ann.refused(kind, **fields)
            assert (refused["code"], refused["retry_after_ms"] > 1000) == ("rate_limited", True), kind
        attached = (await ann.request("turn.attach", positions={"nowhere": {"epoch": 1, "seq": 0}}))["turns"]
        assert attached["nowhere"]["error"]["code"] == "rate_limited"
        assert await bob.request("turn.cancel", turn="nowhere") == {"turns": {"nowhere": "not_found"}}
        assert await ann.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}


async def test_law_5_running_turns_are_cancelled_despite_the_rate_limit() -> None:
    """A rate-limited user can cancel and attach, here and on another instance, even in a frame with unknown ids."""
    async with rate_limited_pair() as (_, _, here, there):
        for turn in ("a", "b", "c"):
            await here.start(turn, demo=SLOW)
        for client in (here, there):
            await client.request("turn.cancel", turns=UNKNOWN[:100])
            assert (await client.refused("ping"))["code"] == "rate_limited"
        attached = (await there.request("turn.attach", turn="a"))["turns"]["a"]
        assert attached["status"] == "running"
        assert await there.request("turn.cancel", turn="a") == {"turns": {"a": "cancelled"}}
        for client, turn in ((there, "b"), (here, "c")):
            refused = await client.refused("turn.cancel", turns=[turn, "nowhere"])
            assert refused["code"] == "rate_limited"
            assert (await here.ending(turn))["type"] == "turn.cancelled"
        over = (await here.request("turn.cancel", turns=["a", "b", "c"]))["turns"]
        assert set(over.values()) <= {"cancelled", "already_ended"}


async def test_an_ended_turn_is_found_when_the_rate_recovers() -> None:
    """If the user falls below the rate limit while the running turns are read, the other ids are looked up too."""
    async with rate_limited_pair() as (_, two, here, there):
        await here.start("t", demo={"rate": 0, "tokens": 3})
        await here.ending("t")
        await there.request("turn.cancel", turns=UNKNOWN[:15])
        with two.store.blocked("active") as entered:
            attach = there.send("turn.attach", turn="t")
            await asyncio.wait_for(entered.wait(), 5)
            while two.services.limits.is_over_rate("ann"):
                await asyncio.sleep(0.01)
        assert (await there.answer(attach))["turns"]["t"]["status"] == "completed"


async def test_unthrottled_work_in_flight_is_bounded(store: ControlledStore) -> None:
    """While the store doesn't answer, a connection's unthrottled requests are bounded, except cancels of turns on this
    instance."""
    async with open_services(store, requests_in_flight=4) as services, open_client(services) as ann:
        await ann.start("t", demo=SLOW)
        with store.blocked("running"):
            waiting = [ann.send("turn.cancel", turn="nowhere") for _ in range(4 + UNTHROTTLED_IN_FLIGHT)]
            assert (await ann.refused("turn.cancel", turn="nowhere"))["code"] == "rate_limited"
            assert (await ann.refused("turn.attach", turn="nowhere"))["code"] == "rate_limited"
            assert (await ann.refused("ping"))["code"] == "rate_limited"
            assert await ann.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
        for one in waiting:
            assert await ann.answer(one) == {"turns": {"nowhere": "not_found"}}
