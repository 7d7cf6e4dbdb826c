"""What the prompt caches of providers save over a conversation, through a real gateway and a provider that bills by prefix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.client import Client
from tests.e2e.upstream_gateway import gateway_with_upstream
from tests.metrics import value
from tests.prefix_billing import BillingUpstream

pytestmark = pytest.mark.e2e

SYSTEM = "You are the support agent of a shop. " + "Answer politely and cite the order. " * 120
TOOLS = [
    {
        "name": name,
        "description": f"Looks up {name}. " + "It takes a number. " * 30,
        "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}},
    }
    for name in ("orders", "customers", "stock")
]
UNCACHED = """
[[models]]
id = "claude-haiku-4-5"
quirks = { prompt_cache = "" }
"""
SMALL = """
[[models]]
id = "small"
provider = "openai"
dialect = "openai_chat"
features = ["chat", "streaming", "tools"]
context_window = 12000
max_output = 500
"""


async def run_turn(c: Client, name: str, **fields: Any) -> dict[str, Any]:
    """Run a turn, and return its end event."""
    await c.request("turn.start", turn=name, **fields)
    ended = await c.ending(name)
    assert ended["type"] == "turn.completed", ended
    return ended


async def converse(c: Client, model: str, name: str, rounds: int = 5, **fields: Any) -> list[dict[str, Any]]:
    """Run `rounds` pairs of turns in one conversation, a question and the results of its calls. Return their end events.

    A client may offer its tools in another order each time.
    """
    made = await c.request("conversation.create", system=SYSTEM)
    endings = []
    for number in range(rounds):
        tools = TOOLS[number % 3 :] + TOOLS[: number % 3]
        start = {"conversation": made["id"], "model": model, "tools": tools, **fields}
        question = f"{name}-{number}"
        endings.append(await run_turn(c, question, input=f"Question {number}: " + "why? " * 60, **start))
        calls = [frame["call"] for frame in c.turns[question].frames if frame.get("kind") == "tool_call"]
        assert calls
        results = [{"kind": "tool_result", "call": call, "output": "It is so. " * 60} for call in calls]
        endings.append(await run_turn(c, f"{name}-{number}-results", input=results, **start))
    return endings


def dollars(endings: list[dict[str, Any]]) -> float:
    """Return the total cost of the turns in US dollars."""
    return sum(float(ended["cost"]["amount"]) for ended in endings)


async def test_claude_reads_the_history_from_its_cache(tmp_path: Path) -> None:
    """Over ten turns with tools and a system prompt, each turn but the first reads all that the turn before it sent. Usage,
    cost and the metric are what the provider billed. Without caching, the same turns cost three times as much or more. A second
    conversation reads the tools and the system prompt that the first one wrote."""
    async with BillingUpstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (gateway, c):
        endings = await converse(c, "claude-haiku-4-5", "cached")
        bills = upstream.bills
        assert len(bills) == len(endings) == 10
        for number, (bill, ended) in enumerate(zip(bills, endings, strict=True)):
            usage = ended["usage"]
            assert usage["input_tokens"] == sum(bill.values())
            assert (usage["cache_read_tokens"], usage["cache_write_tokens"]) == (bill["read"], bill["written"])
            # 1 dollar per million for input, 0.10 for reads, 1.25 for writes, 5 for output.
            micro = bill["new"] + bill["read"] * 0.1 + bill["written"] * 1.25 + usage["output_tokens"] * 5
            assert float(ended["cost"]["amount"]) == pytest.approx(micro / 1e6)
            if number:
                assert bill["read"] == bills[number - 1]["read"] + bills[number - 1]["written"]
        summed = (await c.request("usage.get"))["usage"]
        assert summed["cache_read_tokens"] == upstream.total("read") > 0.75 * summed["input_tokens"]
        async with httpx2.AsyncClient() as http:
            text = (await http.get(f"{gateway.url}/metrics")).text
        for kind, tokens in (("cache_read", upstream.total("read")), ("input", summed["input_tokens"])):
            assert value(text, "turnwire_tokens_total", kind=kind, model="claude-haiku-4-5") == tokens
        await converse(c, "claude-haiku-4-5", "other", rounds=1)
        assert bills[10]["read"] > bills[10]["written"]
    folder = tmp_path / "uncached"
    folder.mkdir()
    file = folder / "models.toml"
    file.write_text(UNCACHED)
    async with (
        BillingUpstream() as upstream,
        gateway_with_upstream(upstream, folder, TURNWIRE_MODELS=str(file)) as (_, c),
    ):
        uncached = await converse(c, "claude-haiku-4-5", "uncached")
        assert upstream.total("read") == upstream.total("written") == 0
        assert all("cache_control" not in str(received.body) for received in upstream.requests)
    output = sum(ended["usage"]["output_tokens"] for ended in endings) * 5e-6
    assert dollars(endings) - output < (dollars(uncached) - output) / 3


async def test_many_parallel_calls_dont_hide_the_cache(tmp_path: Path) -> None:
    """A turn with more blocks than the provider searches still reads what the turn before it wrote."""
    async with BillingUpstream(calls=40) as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        await converse(c, "claude-haiku-4-5", "wide", rounds=3)
        for before, bill in zip(upstream.bills, upstream.bills[1:], strict=False):
            assert bill["read"] == before["read"] + before["written"]


async def test_a_short_prompt_costs_the_same(tmp_path: Path) -> None:
    """For a prompt below the provider's minimum, nothing is charged for the cache."""
    async with BillingUpstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        for name in ("a", "b"):
            ended = await run_turn(c, name, input="Hi", model="claude-haiku-4-5")
            assert (ended["usage"]["cache_read_tokens"], ended["usage"]["cache_write_tokens"]) == (0, 0)


async def test_vertex_ai_caches_blocks(tmp_path: Path) -> None:
    """Vertex AI refuses `cache_control` at the top level of a request, so the breakpoint is in a block."""
    async with BillingUpstream() as upstream:
        environment = {
            "ANTHROPIC_VERTEX_ACCESS_TOKEN": "token-of-this-test",
            "ANTHROPIC_VERTEX_PROJECT_ID": "project",
            "CLOUD_ML_REGION": "global",
            "ANTHROPIC_VERTEX_BASE_URL": upstream.url + "/v1",
        }
        async with gateway_with_upstream(upstream, tmp_path, **environment) as (_, c):
            await converse(c, "vertex/claude-haiku-4-5@20251001", "vertex", rounds=3)
        for before, bill in zip(upstream.bills, upstream.bills[1:], strict=False):
            assert bill["read"] == before["read"] + before["written"] > 0


async def test_openais_own_cache_hits(tmp_path: Path) -> None:
    """In Chat Completions, each turn begins with the bytes of the turn before it, so the cache has all of them."""
    async with BillingUpstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        endings = await converse(c, "openai/gpt-4.1", "chat")
        bills = upstream.bills
        for before, bill, ended in zip(bills, bills[1:], endings[1:], strict=False):
            assert bill["read"] >= sum(before.values()) - 128
            assert ended["usage"]["cache_read_tokens"] == bill["read"]
        assert upstream.total("read") > 0.75 * (upstream.total("read") + upstream.total("new"))


async def test_a_trimmed_conversation_still_hits(tmp_path: Path) -> None:
    """When a conversation outgrows the context window, its beginning changes in few turns, so the cache still helps."""
    file = tmp_path / "models.toml"
    file.write_text(SMALL)
    async with (
        BillingUpstream() as upstream,
        gateway_with_upstream(upstream, tmp_path, TURNWIRE_MODELS=str(file)) as (_, c),
    ):
        await converse(c, "small", "long", rounds=24)
        firsts = [received.body["messages"][1] for received in upstream.requests]
        changes = sum(one != other for one, other in zip(firsts, firsts[1:], strict=False))
        assert 2 <= changes <= 8, changes
        assert upstream.total("read") > 0.6 * (upstream.total("read") + upstream.total("new"))
