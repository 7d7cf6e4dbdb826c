"""Answers that break off after their first words, and are continued: a gateway process and real upstreams over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.client import Client, RequestFailed, TurnView, client
from tests.e2e.upstream_gateway import gateway_with_upstream, run_turn
from tests.gateway_process import GatewayProcess, gateway_process
from tests.metrics import value
from tests.redis_process import redis_process
from tests.upstream import Script, Upstream, chat, error_response, messages, responses, sse

pytestmark = pytest.mark.e2e

WHOLE = "The quick brown fox jumps over the lazy dog."
OVERLOADED = error_response(503, {"error": {"message": "overloaded"}})
USAGE = {"prompt_tokens": 5, "completion_tokens": 2}


def statuses(c: Client, name: str) -> list[tuple[str, Any]]:
    """Return the status of each `turn.status` event of the turn, with its attempt or model."""
    events = [frame for frame in c.turns[name].frames if frame["type"] == "turn.status"]
    return [(frame["status"], frame.get("attempt") or frame.get("model")) for frame in events]


def broken(*deltas: dict[str, Any] | str, how: str = "fin") -> Script:
    """Return a Chat Completions stream that breaks off after these deltas."""
    whole = chat(*deltas, finish=None)
    script = Script(whole.blocks[:-1])
    size = sum(map(len, script.blocks))
    if how == "error":
        return Script((*script.blocks, sse({"error": {"message": "The server had an error.", "type": "server_error"}})))
    if how == "overloaded":
        return Script((*script.blocks, sse({"error": {"message": "overloaded", "type": "overloaded_error"}})))
    if how == "timeout":
        return Script((*script.blocks, b": never\n\n")).replace(stall_after=len(script.blocks))
    return script.replace(cut=size, cut_by=how)


def broken_messages(*texts: str) -> Script:
    """Return an Anthropic stream that breaks off after these texts."""
    script = Script(messages(*texts).blocks[: 2 + len(texts)])
    return script.replace(cut=sum(map(len, script.blocks)))


async def metrics(gateway: GatewayProcess) -> str:
    """Return the metrics of the gateway."""
    async with httpx2.AsyncClient() as http:
        return (await http.get(gateway.url + "/metrics")).text


def check(view: TurnView, text: str = WHOLE) -> dict[str, Any]:
    """Check that the turn is complete, in one text part, and that its events are numbered without a gap."""
    assert view.ended is not None
    assert (view.ended["type"], view.text()) == ("turn.completed", text)
    assert [frame["kind"] for frame in view.frames if frame["type"] == "turn.part"] == ["text"]
    return view.ended


@pytest.mark.parametrize("how", ["fin", "rst", "error", "overloaded", "timeout"])
async def test_an_answer_that_breaks_off_is_continued(tmp_path: Path, how: str) -> None:
    """However the provider fails after its first words, the same model is asked to go on from them. The client gets the
    whole text once, the message has it, and usage is that of both requests."""
    settings = {"TURNWIRE_EVENT_TIMEOUT_S": "0.5", "TURNWIRE_METRICS": "public"}
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path, **settings) as (gateway, c):
        upstream.play(broken("The quick", " brown", how=how), chat(" fox jumps", " over the lazy dog.", usage=USAGE))
        ended = check(await run_turn(c, "t", "kimi/some-model", params={"max_tokens": 1000}))
        assert statuses(c, "t") == [("continued", "kimi/some-model")]
        first, second = (received.body for received in upstream.requests)
        assert second["messages"] == [
            *first["messages"],
            {"role": "assistant", "content": "The quick brown", "partial": True},
        ]
        assert (first["max_tokens"], second["max_tokens"]) == (1000, 996)
        assert ended["timing"]["attempts"] == 2
        # The first request is estimated: 2 tokens of input, and 4 of output.
        assert ended["usage"] == {"input_tokens": 7, "output_tokens": 6, "estimated": True}
        got = await c.request("turn.get", turn="t")
        assert got["message"]["parts"] == [{"kind": "text", "text": WHOLE}]
        assert value(await metrics(gateway), "turnwire_continuations_total", outcome="completed") == 1


async def test_a_client_continues_an_answer_that_was_cut(tmp_path: Path) -> None:
    """A start with `continue` sends the text so far as the start of the answer, removes what the model repeats, and counts its
    own request only. `max_tokens` bounds the rest alone. A failure of that request is the turn's error, and the earlier text
    is kept. `models.list` and the error of a model that can't go on say so."""
    async with (
        Upstream() as upstream,
        gateway_with_upstream(upstream, tmp_path, TURNWIRE_METRICS="public") as (gateway, c),
    ):
        upstream.play(
            chat("The quick", " brown", finish="length"), chat("brown fox jumps", " over the lazy dog.", usage=USAGE)
        )
        cut = (await run_turn(c, "t", "kimi/some-model")).ended
        assert cut is not None
        assert cut["finish_reason"] == "length"
        got = await c.request("turn.get", turn="t")
        fields = {"conversation": got["conversation"], "parent": cut["message"], "continue": True}
        await c.request("turn.start", turn="u", params={"max_tokens": 100}, **fields)
        await c.ending("u")
        ended = check(c.turns["u"])
        assert statuses(c, "u") == [("continued", "kimi/some-model")]
        first, second = (received.body for received in upstream.requests)
        assert second["messages"] == [
            *first["messages"],
            {"role": "assistant", "content": "The quick brown", "partial": True},
        ]
        assert (second["max_tokens"], ended["timing"]["attempts"]) == (100, 1)
        assert ended["usage"] == {"input_tokens": 5, "output_tokens": 2}
        upstream.play(error_response(400, {"error": {"message": "no"}}))
        await c.request("turn.start", turn="v", **fields)
        failed = await c.ending("v")
        assert (failed["type"], failed["error"]["code"]) == ("turn.failed", "invalid_request")
        assert c.turns["v"].text() == "The quick brown"
        with pytest.raises(RequestFailed) as refused:
            await c.request("turn.start", turn="w", model="openai/some-model", **fields)
        assert (refused.value.error["code"], refused.value.error["path"]) == ("unsupported", "continue")
        assert "models.list" in refused.value.error["message"]
        models = {one["id"]: one["continues"] for one in (await c.request("models.list"))["models"]}
        assert (models["demo"], models["gpt-6-sol"], models["claude-haiku-4-5"]) == (True, False, True)
        assert value(await metrics(gateway), "turnwire_continuations_total", outcome="completed") in {None, 0}


FORMS: dict[str, dict[str, Any]] = {
    "kimi": {"last": {"partial": True}},
    "mistral": {"last": {"prefix": True}},
    "deepseek": {
        "last": {"prefix": True},
        "path": "/beta/chat/completions",
        "body": {"thinking": {"type": "disabled"}},
    },
    "qwen": {"last": {"partial": True}, "body": {"enable_thinking": False}},
    "ollama": {},
    "groq": {},
    "vllm": {"body": {"continue_final_message": True, "add_generation_prompt": False}},
}


@pytest.mark.parametrize("provider", FORMS)
async def test_each_providers_form_of_a_prefix(tmp_path: Path, provider: str) -> None:
    """The last message is the start of the answer, marked as the provider documents it."""
    form = FORMS[provider]
    variables = {"qwen": "DASHSCOPE"}
    prefix = variables.get(provider, provider.upper())
    async with Upstream() as upstream:
        settings = {f"{prefix}_API_KEY": "k", f"{prefix}_BASE_URL": upstream.openai_url}
        async with gateway_with_upstream(upstream, tmp_path, **settings) as (_, c):
            # Mistral's answers repeat the prefix.
            rest = WHOLE if provider == "mistral" else " fox jumps over the lazy dog."
            upstream.play(broken("The quick", " brown"), chat(rest))
            model = {"qwen": "qwen3.8-max", "deepseek": "deepseek-v4-pro"}.get(provider, f"{provider}/some-model")
            check(await run_turn(c, "t", model))
            request = upstream.requests[1]
            assert request.body["messages"][-1] == {
                "role": "assistant",
                "content": "The quick brown",
                **form.get("last", {}),
            }
            assert request.path == form.get("path", "/v1/chat/completions")
            assert form.get("body", {}).items() <= request.body.items()


async def test_an_older_claude_continues_a_prefix(tmp_path: Path) -> None:
    """The start of the answer is the last message, without a blank at its end, and without thinking. A newer model, which
    refuses a prefix, isn't asked."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(broken_messages("The quick ", "brown "), messages(" fox jumps over", " the lazy dog."))
        ended = check(await run_turn(c, "t", "claude-haiku-4-5", params={"reasoning": "high"}))
        assert upstream.requests[0].body["thinking"]["type"] == "enabled"
        body = upstream.requests[1].body
        assert body["thinking"] == {"type": "disabled"}
        assert body["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "The quick brown"}]}
        assert ended["usage"]["input_tokens"] == 6
        upstream.play(broken_messages("The quick ", "brown "))
        failed = (await run_turn(c, "u", "claude-opus-5-5")).ended
        assert failed is not None
        assert (failed["error"]["code"], len(upstream.requests)) == ("upstream_incomplete", 3)


MODELS = """
continue = "{default}"

[[models]]
id = "first"
provider = "{provider}"
{more}
fallbacks = ["second"]

[[models]]
id = "second"
provider = "kimi"
price = {{ input = "1", output = "2" }}
"""


def models(folder: Path, default: str, provider: str = "openai", more: str = "") -> dict[str, str]:
    (folder / "models.toml").write_text(MODELS.format(default=default, provider=provider, more=more))
    return {"TURNWIRE_MODELS": str(folder / "models.toml")}


MAKERS: dict[str, tuple[Callable[..., Script], int]] = {
    "openai_chat": (chat, 2),
    "openai_responses": (responses, 5),
    "anthropic": (messages, 4),
}
"""For each dialect, the function that makes an answer of texts, and the number of its blocks up to the second text."""


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic"])
@pytest.mark.parametrize("reply", ["The quick brown fox jumps over the lazy dog.", "fox jumps over the lazy dog."])
async def test_a_model_continues_by_an_instruction(tmp_path: Path, dialect: str, reply: str) -> None:
    """Where the operator allows it, a model that takes no prefix is told what was said, and asked to go on. It may
    repeat the last words or not."""
    more = f'dialect = "{dialect}"\ncontinue = "instruct"'
    provider = "anthropic" if dialect == "anthropic" else "openai"
    make, begun = MAKERS[dialect]
    first = make("The quick", " brown")
    cut = first.replace(cut=sum(map(len, first.blocks[:begun])))
    settings = models(tmp_path, "", provider, more)
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path, **settings) as (_, c):
        upstream.play(cut, make(reply))
        check(await run_turn(c, "t", "first"))
        body = upstream.requests[1].body
        *_, said, asked = body.get("messages") or body["input"]
        assert (said["role"], asked["role"]) == ("assistant", "user")
        assert "The quick brown" in str(said["content"])
        assert "Continue exactly where this answer broke off" in str(asked["content"])
        assert "<<<The quick brown>>>" in str(asked["content"])


@pytest.mark.parametrize("default", ["", "off"])
async def test_a_fallback_continues(tmp_path: Path, default: str) -> None:
    """If the model takes no prefix, the first fallback that does continues the answer, whose message then names the
    fallback. The cost is the sum of both. With `continue = "off"`, the turn fails and keeps what was said."""
    price = 'price = { input = "1000", output = "0" }'
    settings = models(tmp_path, default, more=price)
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path, **settings) as (_, c):
        upstream.play(broken("The quick", " brown"), chat(" fox jumps over the lazy dog.", usage=USAGE))
        view = await run_turn(c, "t", "first")
        if default == "off":
            assert view.ended is not None
            assert (view.ended["error"]["code"], view.text()) == ("upstream_incomplete", "The quick brown")
            return
        ended = check(view)
        assert statuses(c, "t") == [("continued", "second")]
        assert ended["cost"] == {"amount": "0.002009", "currency": "USD"}  # 2 tokens at $1000, and 5 + 2 * 2 at $1
        assert (await c.request("turn.get", turn="t"))["message"]["model"] == "second"


async def test_the_same_model_then_the_fallback(tmp_path: Path) -> None:
    """If the same model can't be reached any more, the fallback is asked, with what was said."""
    settings = models(tmp_path, "", "glm", 'continue = "instruct"') | {"TURNWIRE_PROVIDER_ATTEMPTS": "1"}
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path, **settings) as (_, c):
        upstream.play(broken("The quick", " brown"), OVERLOADED, chat(" fox jumps over the lazy dog."))
        ended = check(await run_turn(c, "t", "first"))
        assert statuses(c, "t") == [("continued", "first"), ("continued", "second")]
        assert ended["timing"]["attempts"] == 3


@pytest.mark.parametrize("refusal", [OVERLOADED, error_response(400, {"error": {"message": "no prefix here"}})])
async def test_a_continuation_that_is_refused(tmp_path: Path, refusal: Script) -> None:
    """If no model continues the answer, the turn fails with the error that broke it off, and keeps its text and
    usage."""
    settings = {"TURNWIRE_PROVIDER_ATTEMPTS": "1", "TURNWIRE_METRICS": "public"}
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path, **settings) as (gateway, c):
        upstream.play(broken("The quick", " brown", how="overloaded"), refusal)
        view = await run_turn(c, "t", "kimi/some-model")
        assert view.ended is not None
        assert (view.ended["error"]["code"], view.text()) == ("upstream_overloaded", "The quick brown")
        assert view.ended["usage"] == {"input_tokens": 2, "output_tokens": 4, "estimated": True}
        assert value(await metrics(gateway), "turnwire_continuations_total", outcome="failed") == 1


async def test_an_answer_is_continued_once(tmp_path: Path) -> None:
    """If the continuation breaks off too, the turn fails and keeps the text of both."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(broken("The quick", " brown"), broken(" fox", " jumps"))
        view = await run_turn(c, "t", "kimi/some-model")
        assert view.ended is not None
        assert (view.ended["error"]["code"], view.text()) == ("upstream_incomplete", "The quick brown fox jumps")
        assert len(upstream.requests) == 2
        assert view.ended["usage"]["output_tokens"] == 4 + 3


async def test_nothing_was_missing(tmp_path: Path) -> None:
    """If the answer broke off after its last word, the rest is empty but for the token that ends it."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(broken("The quick", " brown"), chat(usage=USAGE))
        check(await run_turn(c, "t", "kimi/some-model"), "The quick brown")
        upstream.play(broken_messages("The quick ", "brown"), messages())
        check(await run_turn(c, "u", "claude-haiku-4-5"), "The quick brown")


@pytest.mark.parametrize("code", [401, 402, 429])
@pytest.mark.parametrize("begun", ["The quick brown", {"reasoning_content": "Hm."}])
async def test_a_key_that_is_refused_in_mid_answer(tmp_path: Path, code: int, begun: dict[str, Any] | str) -> None:
    """If a rate limit or a rejected key breaks an answer off, the next request has the other key."""
    failure = sse({"error": {"code": code, "message": "no more"}})
    keys = {"MOONSHOT_API_KEY": "key-one,key-two"}
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path, **keys) as (_, c):
        first = broken(begun)
        rest = chat(" fox jumps over the lazy dog." if isinstance(begun, str) else WHOLE)
        upstream.play(Script((*first.blocks, failure)), rest)
        view = await run_turn(c, "t", "kimi/some-model")
        assert (view.ended or {})["type"] == "turn.completed"
        assert view.text() == WHOLE
        one, two = (received.headers["authorization"] for received in upstream.requests)
        assert one != two


async def test_a_restart_waits_for_a_limited_key(tmp_path: Path) -> None:
    """If the only key has to wait, the reasoning is withdrawn once, before the wait is reported."""
    failure = sse({"error": {"code": 429, "message": "Slow down. Please try again in 0.5s."}})
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(Script((*broken({"reasoning_content": "Hm."}).blocks, failure)), chat(WHOLE))
        view = await run_turn(c, "t", "kimi/some-model")
        assert ((view.ended or {})["type"], view.text(), view.resets) == ("turn.completed", WHOLE, 1)
        assert [status for status in statuses(c, "t") if status[0] != "waiting"] == [("retrying", 2)]


async def test_the_room_for_a_fallbacks_rest(tmp_path: Path) -> None:
    """A fallback whose output limit is smaller than what was already said gets its whole limit for the rest."""
    settings = models(tmp_path, "") | {"TURNWIRE_PROVIDER_ATTEMPTS": "1"}
    with (tmp_path / "models.toml").open("a") as file:
        file.write("max_output = 500\n")
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path, **settings) as (_, c):
        upstream.play(broken("word " * 2000, " brown"), chat(" fox"))
        view = await run_turn(c, "t", "first", params={"max_tokens": 10_000})
        assert (view.ended or {})["type"] == "turn.completed"
        assert upstream.requests[1].body["max_tokens"] == 500
        assert view.ended is not None
        assert view.ended["usage"]["input_tokens"] > 2000  # the second request holds what was said


CALL = {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a":'}}]}
WHOLE_CALL = {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a": 1}'}}]}


@pytest.mark.parametrize("call", [CALL, WHOLE_CALL])
async def test_a_tool_call_is_never_continued(tmp_path: Path, call: dict[str, Any]) -> None:
    """If an answer with a tool call breaks off, the turn fails, even if the call is whole."""
    tools = [{"name": "f", "parameters": {"type": "object"}}]
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(broken("Wait.", call))
        view = await run_turn(c, "t", "kimi/some-model", tools=tools)
        assert view.ended is not None
        assert view.ended["error"]["code"] == "upstream_incomplete"
        assert (len(upstream.requests), statuses(c, "t")) == (1, [])


async def test_enforced_json_is_not_continued(tmp_path: Path) -> None:
    """JSON that the provider enforces isn't continued, because the provider would begin it again."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(broken('{"a":', " 1"))
        view = await run_turn(c, "t", "kimi/some-model", params={"response_format": {"type": "json_object"}})
        assert view.ended is not None
        assert (view.ended["error"]["code"], len(upstream.requests)) == ("upstream_incomplete", 1)


@pytest.mark.parametrize("model", ["kimi/some-model", "openai/some-model"])
async def test_an_answer_without_a_word_starts_again(tmp_path: Path, model: str) -> None:
    """If only reasoning arrived, the same request is sent again after a `turn.reset`, even if the model takes no
    prefix."""
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (gateway, c):
        upstream.play(broken({"reasoning_content": "Hm, let me think."}), chat(WHOLE, usage=USAGE))
        view = await run_turn(c, "t", model)
        assert view.ended is not None
        assert (view.ended["type"], view.text(), view.resets) == ("turn.completed", WHOLE, 1)
        assert statuses(c, "t") == [("retrying", 2)]
        first, second = (received.body for received in upstream.requests)
        assert first == second
        assert view.ended["usage"]["output_tokens"] == 2 + 5
        got = await c.request("turn.get", turn="t")
        assert got["message"]["parts"] == [{"kind": "text", "text": WHOLE}]
        async with client(gateway.ws_url) as late:
            await late.request("turn.attach", turn="t")
            await late.ending("t")
            assert late.turns["t"].text() == WHOLE


@pytest.mark.parametrize("when", ["before the answer", "in the seam"])
async def test_law_5_a_cancel_while_an_answer_is_continued(tmp_path: Path, when: str) -> None:
    """A cancel stops the continuation at once: before its first byte, and while its first words are held back."""
    slow = chat("quick brown", " x").replace(**({"delay_s": 60} if when == "before the answer" else {"stall_after": 1}))
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (_, c):
        upstream.play(broken("The quick", " brown"), slow)
        await c.request("turn.start", turn="t", input="x", model="kimi/some-model")
        received = await upstream.wait_for_request(2)
        await asyncio.sleep(0.3)
        async with asyncio.timeout(5):
            assert await c.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
            ended = await c.ending("t")
            await received.disconnected.wait()
        assert (ended["type"], c.turns["t"].text()) == ("turn.cancelled", "The quick brown")


async def test_a_continuation_ends_at_the_turns_time_limit(tmp_path: Path) -> None:
    """The time limit of the turn includes the continuation."""
    settings = {"TURNWIRE_TURN_TIMEOUT_S": "8"}
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path, **settings) as (_, c):
        upstream.play(broken("The quick", " brown"), chat(" fox", " jumps").replace(stall_after=1))
        view = await run_turn(c, "t", "kimi/some-model")
        assert view.ended is not None
        assert (view.ended["type"], view.ended["by"], view.text()) == (
            "turn.cancelled",
            "limit",
            "The quick brown fox",
        )
        assert 7900 <= view.ended["timing"]["total_ms"] < 20_000


@pytest.mark.parametrize("model", ["kimi/some-model", "openai/some-model", "first"])
async def test_law_9_a_takeover_continues_the_answer(tmp_path: Path, model: str) -> None:
    """After SIGKILL of the owner in the middle of an answer, the other instance asks the model to go on, or a fallback
    that can. Without one, the turn ends with `owner_lost`."""
    with redis_process(tmp_path / "redis") as redis:
        async with Upstream() as upstream:
            settings = models(tmp_path, "") | {
                "OPENAI_API_KEY": "k",
                "KIMI_API_KEY": "k",
                "OPENAI_BASE_URL": upstream.openai_url,
                "KIMI_BASE_URL": upstream.openai_url,
                "TURNWIRE_LEASE_S": "1",
            }
            async with (
                gateway_process(tmp_path, settings, store=redis.url) as one,
                gateway_process(tmp_path, settings, store=redis.url) as two,
                client(two.ws_url) as there,
            ):
                upstream.play(
                    chat("The quick", " brown ", "never").replace(stall_after=2),
                    chat("brown fox jumps over the lazy dog.", usage=USAGE),
                )
                async with client(one.ws_url) as here:
                    await here.request("turn.start", turn="t", input="Hello", model=model)
                    await there.request("turn.attach", turn="t")
                    await there.until(lambda: "t" in there.turns and there.turns["t"].text() == "The quick brown ")
                    one.process.kill()
                ended = await there.ending("t")
                if model == "openai/some-model":
                    assert (ended["error"]["code"], len(upstream.requests)) == ("owner_lost", 1)
                    return
                check(there.turns["t"])
                by = "second" if model == "first" else model
                assert [status for status, _ in statuses(there, "t")] == ["resumed", "continued"]
                assert statuses(there, "t")[1] == ("continued", by)
                assert there.turns["t"].resets == 0
                assert ended["usage"] == {"input_tokens": 7, "output_tokens": 6, "estimated": True}
                got = await there.request("turn.get", turn="t")
                assert (got["message"]["parts"], got["model"]) == ([{"kind": "text", "text": WHOLE}], by)
