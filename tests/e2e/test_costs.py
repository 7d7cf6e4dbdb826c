"""What turns cost, from the provider's token counts to the user's sums, over real processes and both stores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client, client
from tests.e2e.upstream_gateway import gateway_with_upstream, run_turn
from tests.gateway_process import gateway_process
from tests.redis_process import redis_process
from tests.upstream import Script, Upstream, chat, error_response, messages, recorded

pytestmark = pytest.mark.e2e

RECORDED = os.environ.get("RECORDED_STREAMS")
COUNTED = {
    "prompt_tokens": 1000,
    "completion_tokens": 300,
    "cached_tokens": 256,
    "completion_tokens_details": {"reasoning_tokens": 120},
}
KIMI = "0.00194776"
"""744 tokens at 0.95, 256 cached ones at 0.16, 300 at 4 dollars per million."""
OWN = """
[[models]]
id = "kimi-k2.6"
price = { input = "10", output = "20", cached = "1" }
"""


def cost(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "USD"}


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
async def test_law_3_a_turns_cost_is_in_every_result(tmp_path: Path, backend: str) -> None:
    """Law 3: the cost is in the end event, `turn.get`, the message, the conversation and the user's sums, also of
    cancelled and failed turns."""
    with redis_process(tmp_path / "redis") as redis:
        async with Upstream() as upstream:
            environment = {
                "KIMI_API_KEY": "k",
                "KIMI_BASE_URL": upstream.openai_url,
                "TURNWIRE_PROVIDER_ATTEMPTS": "1",
            }
            store = redis.url if backend == "redis" else None
            async with (
                gateway_process(tmp_path, environment, store=store) as gateway,
                client(gateway.ws_url) as c,
            ):
                await _check_costs(c, upstream)


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
async def test_token_counts_that_are_too_large_are_ignored(tmp_path: Path, backend: str) -> None:
    """If a provider's token counts are impossibly large, each turn ends, its counts are left out, and the next turn's counts
    are added as usual."""
    with redis_process(tmp_path / "redis") as redis:
        async with Upstream() as upstream:
            environment = {"KIMI_API_KEY": "k", "KIMI_BASE_URL": upstream.openai_url}
            store = redis.url if backend == "redis" else None
            async with gateway_process(tmp_path, environment, store=store) as gateway, client(gateway.ws_url) as c:
                for name, count in (("large", 10**14), ("largest", 2**53 - 1), ("huge", 10**30)):
                    upstream.play(chat("Hello", usage={"prompt_tokens": count, "completion_tokens": count}))
                    await ended(c, name)
                    assert (await c.request("turn.get", turn=name))["status"] == "completed"
                before = nano_of((await c.request("usage.get"))["cost"])
                upstream.play(chat("Hello", usage=COUNTED))
                await ended(c, "counted")
                sums = await c.request("usage.get")
                assert nano_of(sums["cost"]) - before == nano_of(cost(KIMI))
                assert sums["usage"]["output_tokens"] < 10**6
            assert "Traceback" not in "".join(gateway.log)


async def _check_costs(c: Client, upstream: Upstream) -> None:
    conversation = (await c.request("conversation.create"))["id"]
    upstream.play(chat("Hello", usage=COUNTED))
    done = await ended(c, "done", conversation=conversation)
    usage = {"input_tokens": 1000, "output_tokens": 300, "reasoning_tokens": 120, "cache_read_tokens": 256}
    assert (done["usage"], done["cost"]) == (usage, cost(KIMI))
    got = await c.request("turn.get", turn="done")
    assert (got["usage"], got["cost"], got["message"]["cost"]) == (usage, cost(KIMI), cost(KIMI))

    upstream.play(chat(*["word "] * 100).replace(stall_after=100))
    await c.request("turn.start", turn="cancelled", input="x" * 400, model="kimi-k2.6", conversation=conversation)
    await c.until(lambda: "cancelled" in c.turns and len(c.turns["cancelled"].text()) == 500)
    await c.request("turn.cancel", turn="cancelled")
    cancelled = await c.ending("cancelled")
    assert cancelled["usage"]["estimated"] is True
    input_tokens, output_tokens = cancelled["usage"]["input_tokens"], cancelled["usage"]["output_tokens"]
    assert input_tokens >= 100
    assert output_tokens == 125
    nano = input_tokens * 950 + output_tokens * 4000
    assert cancelled["cost"] == cost(f"0.{nano:09d}".rstrip("0"))

    upstream.play(chat("Hel", "lo world").replace(cut=150))
    failed = await ended(c, "failed", conversation=conversation)
    assert (failed["type"], failed["usage"]["estimated"], failed["cost"] is None) == ("turn.failed", True, False)

    upstream.play(error_response(401, {"error": {"message": "no"}}))
    refused = await ended(c, "refused")
    assert refused["usage"] == {"input_tokens": 0, "output_tokens": 0}, "a refused request isn't billed"

    turns = [done, cancelled, failed]
    kept = await c.request("conversation.get", conversation=conversation)
    assert nano_of(kept["cost"]) == sum(nano_of(one["cost"]) for one in turns)
    assert kept["usage"]["output_tokens"] == sum(one["usage"]["output_tokens"] for one in turns)
    sums = await c.request("usage.get", conversation=conversation)
    assert (sums["cost"], sums["usage"]["reasoning_tokens"]) == (kept["cost"], 120)
    sums = await c.request("usage.get")
    assert nano_of(sums["cost"]) == sum(nano_of(one["cost"]) for one in [*turns, refused])
    assert (await c.request("usage.get", since="2026-01-01T00:00:00Z"))["cost"] == sums["cost"]


def nano_of(money: dict[str, str]) -> int:
    """Return the amount in billionths of a dollar."""
    whole, _, decimals = money["amount"].partition(".")
    return int(whole) * 10**9 + int(decimals.ljust(9, "0"))


async def ended(c: Client, name: str, model: str = "kimi-k2.6", **fields: Any) -> dict[str, Any]:
    """Run a turn and return its end event."""
    view = await run_turn(c, name, model, **fields)
    assert view.ended is not None
    return view.ended


async def test_the_operators_price_overrides_the_price_list(tmp_path: Path) -> None:
    """A price in the operator's models file overrides the price list. A model without a known price has no cost, and
    neither has the demo model."""
    file = tmp_path / "models.toml"
    file.write_text(OWN)
    async with (
        Upstream() as upstream,
        gateway_with_upstream(upstream, tmp_path, TURNWIRE_MODELS=str(file)) as (_, c),
    ):
        upstream.play(chat("Hello", usage=COUNTED))
        # 744 at 10, 256 cached at 1, 300 at 20.
        assert (await ended(c, "own"))["cost"] == cost("0.013696")
        assert (await ended(c, "unknown", "kimi/no-such-model"))["cost"] is None
        assert (await ended(c, "demo", "demo", params={"demo": {"tokens": 3}}))["cost"] is None
        assert (await c.request("usage.get"))["cost"] == cost("0.013696")


async def test_anthropics_cached_tokens_are_added_to_the_input(tmp_path: Path) -> None:
    """Anthropic's `input_tokens` don't include cached tokens; the gateway's do, each with its own price."""
    script = messages("Hel", "lo")
    start = script.blocks[0].replace(
        b'"input_tokens": 3', b'"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 5'
    )
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(script.replace(blocks=(start, *script.blocks[1:])))
        view = await ended(c, "t", "claude-haiku-4-5")
        assert view["usage"] == {
            "input_tokens": 115,
            "output_tokens": 2,
            "cache_read_tokens": 100,
            "cache_write_tokens": 5,
        }
        # 10 at 1, 100 at 0.10, 5 at 1.25, 2 at 5.
        assert view["cost"] == cost("0.00003625")


PRICED = [
    # The cost that the provider reports.
    ("openrouter-chat__anthropic-reasoning.sse", "openai-chat", "openrouter/anthropic/claude-sonnet-4.5", "0.000669"),
    # 43 at 3, 282 at 15.
    ("anthropic__thinking.sse", "anthropic", "anthropic/claude-sonnet-4-20250514", "0.004359"),
    # 1 at 0.30, 306 cached at 0.075. 26 at 0.50, and 227 of reasoning, which xAI counts separately, at 0.50.
    ("xai-chat__tool-call.chunks.txt", "openai-chat", "xai/grok-3-mini", "0.00014975"),
]


@pytest.mark.skipif(RECORDED is None, reason="RECORDED_STREAMS isn't set")
@pytest.mark.parametrize(("file", "api", "model", "amount"), PRICED, ids=[one[0] for one in PRICED])
async def test_recorded_streams_have_the_expected_cost(
    tmp_path: Path, file: str, api: str, model: str, amount: str
) -> None:
    """The cost of a recorded stream is the one that the provider reports, or else the one calculated by hand from its
    token counts."""
    assert RECORDED is not None
    script: Script = recorded(Path(RECORDED) / file, api)
    async with Upstream() as upstream:
        more = {
            "OPENROUTER_API_KEY": "k",
            "OPENROUTER_BASE_URL": upstream.openai_url,
            "XAI_API_KEY": "k",
            "XAI_BASE_URL": upstream.openai_url,
        }
        async with gateway_with_upstream(upstream, tmp_path, **more) as (_, c):
            upstream.play(script)
            view = await ended(c, "t", model)
            assert (view["type"], view["cost"]) == ("turn.completed", cost(amount))
            assert "estimated" not in view["usage"]
