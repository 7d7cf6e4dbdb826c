"""The gateway as a process with real HTTP upstreams, through the real SDKs and on real sockets."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from tests.client import Client, RequestFailed, TurnView, client
from tests.e2e.upstream_gateway import KEY, gateway_with_upstream, run_turn
from tests.gateway_process import gateway_process
from tests.in_time import checks_time_limit, within
from tests.upstream import Script, Upstream, Write, chat, error_response, messages, recorded, responses

pytestmark = pytest.mark.e2e

MODELS = {"openai": "openai/some-model", "anthropic": "anthropic/some-model", "responses": "gpt-6-sol"}
APIS = {"openai": "openai-chat", "anthropic": "anthropic", "responses": "openai-responses"}
SCRIPTS: dict[str, Callable[..., Script]] = {"openai": chat, "anthropic": messages, "responses": responses}
RECORDED = os.environ.get("RECORDED_STREAMS")


ANSWERS = {
    "openai/some-model": chat("Hel", "lo ", "wörld 🙂", usage={"prompt_tokens": 5, "completion_tokens": 3}),
    "gpt-some-day": chat("Hel", "lo ", "wörld 🙂"),
    "kimi/some-model": chat("Hel", "lo ", "wörld 🙂"),
    "glm-some-day": chat("Hel", "lo ", "wörld 🙂"),
    "ollama/some-model": chat("Hel", "lo ", "wörld 🙂"),
    "gpt-6-sol": responses("Hel", "lo ", "wörld 🙂"),
    "anthropic/some-model": messages("Hel", "lo ", "wörld 🙂"),
    "claude-some-day": messages("Hel", "lo ", "wörld 🙂"),
}


@pytest.mark.parametrize("write", ["event", "whole", "piece"])
async def test_a_response_can_be_split_anywhere(tmp_path: Path, write: Write) -> None:
    """The client gets the upstream's text, however it is split and however the catalog matches the model's name."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        for n, (model, script) in enumerate(ANSWERS.items(), 1):
            upstream.play(script.replace(write=write))
            view = await run_turn(c, f"t{n}", model)
            assert view.ended is not None
            assert view.ended["type"] == "turn.completed", (model, view.ended)
            assert view.text() == "Hello wörld 🙂", model
            assert len(upstream.requests) == n, model


async def test_reasoning_in_the_text_is_a_part_of_its_own(tmp_path: Path) -> None:
    """Reasoning between tags is never the answer. If only the closing tag comes, `turn.reset` withdraws the text."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        for name, resets, pieces in (
            ("both", 0, ("<thi", "nk>I think", " so.</think>\n\nHel", "lo")),
            ("one", 1, ("I think", " so.", "\n</thi", "nk>\n\nHel", "lo")),
        ):
            upstream.play(chat(*pieces).replace(rate=3))
            view = await run_turn(c, name, "ollama/some-model")
            assert (view.text("reasoning").strip(), view.text(), view.resets) == ("I think so.", "Hello", resets)
            message = (await c.request("turn.get", turn=name))["message"]
            assert [part["kind"] for part in message["parts"]] == ["reasoning", "text"]
            assert message["parts"][1]["text"] == "Hello"


async def test_control_characters_in_call_ids_are_escaped(tmp_path: Path) -> None:
    """The client gets an id of safe characters and sends its tool result with it. The provider gets one id, in the form
    that it takes, for both the call and its result."""
    called = {"index": 0, "id": "call\x1b[2J\n1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(chat({"tool_calls": [called]}, finish="tool_calls"), chat("Noon."))
        tools = [{"name": "clock", "parameters": {"type": "object"}}]
        talk = (await c.request("conversation.create"))["id"]
        view = await run_turn(c, "t1", "openai/m", conversation=talk, tools=tools)
        seen = [frame["call"] for frame in view.frames if frame["type"] == "turn.part" and "call" in frame]
        assert re.fullmatch(r"call__2J_1_\w{11}", seen[0])
        answer = {"kind": "tool_result", "call": seen[0], "output": "12:00"}
        await c.request("turn.start", turn="t2", input=[answer], model="openai/m", conversation=talk, tools=tools)
        assert (await c.ending("t2"))["type"] == "turn.completed"
        sent = upstream.requests[1].body["messages"]
        ids = [message["tool_calls"][0]["id"] for message in sent if message.get("tool_calls")]
        assert [message["tool_call_id"] for message in sent if message["role"] == "tool"] == ids
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", *ids)
        with pytest.raises(RequestFailed) as refused:
            await c.request("turn.start", turn="t3", input=[answer | {"call": called["id"]}], model="openai/m")
        assert (refused.value.code, refused.value.error["path"]) == ("invalid_request", "input[0].call")


async def test_law_11_a_huge_delta_disconnects_no_client(tmp_path: Path) -> None:
    """Law 11: a provider's event of a million characters is delivered over the WebSocket, in small frames
    (law 10), and over HTTP."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (gateway, c):
        upstream.play(chat("🙂x" * 500_000))
        view = await run_turn(c, "t", "openai/m")
        assert view.text() == "🙂x" * 500_000
        body = {"model": "openai/m", "input": "x"}
        async with httpx2.AsyncClient(timeout=30) as http:
            lines = await http.post(f"{gateway.url}/v1/turns", json=body, headers={"accept": "application/x-ndjson"})
        frames = [msgspec.json.decode(line) for line in lines.content.splitlines()]
        assert "".join(frame.get("text", "") for frame in frames) == "🙂x" * 500_000
        assert frames[-1]["type"] == "turn.completed"


@pytest.mark.parametrize("provider", MODELS)
async def test_law_5_a_cancel_closes_the_providers_connection(tmp_path: Path, provider: str) -> None:
    """Law 5: a cancel request in the middle of a stream closes the provider's connection, and other turns continue."""
    words = [f"word{n} " for n in range(2000)]
    script = SCRIPTS[provider](*words)
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(script.replace(rate=50))
        await c.request("turn.start", turn="t", input="x", model=MODELS[provider])
        received = await upstream.wait_for_request(1)
        await c.request("turn.start", turn="other", input="x", model=MODELS[provider])
        await c.until_seq("t", 10)
        assert not received.disconnected.is_set()
        assert await c.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
        async with asyncio.timeout(5):
            await received.disconnected.wait()
        assert (await c.ending("t"))["type"] == "turn.cancelled"
        seen = c.turns["other"].seq
        await c.until_seq("other", seen + 5)
        assert "".join(words).startswith(c.turns["t"].text())
        await c.request("turn.cancel", mine=True)


@pytest.mark.parametrize("provider", MODELS)
async def test_law_5_cancel_before_the_first_token(tmp_path: Path, provider: str) -> None:
    """Law 5: a cancel request before the provider's response closes the provider's connection."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(chat("never").replace(delay_s=60))
        await c.request("turn.start", turn="t", input="x", model=MODELS[provider])
        received = await upstream.wait_for_request(1)
        assert await c.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
        async with asyncio.timeout(5):
            await received.disconnected.wait()
        ended = await c.ending("t")
        assert (ended["type"], c.turns["t"].text()) == ("turn.cancelled", "")


async def test_law_8_the_providers_connection_is_closed_after_the_last_detach(tmp_path: Path) -> None:
    """Law 8: after the last attachment has ended and the grace period is over, the provider's connection is closed."""
    async with (
        Upstream() as upstream,
        gateway_with_upstream(upstream, tmp_path, TURNWIRE_DISCONNECT_GRACE_S="0.2") as (gateway, _),
    ):
        upstream.play(chat(*["x "] * 2000).replace(rate=50))
        async with client(gateway.ws_url) as leaving:
            await leaving.request("turn.start", turn="t", input="x", model="openai/m", on_disconnect="cancel")
            await leaving.until_seq("t", 5)
        received = await upstream.wait_for_request(1)
        async with asyncio.timeout(5):
            await received.disconnected.wait()


FAULTS: list[tuple[str, Script, dict[str, str], str]] = [
    (
        "wrong key",
        error_response(401, {"error": {"message": f"Incorrect API key {KEY}", "code": "invalid_api_key"}}),
        {},
        "upstream_auth",
    ),
    (
        "rate limited",
        error_response(429, {"error": {"message": "slow down"}}, retry_after="120"),
        {},
        "upstream_rate_limited",
    ),
    ("overloaded", error_response(503, {"error": {"message": "overloaded"}}), {}, "upstream_overloaded"),
    ("broken", error_response(500, "<html>nginx at secret-host</html>"), {}, "upstream_error"),
    ("no model", error_response(404, {"error": {"message": "x", "code": "model_not_found"}}), {}, "model_not_found"),
    (
        "too long",
        error_response(400, {"error": {"message": "x", "code": "context_length_exceeded"}}),
        {},
        "context_length_exceeded",
    ),
    ("stalled", chat("Hel", "lo").replace(stall_after=1), {"TURNWIRE_EVENT_TIMEOUT_S": "0.5"}, "upstream_timeout"),
    (
        "silent",
        chat("x").replace(delay_s=30),
        {"TURNWIRE_FIRST_EVENT_TIMEOUT_S": "0.5", "TURNWIRE_FIRST_EVENT_REASONING_TIMEOUT_S": "0.5"},
        "upstream_timeout",
    ),
    ("connection closed", chat("Hel", "lo world").replace(cut=150), {}, "upstream_incomplete"),
    ("connection reset", chat("Hel", "lo world").replace(cut=150, cut_by="rst"), {}, "upstream_incomplete"),
    ("no finish reason", chat("Hello", finish=None), {}, "upstream_incomplete"),
]


@pytest.mark.parametrize(
    ("script", "settings", "code"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
async def test_law_13_each_provider_fault_has_an_error_code(
    tmp_path: Path, script: Script, settings: dict[str, str], code: str
) -> None:
    """Law 13: for a provider's fault, the client gets the fault's error code and the gateway's own message. Other turns
    aren't affected."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path, **settings) as (_, c):
        demo = {"demo": {"rate": 50, "tokens": 60}}
        await c.request("turn.start", turn="neighbor", input="x", params=demo)
        upstream.play(script)
        view = await run_turn(c, "t", "openai/m")
        assert view.ended is not None
        assert view.ended["type"] == "turn.failed"
        error = view.ended["error"]
        assert error["code"] == code
        assert "secret-host" not in error["message"]
        assert "Hello world".startswith(view.text())
        if code == "upstream_rate_limited":
            assert error["retry_after_ms"] == 120_000
        assert (await c.ending("neighbor"))["type"] == "turn.completed"


async def test_a_refused_connection_is_a_retryable_error(tmp_path: Path) -> None:
    """The error of a refused connection is retryable and contains no address."""
    async with Upstream() as upstream:
        closed_url = upstream.openai_url
    async with gateway_process(tmp_path, {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": closed_url}) as gateway:
        async with client(gateway.ws_url) as c:
            view = await run_turn(c, "t", "openai/m")
            assert view.ended is not None
            error = view.ended["error"]
            assert (error["code"], error["retryable"]) == ("upstream_error", True)
            assert "127.0.0.1" not in error["message"]


async def test_the_conversations_messages_are_sent(tmp_path: Path) -> None:
    """The second turn's request has the system prompt, the first question and its answer."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(chat("Answer one"))
        conversation = (await c.request("conversation.create", system="Be brief."))["id"]
        await run_turn(c, "t1", "openai/m", conversation=conversation)
        await run_turn(c, "t2", "openai/m", conversation=conversation)
        sent = upstream.requests[1].body["messages"]
        assert [message["role"] for message in sent] == ["system", "user", "assistant", "user"]
        assert "Answer one" in str(sent[2]["content"])


ECHO = {"error": {"type": "invalid_request_error", "message": "I don't like " + "a" * 40_000}}
LARGE = (b'{"error":{"message":"prompt is too long"},"a":[', *(b"[],1,2,3," * 7_000,) * 762, b"[]]}")


@checks_time_limit
@pytest.mark.parametrize("model", MODELS.values())
@pytest.mark.parametrize(
    ("script", "code"),
    [
        (error_response(400, ECHO), "invalid_request"),
        (Script(LARGE, status=400), "context_length_exceeded"),
        (Script(tuple(repeat(b"[" * 64 * 1024, 100_000)), status=400), "invalid_request"),
    ],
    ids=["an echo of 40 KB", "48 MB", "endless"],
)
async def test_law_11_a_large_error_body_delays_no_other_client(
    tmp_path: Path, model: str, script: Script, code: str
) -> None:
    """Law 11: while a turn fails with a large error body, each request of another client is answered within 0.5 s."""
    async with (
        Upstream() as upstream,
        gateway_with_upstream(upstream, tmp_path) as (gateway, c),
        client(gateway.ws_url) as d,
    ):
        upstream.play(error_response(400, "no"), script)
        await run_turn(c, "first", model)  # so that imports on first use aren't measured
        failing = asyncio.get_running_loop().create_task(run_turn(c, "t", model))
        try:
            while not failing.done():
                with within(0.5):
                    await d.request("ping")
        finally:
            failing.cancel()
        ended = (await failing).ended
        assert ended is not None
        assert ended["error"]["code"] == code


def recordings() -> list[tuple[str, str]]:
    """Return the name and dialect of each recorded stream in the folder RECORDED_STREAMS."""
    if RECORDED is None:
        return []
    found = []
    for path in sorted(Path(RECORDED).iterdir()):
        if "-chat__" in path.name:
            found.append((path.name, "openai"))
        elif "-responses__" in path.name:
            found.append((path.name, "responses"))
        elif path.name.startswith("anthropic__"):
            found.append((path.name, "anthropic"))
    return found


@pytest.mark.skipif(RECORDED is None, reason="RECORDED_STREAMS isn't set")
@pytest.mark.timeout(300)
async def test_recorded_streams_can_be_split_anywhere(tmp_path: Path) -> None:
    """The result of a recorded stream is the same if it is sent by event, as a whole, in small pieces, with comments or
    with CRLF. If the stream is cut off, the text is a prefix."""
    splits: list[dict[str, Any]] = [
        {},
        {"write": "whole"},
        {"write": "piece", "piece": 1},
        {"write": "piece", "piece": 7, "comments": True},
        {"crlf": True},
    ]
    once = {"TURNWIRE_PROVIDER_ATTEMPTS": "1"}  # retries would take most of the test's time
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path, **once) as (_, c):
        assert recordings()
        for name, dialect in recordings():
            assert RECORDED is not None
            script = recorded(Path(RECORDED) / name, APIS[dialect])
            outcomes = []
            for n, split in enumerate(splits):
                size = sum(len(block) for block in script.blocks)
                if split.get("piece") == 1 and size > 30_000:
                    split = {"write": "piece", "piece": 13}
                upstream.play(script.replace(**split))
                view = await turn_after_limits(c, f"{name}-{n}".replace(".", "-")[:60], MODELS[dialect])
                outcomes.append(comparable(view))
            assert all(outcome == outcomes[0] for outcome in outcomes), name
            upstream.play(script.replace(cut=size // 2))
            cut = await turn_after_limits(c, f"{name}-cut"[-60:], MODELS[dialect])
            assert cut.ended is not None
            assert outcomes[0]["text"].startswith(cut.text()), name


async def turn_after_limits(c: Client, name: str, model: str) -> TurnView:
    """Run a turn as `turn` does. If an earlier rate limit kept it from sending a request, wait and run it again."""
    for n in itertools.count():
        view = await run_turn(c, f"{name}-{n}", model)
        assert view.ended is not None
        if view.ended["timing"]["attempts"]:
            break
        await asyncio.sleep(view.ended["error"]["retry_after_ms"] / 1000)
    return view


def comparable(view: TurnView) -> dict[str, Any]:
    """Return the result of a turn without ids and times."""
    assert view.ended is not None
    ended = {key: view.ended.get(key) for key in ("type", "finish_reason", "usage")}
    error = view.ended.get("error")
    return {
        **ended,
        "code": error and error["code"],
        "text": view.text(),
        "reasoning": view.text("reasoning"),
        "calls": view.text("tool_call"),
        "kinds": view.kinds,
    }
