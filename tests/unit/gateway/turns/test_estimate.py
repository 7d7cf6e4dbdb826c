"""`turn.estimate` agrees with the request that a provider then receives, refuses what `turn.start` refuses, and stores
nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client, RequestFailed, client
from tests.credentials import SECRET, bearer, token
from tests.http_events import http_client
from tests.in_loop_server import InLoopServer, serving
from tests.in_process import ControlledStore, SessionClient
from tests.upstream import Upstream, chat

MODELS = """
[[models]]
id = "small"
provider = "kimi"
features = ["chat", "streaming", "tools"]
context_window = 3000
max_output = 500
price = { input = "2", output = "10" }
"""
LONG = "word " * 400
TOOL = {"name": "add", "description": "x" * 4000, "parameters": {"type": "object"}}


@asynccontextmanager
async def small_model(folder: Path) -> AsyncIterator[tuple[InLoopServer, Upstream, Client]]:
    """Serve a model with a small context window and a price."""
    file = folder / "models.toml"
    file.write_text(MODELS)
    async with Upstream() as upstream:
        environment = {"KIMI_API_KEY": "k", "KIMI_BASE_URL": upstream.openai_url}
        async with (
            serving(environment, models=str(file), default_model="small") as server,
            client(server.ws_url) as c,
        ):
            yield server, upstream, c


async def test_the_estimate_is_that_of_the_turn_that_follows(tmp_path: Path) -> None:
    """As many messages are left out as in the turn itself, and the cost is computed from the model's price. The provider
    gets no request, and the conversation doesn't change. Over HTTP the answer is the same."""
    async with small_model(tmp_path) as (server, upstream, c), http_client(server.url) as http:
        conversation: dict[str, Any] = {}
        for n in range(4):
            upstream.play(chat("Yes."))
            conversation = {
                "conversation": (await c.request("turn.start", turn=f"t{n}", input=LONG, **conversation))[
                    "conversation"
                ]
            }
            await c.ending(f"t{n}")
        before = (await c.request("conversation.get", **conversation), len(upstream.requests))
        start = {**conversation, "input": "And now?", "params": {"max_tokens": 400}}
        found = await c.request("turn.estimate", **start)
        assert (await http.post("/v1/turns/estimate", json=start)).json() == found
        assert (await c.request("conversation.get", **conversation), len(upstream.requests)) == before

        assert (found["model"], found["context_window"], found["estimated"]) == ("small", 3000, True)
        assert found["output_tokens_max"] == 400
        assert 0 < found["input_tokens"] <= 3000 - 400
        assert float(found["cost"]["amount"]) == pytest.approx(found["input_tokens"] * 2 / 1e6)
        assert float(found["cost_max"]["amount"]) == pytest.approx((found["input_tokens"] * 2 + 400 * 10) / 1e6)
        upstream.play(chat("Yes."))
        await c.request("turn.start", turn="now", **start)
        await c.ending("now")
        sent = upstream.requests[-1].body["messages"]
        assert found["trimmed"] == 2 * 4 + 1 - len(sent) > 0
        reported = [frame["messages"] for frame in c.turns["now"].frames if frame.get("status") == "trimmed"]
        assert reported == [found["trimmed"]]


async def test_tools_take_room_in_the_context(tmp_path: Path) -> None:
    """The tools of a start are counted by the estimate and by the trimming, and older messages make room for them."""
    async with small_model(tmp_path) as (_, upstream, c):
        upstream.play(chat("Yes."))
        conversation = (await c.request("turn.start", turn="t", input=LONG * 2))["conversation"]
        await c.ending("t")
        start = {"conversation": conversation, "input": "And now?", "params": {"max_tokens": 400}}
        plain = await c.request("turn.estimate", **start)
        tools = await c.request("turn.estimate", **start, tools=[TOOL])
        assert (plain["trimmed"], tools["trimmed"]) == (0, 2)
        assert tools["input_tokens"] > 1000
        upstream.play(chat("Yes."))
        await c.request("turn.start", turn="now", **start, tools=[TOOL])
        await c.ending("now")
        assert [message["content"] for message in upstream.requests[-1].body["messages"]] == ["And now?"]


async def test_an_estimate_of_what_would_be_refused_is_refused(tmp_path: Path) -> None:
    """The error is that of `turn.start`. A tool result without its call, with which the turn would fail, is refused
    too."""
    image = {"kind": "image", "media_type": "image/png", "data": "AAAA"}
    async with small_model(tmp_path) as (_, _, c):
        for fields in (
            {},
            {"input": " "},
            {"input": "x", "conversation": "c_nobody"},
            {"input": "x", "model": "nobody/knows"},
            {"input": [image]},
            {"input": "x", "params": {"max_tokens": 501}},
            {"input": " ".join(map(str, range(8000)))},
        ):
            errors = []
            for kind in ("turn.estimate", "turn.start"):
                with pytest.raises(RequestFailed) as refused:
                    await c.request(kind, **fields)
                errors.append(refused.value.error)
            assert errors[0] == errors[1], fields
        with pytest.raises(RequestFailed, match="no tool call c"):
            await c.request("turn.estimate", input=[{"kind": "tool_result", "call": "c", "output": "1"}])


async def test_a_regenerated_answer_and_a_stateless_turn_are_estimated(ann: SessionClient) -> None:
    """With `parent` and no input, the history ends at that message. The messages of a stateless turn are counted as
    given. A model without a price has no cost."""
    conversation = (await ann.start("t", "x" * 300))["conversation"]
    await ann.ending("t")
    asked = (await ann.request("conversation.messages", conversation=conversation))["messages"][0]["id"]
    again = await ann.request("turn.estimate", conversation=conversation, parent=asked)
    new = await ann.request("turn.estimate", input="x" * 300)
    messages = [{"role": "user", "parts": [{"kind": "text", "text": "x" * 300}]}]
    assert again == new == await ann.request("turn.estimate", messages=messages)
    assert (new["input_tokens"], new["cost"], new["cost_max"]) == (100 + 8 + 8, None, None)


async def test_an_estimate_stores_nothing(ann: SessionClient, store: ControlledStore) -> None:
    """The store is only read."""
    conversation = (await ann.start("t"))["conversation"]
    await ann.ending("t")
    store.calls.clear()
    await ann.request("turn.estimate", conversation=conversation, input="x", turn="t2")
    assert set(store.calls) - {"append", "renew", "get_ephemeral"} == {"conversation", "branch"}
    assert [one["id"] for one in (await ann.request("conversation.list"))["conversations"]] == [conversation]


async def test_an_estimate_requires_the_scope_read_and_is_charged_as_a_request() -> None:
    """Like any other request, an estimate is refused without its scope, and beyond the rate limit."""
    async with serving(auth="jwt", jwt_secret=SECRET, user_requests_per_s=0.1, user_requests_burst=2) as server:
        async with http_client(server.url, headers=bearer(token("bob", scope="chat"))) as http:
            assert (await http.post("/v1/turns/estimate", json={"input": "x"})).status_code == 403
        async with client(server.ws_url, additional_headers=bearer(token("ann"))) as c:
            for _ in range(2):
                await c.request("turn.estimate", input="x")
            with pytest.raises(RequestFailed, match="rate_limited"):
                await c.request("turn.estimate", input="x")


async def test_the_operators_prompt_is_counted() -> None:
    """`TURNWIRE_SYSTEM_PROMPT` is sent with every turn, so it is part of the estimate."""
    counted = []
    for prompt in ("", LONG):
        async with serving({}, system_prompt=prompt) as server, client(server.ws_url) as c:
            counted.append((await c.request("turn.estimate", input="Hi"))["input_tokens"])
    assert counted[1] - counted[0] >= 400


async def test_an_unknown_parent_is_refused_like_in_a_start() -> None:
    """The estimate has the start's error."""
    async with serving({}) as server, client(server.ws_url) as c:
        await c.request("conversation.create", conversation="mine")
        errors = []
        for kind in ("turn.start", "turn.estimate"):
            with pytest.raises(RequestFailed) as refused:
                await c.request(kind, conversation="mine", parent="m_none", input="Hi")
            errors.append(refused.value.error)
        assert errors[0] == errors[1]
        assert errors[0]["path"] == "parent"
