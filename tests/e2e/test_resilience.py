"""Failing providers, seen from a client: the gateway as a process, real upstreams over HTTP, a real Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client, client
from tests.e2e.test_upstreams import in_front_of, turn
from tests.gateway_process import gateway_process
from tests.redis_process import redis_process
from tests.upstream import Upstream, chat, error_response

pytestmark = pytest.mark.e2e

MODEL = "openai/some-model"
BROKEN = error_response(500, {"error": {"message": "oops"}})
LIMITED = error_response(429, {"error": {"message": "slow down"}}, retry_after="1")
GOOD = chat("Hel", "lo", usage={"prompt_tokens": 5, "completion_tokens": 2})


def statuses(c: Client, name: str) -> list[tuple[str, Any]]:
    """What the turn's `turn.status` frames told, but for how long a wait takes."""
    told = [frame for frame in c.turns[name].frames if frame["type"] == "turn.status"]
    return [(frame["status"], frame.get("attempt") or frame.get("model")) for frame in told]


async def test_a_failing_provider_is_asked_again(tmp_path: Path) -> None:
    """500 twice, then an answer: clients see the retries, one request goes out for each attempt."""
    async with Upstream() as upstream, in_front_of(upstream, tmp_path) as (_, c):
        upstream.play(BROKEN, BROKEN, GOOD)
        view = await turn(c, "t", MODEL)
        assert view.ended is not None
        assert (view.ended["type"], view.text()) == ("turn.completed", "Hello")
        assert view.ended["timing"]["attempts"] == 3
        assert statuses(c, "t") == [("retrying", 2), ("retrying", 3)]
        assert len(upstream.requests) == 3


async def test_retry_after_is_obeyed(tmp_path: Path) -> None:
    """429 with Retry-After: the second request goes out when the provider said, not before."""
    async with Upstream() as upstream, in_front_of(upstream, tmp_path) as (_, c):
        upstream.play(LIMITED, GOOD)
        view = await turn(c, "t", MODEL)
        assert view.ended is not None
        assert view.text() == "Hello"
        assert view.ended["timing"]["total_ms"] >= 1000
        [told] = [frame for frame in view.frames if frame["type"] == "turn.status"]
        assert (told["attempt"], 950 <= told["delay_ms"] <= 1300) == (2, True)


async def test_what_was_said_is_never_asked_for_again(tmp_path: Path) -> None:
    """An error after the first delta ends the turn, with what was said."""
    async with Upstream() as upstream, in_front_of(upstream, tmp_path) as (_, c):
        upstream.play(chat("Hel", "lo world").replace(cut=150))
        view = await turn(c, "t", MODEL)
        assert view.ended is not None
        assert view.ended["error"]["code"] == "upstream_incomplete"
        assert (view.ended["timing"]["attempts"], len(upstream.requests), statuses(c, "t")) == (1, 1, [])


async def test_law_5_a_cancel_during_the_wait_for_a_retry(tmp_path: Path) -> None:
    """Law 5: it ends the turn at once, and the provider isn't asked again."""
    async with Upstream() as upstream, in_front_of(upstream, tmp_path) as (_, c):
        upstream.play(error_response(429, {"error": {"message": "slow down"}}, retry_after="30"))
        await c.request("turn.start", turn="t", input="x", model=MODEL)
        await c.until(lambda: statuses(c, "t"))
        async with asyncio.timeout(10):
            assert await c.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
            assert (await c.ending("t"))["timing"]["attempts"] == 1
        assert len(upstream.requests) == 1


async def test_a_refused_key_rests(tmp_path: Path) -> None:
    """Of several keys the next one is taken, without a wait; the log names none of them."""
    keys = {"OPENAI_API_KEY": "canary-one, canary-two"}
    async with Upstream() as upstream, in_front_of(upstream, tmp_path, **keys) as (gateway, c):
        upstream.play(error_response(401, {"error": {"message": "wrong key canary-one"}}), GOOD)
        for name in ("t", "u"):
            assert (await turn(c, name, MODEL)).text() == "Hello"
        used = [received.headers["authorization"].removeprefix("Bearer ") for received in upstream.requests]
        assert used == ["canary-one", "canary-two", "canary-two"]
        assert statuses(c, "t") == [("retrying", 2)]
        assert statuses(c, "u") == []
        assert "canary" not in "".join(gateway.log)


async def test_a_provider_that_keeps_failing_is_left_alone(tmp_path: Path) -> None:
    """The circuit opens: the next turn fails at once, unasked, and says when to come back. How it closes: see the units."""
    settings = {"TURNWIRE_BREAKER_FAILURES": "3", "TURNWIRE_BREAKER_OPEN_S": "60"}
    async with Upstream() as upstream, in_front_of(upstream, tmp_path, **settings) as (_, c):
        upstream.play(BROKEN)
        assert (await turn(c, "t", MODEL)).ended is not None
        assert len(upstream.requests) == 3
        failed = (await turn(c, "u", MODEL)).ended
        assert failed is not None
        assert failed["error"]["code"] == "upstream_error"
        assert 0 < failed["error"]["retry_after_ms"] <= 60_000
        assert (failed["timing"]["attempts"], failed["usage"], len(upstream.requests)) == (0, None, 3)


async def test_instances_share_what_fails(tmp_path: Path) -> None:
    """A circuit that opens at one instance is open at the other, which never asked."""
    with redis_process(tmp_path / "redis") as redis:
        async with Upstream() as upstream:
            environment = {
                "OPENAI_API_KEY": "k",
                "OPENAI_BASE_URL": upstream.openai_url,
                "TURNWIRE_BREAKER_FAILURES": "2",
            }
            async with (
                gateway_process(tmp_path, environment, store=redis.url) as one,
                gateway_process(tmp_path, environment, store=redis.url) as two,
                client(one.ws_url) as here,
                client(two.ws_url) as there,
            ):
                upstream.play(BROKEN)
                await turn(here, "t", MODEL)
                assert len(upstream.requests) == 2
                await asyncio.sleep(2.5)  # an instance looks once a second
                failed = (await turn(there, "u", MODEL)).ended
                assert failed is not None
                assert failed["error"]["code"] == "upstream_error"
                assert (failed["timing"]["attempts"], len(upstream.requests)) == (0, 2)


FALLBACKS = """
[providers.other]
title = "Other"
base_url = "{other}"
key_optional = true

[[models]]
id = "first"
name = "First"
provider = "openai"
dialect = "openai_chat"
features = ["chat", "streaming", "tools"]
fallbacks = ["kimi/without-a-key", "blind", "second"]

[[models]]
id = "blind"
name = "Can't call tools"
provider = "other"
features = ["chat", "streaming"]

[[models]]
id = "second"
name = "Second"
provider = "other"
features = ["chat", "streaming", "tools"]
price = {{ input = "1", output = "2" }}
"""


@pytest.mark.parametrize("how", ["stalled", "refused", "broken", "no key"])
async def test_another_model_answers(tmp_path: Path, how: str) -> None:
    """The first in the list that can take the request; message, price and views are its, also on another instance."""
    tools = [{"name": "f", "parameters": {"type": "object"}}]
    with redis_process(tmp_path / "redis") as redis:
        async with Upstream() as first, Upstream() as other:
            (tmp_path / "models.toml").write_text(FALLBACKS.format(other=other.openai_url))
            settings = {
                "OPENAI_API_KEY": "k",
                "OPENAI_BASE_URL": "http://127.0.0.1:9/v1" if how == "refused" else first.openai_url,
                "TURNWIRE_MODELS": str(tmp_path / "models.toml"),
                "TURNWIRE_FIRST_EVENT_TIMEOUT_S": "0.5",
            }
            async with (
                gateway_process(tmp_path, settings, store=redis.url) as one,
                gateway_process(tmp_path, settings, store=redis.url) as two,
                client(one.ws_url) as here,
                client(two.ws_url) as there,
            ):
                answers = {
                    "stalled": GOOD.replace(stall_after=0),
                    "no key": error_response(401, {"error": {"message": "no"}}),
                }
                first.play(answers.get(how, BROKEN))
                other.play(chat("Other", usage={"prompt_tokens": 5, "completion_tokens": 2}))
                view = await turn(here, "t", "first", tools=tools)
                assert view.ended is not None
                assert (view.ended["type"], view.text()) == ("turn.completed", "Other")
                assert statuses(here, "t")[-1] == ("fallback", "second")
                assert [received.body["model"] for received in other.requests] == ["second"]
                assert view.ended["cost"] == {"amount": "0.000009", "currency": "USD"}
                assert view.ended["timing"]["attempts"] == len(first.requests) + (3 if how == "refused" else 0) + 1
                for c in (here, there):
                    got = await c.request("turn.get", turn="t")
                    assert (got["model"], got["message"]["model"]) == ("second", "second")


async def test_a_fallback_that_is_running_is_seen_from_elsewhere(tmp_path: Path) -> None:
    """While it streams, `turn.get` names the model that answers, at any instance."""
    with redis_process(tmp_path / "redis") as redis:
        async with Upstream() as first, Upstream() as other:
            (tmp_path / "models.toml").write_text(FALLBACKS.format(other=other.openai_url))
            settings = {
                "OPENAI_API_KEY": "k",
                "OPENAI_BASE_URL": first.openai_url,
                "TURNWIRE_MODELS": str(tmp_path / "models.toml"),
                "TURNWIRE_PROVIDER_ATTEMPTS": "1",
            }
            async with (
                gateway_process(tmp_path, settings, store=redis.url) as one,
                gateway_process(tmp_path, settings, store=redis.url) as two,
                client(one.ws_url) as here,
                client(two.ws_url) as there,
            ):
                first.play(BROKEN)
                other.play(chat(*["word "] * 50).replace(stall_after=20))
                await here.request("turn.start", turn="t", input="x", model="first")
                await there.request("turn.attach", turn="t")
                await there.until(lambda: "t" in there.turns and there.turns["t"].text())
                assert (await there.request("turn.get", turn="t"))["model"] == "blind"
                await there.request("turn.cancel", turn="t")
                await there.ending("t")
