"""Failing providers as a client sees them: a gateway process, real upstreams over HTTP, a real Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client, client
from tests.e2e.upstream_gateway import gateway_with_upstream, run_turn
from tests.gateway_process import gateway_process
from tests.redis_process import redis_process
from tests.upstream import Upstream, chat, error_response

pytestmark = pytest.mark.e2e

MODEL = "openai/some-model"
BROKEN = error_response(500, {"error": {"message": "oops"}})
LIMITED = error_response(429, {"error": {"message": "slow down"}}, retry_after="1")
GOOD = chat("Hel", "lo", usage={"prompt_tokens": 5, "completion_tokens": 2})


def statuses(c: Client, name: str) -> list[tuple[str, Any]]:
    """Return the status of each `turn.status` event of the turn, with its attempt or model."""
    events = [frame for frame in c.turns[name].frames if frame["type"] == "turn.status"]
    return [(frame["status"], frame.get("attempt") or frame.get("model")) for frame in events]


async def test_a_failed_request_is_retried(tmp_path: Path) -> None:
    """After two responses with 500 the third attempt succeeds. The client gets a status event per retry, and the
    provider one request per attempt."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(BROKEN, BROKEN, GOOD)
        view = await run_turn(c, "t", MODEL)
        assert view.ended is not None
        assert (view.ended["type"], view.text()) == ("turn.completed", "Hello")
        assert view.ended["timing"]["attempts"] == 3
        assert statuses(c, "t") == [("retrying", 2), ("retrying", 3)]
        assert len(upstream.requests) == 3


async def test_retry_after_is_respected(tmp_path: Path) -> None:
    """After 429 with Retry-After the second request is sent after that time, not before."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(LIMITED, GOOD)
        view = await run_turn(c, "t", MODEL)
        assert view.ended is not None
        assert view.text() == "Hello"
        assert view.ended["timing"]["total_ms"] >= 1000
        [status] = [frame for frame in view.frames if frame["type"] == "turn.status"]
        assert (status["attempt"], 950 <= status["delay_ms"] <= 1300) == (2, True)


async def test_there_is_no_retry_after_the_first_delta(tmp_path: Path) -> None:
    """An answer that breaks off after its first delta fails the turn, and the provider isn't asked again."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(chat("Hel", "lo world").replace(cut=150))
        view = await run_turn(c, "t", MODEL)
        assert view.ended is not None
        assert view.ended["error"]["code"] == "upstream_incomplete"
        assert (view.ended["timing"]["attempts"], len(upstream.requests), statuses(c, "t")) == (1, 1, [])


async def test_law_5_a_cancel_before_a_retry(tmp_path: Path) -> None:
    """Law 5: a cancel request during the wait for a retry ends the turn at once, and the provider isn't asked again."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(error_response(429, {"error": {"message": "slow down"}}, retry_after="30"))
        await c.request("turn.start", turn="t", input="x", model=MODEL)
        await c.until(lambda: statuses(c, "t"))
        async with asyncio.timeout(10):
            assert await c.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
            assert (await c.ending("t"))["timing"]["attempts"] == 1
        assert len(upstream.requests) == 1


async def test_a_refused_key_is_replaced_by_the_next_one(tmp_path: Path) -> None:
    """After 401 the next key is used, also for later turns. No key is logged."""
    keys = {"OPENAI_API_KEY": "canary-one, canary-two"}
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path, **keys) as (gateway, c):
        upstream.play(error_response(401, {"error": {"message": "wrong key canary-one"}}), GOOD)
        for name in ("t", "u"):
            assert (await run_turn(c, name, MODEL)).text() == "Hello"
        used = [received.headers["authorization"].removeprefix("Bearer ") for received in upstream.requests]
        assert used == ["canary-one", "canary-two", "canary-two"]
        assert statuses(c, "t") == [("retrying", 2)]
        assert statuses(c, "u") == []
        assert "canary" not in "".join(gateway.log)


async def test_the_circuit_opens_after_repeated_failures(tmp_path: Path) -> None:
    """The next turn fails at once with the time to wait, without a request. The unit tests show how the circuit
    closes."""
    settings = {"TURNWIRE_BREAKER_FAILURES": "3", "TURNWIRE_BREAKER_OPEN_S": "60"}
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path, **settings) as (_, c):
        upstream.play(BROKEN)
        assert (await run_turn(c, "t", MODEL)).ended is not None
        assert len(upstream.requests) == 3
        failed = (await run_turn(c, "u", MODEL)).ended
        assert failed is not None
        assert failed["error"]["code"] == "upstream_error"
        assert 0 < failed["error"]["retry_after_ms"] <= 60_000
        assert (failed["timing"]["attempts"], failed["usage"], len(upstream.requests)) == (0, None, 3)


async def test_instances_share_the_state_of_the_circuit(tmp_path: Path) -> None:
    """A circuit that opens on one instance is open on the other, which has sent no request."""
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
                await run_turn(here, "t", MODEL)
                assert len(upstream.requests) == 2
                await asyncio.sleep(2.5)  # an instance reads the shared state once a second
                failed = (await run_turn(there, "u", MODEL)).ended
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


@pytest.mark.parametrize("how", ["stalled", "unreachable", "broken", "refused key"])
async def test_a_fallback_model_answers(tmp_path: Path, how: str) -> None:
    """The first fallback that can be used and supports the request answers. The cost is computed with its price, and
    `turn.get` names it, also on another instance."""
    tools = [{"name": "f", "parameters": {"type": "object"}}]
    with redis_process(tmp_path / "redis") as redis:
        async with Upstream() as first, Upstream() as other:
            (tmp_path / "models.toml").write_text(FALLBACKS.format(other=other.openai_url))
            settings = {
                "OPENAI_API_KEY": "k",
                "OPENAI_BASE_URL": "http://127.0.0.1:9/v1" if how == "unreachable" else first.openai_url,
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
                    "refused key": error_response(401, {"error": {"message": "no"}}),
                }
                first.play(answers.get(how, BROKEN))
                other.play(chat("Other", usage={"prompt_tokens": 5, "completion_tokens": 2}))
                view = await run_turn(here, "t", "first", tools=tools)
                assert view.ended is not None
                assert (view.ended["type"], view.text()) == ("turn.completed", "Other")
                assert statuses(here, "t")[-1] == ("fallback", "second")
                assert [received.body["model"] for received in other.requests] == ["second"]
                assert view.ended["cost"] == {"amount": "0.000009", "currency": "USD"}
                assert view.ended["timing"]["attempts"] == len(first.requests) + (3 if how == "unreachable" else 0) + 1
                for c in (here, there):
                    got = await c.request("turn.get", turn="t")
                    assert (got["model"], got["message"]["model"]) == ("second", "second")


async def test_other_instances_know_the_running_fallback(tmp_path: Path) -> None:
    """While the fallback model streams, `turn.get` names it on the other instance."""
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
