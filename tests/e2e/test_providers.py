"""Every provider of the catalog over real HTTP with its real SDK: the request that it gets, and the result of its
response."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from providers.base import Usage
from providers.catalog.schema import shipped_rows
from tests.answers import Answer, recordings
from tests.client import RequestFailed, client
from tests.gateway_process import gateway_process
from tests.provider_shapes import RECORDED, SHAPES, Shape
from tests.recorded import MODES, load, replayed
from tests.unit.providers.openai.test_chat import RECORDED as EXPECTED
from tests.upstream import ReceivedRequest, Upstream, chat, error_response, sse
from tests.upstream_providers import KEY, addresses, every_key, open_providers

pytestmark = pytest.mark.e2e


def check_request(received: ReceivedRequest, shape: Shape) -> None:
    """Check path, key, headers and body of a received request."""
    assert received.path == shape.path
    # Foundry's and Azure's SDKs send the key in another header.
    seen = [received.headers.get(name, "") for name in ("authorization", "api-key", "x-api-key")]
    assert {f"Bearer {KEY}", KEY} & set(seen)
    for name, value in shape.headers.items():
        assert received.headers[name] == value
    for name, value in shape.sent.items():
        assert received.body.get(name) == value, name
    assert not set(shape.unsent) & set(received.body)


def test_every_provider_of_the_catalog_is_tested() -> None:
    """A provider that is added to the catalog must be added to `SHAPES`."""
    assert set(shipped_rows().providers) - {"demo"} <= set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("mode", ["event", "whole", "pieces"])
async def test_an_answer_with_a_catalog_row(name: str, mode: str) -> None:
    """With the row's dialect and quirks, the provider gets the expected request, and its answer has the expected
    result, however the response is split."""
    shape = SHAPES[name]
    async with open_providers() as (upstream, providers):
        upstream.play(replayed(shape.script, mode))
        answer: Answer = await providers.answer_model(shape.model, **shape.params)
        assert (answer.error, answer.finish) == (None, shape.finish)
        assert (answer.text(), answer.text("reasoning")) == (shape.text, shape.reasoning)
        assert answer.usage == shape.usage
        (received,) = upstream.requests
        check_request(received, shape)


@pytest.mark.parametrize("file", RECORDED)
async def test_a_recorded_stream_with_its_catalog_row(file: str) -> None:
    """A recorded response of a provider has the expected result with the provider's row of the catalog."""
    recordings()
    expected = EXPECTED[file]
    if file.startswith("xai-") and expected.usage is not None and expected.usage.reasoning_tokens is not None:
        # xAI doesn't count reasoning tokens as output; its row adds them.
        whole = expected.usage.output_tokens + expected.usage.reasoning_tokens
        expected = replace(expected, usage=msgspec.structs.replace(expected.usage, output_tokens=whole))
    async with open_providers() as (upstream, providers):
        for mode in MODES:
            upstream.play(replayed(load(file, "openai-chat"), mode))
            expected.check(await providers.answer_model(RECORDED[file]))


async def test_azure_needs_only_its_endpoint() -> None:
    """If only the endpoint of an Azure resource is set, the rest of the path is added to it."""
    async with Upstream() as upstream:
        environment = {
            "AZURE_OPENAI_BASE_URL": "",
            "AZURE_OPENAI_API_KEY": KEY,
            "AZURE_OPENAI_ENDPOINT": upstream.url + "/",
        }
        async with open_providers(environment=environment) as (_, providers):
            assert (await providers.answer_model("azure/my-deployment")).text() == "Hello."
        assert upstream.requests[0].path == "/openai/v1/chat/completions"


async def test_no_provider_gets_the_headers_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that an SDK reads for its own provider aren't sent to other providers that use this SDK."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-canary")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-canary")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-secret: canary")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-canary")
    async with open_providers() as (upstream, providers):
        for name, shape in SHAPES.items():
            upstream.play(shape.script)
            await providers.answer_model(shape.model)
            seen = repr(upstream.requests[-1].headers)
            assert "token-canary" not in seen, name
            assert ("org-canary" in seen) == ("proj-canary" in seen) == name.startswith("openai"), name
            # The clouds' clients are part of Anthropic's SDK, and send its headers.
            assert ("x-secret" in seen) == (name in ("anthropic", "bedrock", "vertex", "foundry")), name


@pytest.mark.timeout(120)
async def test_turns_of_all_providers_through_the_gateway(tmp_path: Path) -> None:
    """Over the socket, each turn has the expected text, usage and end event, and no frame or log line has a key or
    a host."""
    async with Upstream() as upstream:
        environment = every_key() | addresses(upstream)
        async with gateway_process(tmp_path, environment) as gateway, client(gateway.ws_url) as c:
            for name, shape in SHAPES.items():
                upstream.play(shape.script)
                await c.request("turn.start", turn=name, input="Hello", model=shape.model, params=shape.params)
                ended = await c.ending(name)
                assert ended["type"] == "turn.completed", ended
                view = c.turns[name]
                assert (view.text(), view.text("reasoning")) == (shape.text, shape.reasoning), name
                assert usage_of(ended) == shape.usage, name
                check_request(upstream.requests[-1], shape)
            everything = "".join(gateway.log) + repr(c.frames)
            assert KEY not in everything
            assert upstream.url.split("//")[1] not in everything


def usage_of(ended: dict[str, Any]) -> Usage:
    """Return the usage of an end event."""
    return msgspec.convert(ended["usage"], Usage)


async def test_a_provider_of_the_operators_models_file(tmp_path: Path) -> None:
    """A few lines in the operator's models file add a provider at any URL."""
    async with Upstream() as upstream:
        file = tmp_path / "models.toml"
        file.write_text(
            f"""
            [providers.acme]
            base_url = "{upstream.url}/api/v7"
            keys = ["ACME_KEY"]
            headers = {{ "X-Team" = "{{ACME_TEAM}}" }}
            """,
            encoding="utf-8",
        )
        environment = {"TURNWIRE_MODELS": str(file), "ACME_KEY": KEY, "ACME_TEAM": "chat"}
        async with gateway_process(tmp_path, environment) as gateway, client(gateway.ws_url) as c:
            upstream.play(chat("Hello"))
            await c.request("turn.start", turn="t", input="Hi", model="acme/any/model")
            assert (await c.ending("t"))["type"] == "turn.completed"
            (received,) = upstream.requests
            assert (received.path, received.body["model"]) == ("/api/v7/chat/completions", "any/model")
            assert (received.headers["x-team"], received.headers["authorization"]) == ("chat", f"Bearer {KEY}")


CANARY = "canary7f3a"
CANARIES = [
    error_response(400, {"error": {"message": f"{CANARY} is wrong", "param": f"{CANARY}.internal.example"}}),
    error_response(401, {"error": {"message": f"Incorrect key {KEY} of {CANARY}", "type": f"{CANARY} type"}}),
    error_response(500, f"<html>{CANARY} at host-{CANARY}.internal</html>"),
    error_response(200, {"error": {"message": CANARY}}),
    chat("Hello", finish=None).replace(
        blocks=(*chat("Hello").blocks[:1], sse({"error": {"code": 500, "message": CANARY}}))
    ),
    chat("Hello").replace(blocks=(*chat("Hello").blocks[:1], f"{CANARY} is no event\n\n".encode())),
    chat("Hello").replace(blocks=(*chat("Hello").blocks[:1], sse(f"{{{CANARY}"))),
]


async def test_law_13_a_providers_error_text_isnt_passed_on(tmp_path: Path) -> None:
    """Law 13: the text of a provider's error is neither sent to a client nor logged, even at level debug."""
    async with Upstream() as upstream:
        environment = every_key() | addresses(upstream) | {"TURNWIRE_LOG_LEVEL": "debug"}
        async with gateway_process(tmp_path, environment) as gateway, client(gateway.ws_url) as c:
            for n, script in enumerate(CANARIES):
                upstream.play(script)
                await c.request("turn.start", turn=f"t{n}", input="Hi", model="openai/m")
                ended = await c.ending(f"t{n}")
                assert ended["type"] == "turn.failed", ended
            everything = "".join(gateway.log) + repr(c.frames)
            for secret in (CANARY, KEY, upstream.url.split("//")[1]):
                assert secret not in everything


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"model": "kmi-k3"}, "model_not_found", "Did you mean kimi-k3"),
        ({"model": "gpt-6-sol"}, "upstream_auth", "requires OPENAI_API_KEY. Set it where the gateway runs"),
        ({"model": "kimi-k3", "params": {"temperature": 3}}, "invalid_request", "temperature"),
        ({"model": "claude-haiku-4-5", "params": {"max_tokens": 64_001}}, "invalid_request", "64000"),
        ({"model": "kimi-k3", "params": {"reasoning": "very"}}, "invalid_request", "reasoning"),
        ({"model": "kimi-k3", "params": {"max_tokens": 0}}, "invalid_request", "max_tokens"),
    ],
)
async def test_an_invalid_request_isnt_sent_to_the_provider(
    tmp_path: Path, fields: dict[str, Any], code: str, words: str
) -> None:
    """For an unknown model, a model without a key, or a parameter out of range, the client gets an error and the
    provider no request."""
    async with Upstream() as upstream:
        environment = {"KIMI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY} | addresses(upstream)
        async with gateway_process(tmp_path, environment) as gateway, client(gateway.ws_url) as c:
            with pytest.raises(RequestFailed) as caught:
                await c.request("turn.start", turn="t", input="Hi", **fields)
            error = caught.value.error
            assert error["code"] == code, error
            assert words in error["message"] + error.get("path", "")
            assert not upstream.requests


async def test_a_refused_key_suggests_another_region(tmp_path: Path) -> None:
    """The error of a refused key names the model prefix and key variable of the other region, and the variable that
    sets the provider's URL."""
    async with Upstream() as upstream:
        environment = {"KIMI_API_KEY": KEY, "KIMI_BASE_URL": upstream.openai_url}
        async with gateway_process(tmp_path, environment) as gateway, client(gateway.ws_url) as c:
            upstream.play(error_response(401, {"error": {"message": "Invalid Authentication"}}))
            await c.request("turn.start", turn="t", input="Hi", model="kimi-k3")
            error = (await c.ending("t"))["error"]
            assert (error["code"], error["retryable"]) == ("upstream_auth", False)
            assert "use kimi-cn/MODEL with KIMI_CN_API_KEY, or set KIMI_BASE_URL" in error["message"]
