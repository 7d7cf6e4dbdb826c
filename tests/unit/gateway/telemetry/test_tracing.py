"""Tests of tracing: the parents, names and attributes of the spans that a collector receives over HTTP, none of which
contains content, and a gateway that doesn't trace."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.telemetry.tracing import open_tracing
from store.api import user_hash
from tests.client import RequestFailed, client
from tests.gateway_process import gateway_process
from tests.in_process import SLOW
from tests.upstream import Upstream, chat, error_response
from tests.web_server import web_server

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
CANARY = "canary-5c1d"


class Collector:
    """An OTLP/HTTP collector that stores what it receives."""

    def __init__(self) -> None:
        self.url = ""
        self.raw = b""
        self.services: set[str] = set()
        self.spans: list[Any] = []

    async def receive(self, request: web.Request) -> web.Response:
        """Handle `POST /v1/traces`."""
        body = await request.read()
        self.raw += body
        for of_one in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {one.value.string_value for one in of_one.resource.attributes if one.key == "service.name"}
            self.spans += [span for scope in of_one.scope_spans for span in scope.spans]
        return web.Response()

    def named(self, name: str) -> list[Any]:
        """Return the spans of this name, by start time."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start_time_unix_nano)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A collector on a free port."""
    receiver = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", receiver.receive)
    async with web_server(app) as origin:
        receiver.url = origin
        yield receiver


def attributes(span: Any) -> dict[str, Any]:
    """Return a span's attributes."""
    kinds = {one.key: (one.value.WhichOneof("value"), one.value) for one in span.attributes}
    return {key: getattr(value, kind) for key, (kind, value) in kinds.items()}


async def test_a_turn_and_its_attempts_are_spans(collector: Collector, tmp_path: Path) -> None:
    """The turn's span is a child of the caller's, and each attempt's span is a child of the turn's.

    Spans have names, token counts and error codes, but no content.
    """
    async with Upstream() as upstream:
        usage = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16, "cached_tokens": 4}
        upstream.play(error_response(500, {"error": {"message": CANARY}}), chat(*[CANARY] * 50, usage=usage))
        environment = {
            **{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "KIMI_API_KEY": CANARY},
            "KIMI_BASE_URL": upstream.openai_url,
        }
        async with gateway_process(tmp_path, environment) as gateway:
            async with client(gateway.ws_url, additional_headers=PARENT) as c:
                await c.request("turn.start", turn="t", input=CANARY, model="kimi/any")
                assert (await c.ending("t"))["type"] == "turn.completed"
                await c.request("turn.start", turn="u", input=CANARY, params={"demo": SLOW})
                await c.until_seq("u", 1)
                await c.request("turn.cancel", turn="u")
                await c.ending("u")
            async with httpx2.AsyncClient() as http:
                body = {"turn": "v", "input": "Hi", "params": {"demo": {"fail": "mid"}}}
                await http.post(f"{gateway.url}/v1/turns", json=body, headers=PARENT)
    turns = {attributes(span)["turnwire.turn"]: span for span in collector.named("turn")}
    assert set(turns) == {"t", "u", "v"}
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert {span.parent_span_id.hex() for span in turns.values()} == {"b7ad6b7169203331"}
    failed, answered = collector.named("chat")
    assert failed.parent_span_id == answered.parent_span_id == turns["t"].span_id
    assert attributes(answered) == {
        **{"gen_ai.operation.name": "chat", "gen_ai.provider.name": "kimi", "gen_ai.request.model": "any"}
    }
    assert attributes(failed)["error.type"] == "upstream_error"
    assert (failed.status.code, answered.status.code) == (2, 0)
    values = attributes(turns["t"])
    assert (values["gen_ai.usage.input_tokens"], values["gen_ai.usage.output_tokens"]) == (7, 9)
    assert values["gen_ai.usage.cache_read.input_tokens"] == 4
    assert (values["turnwire.status"], values["user.id"]) == ("completed", "local")
    assert attributes(turns["u"])["turnwire.status"] == "cancelled"
    assert attributes(turns["v"])["error.type"] == "upstream_error"
    assert turns["v"].status.code == 2
    assert collector.services == {"turnwire"}
    assert CANARY.encode() not in collector.raw
    assert len(collector.spans) < 10, "there is no span per token"


async def test_a_spans_name_is_never_from_a_client(collector: Collector, tmp_path: Path) -> None:
    """A span's name contains a model only if the catalog lists it. Any other model is only in an attribute, whose length
    is bounded."""
    async with Upstream() as upstream:
        environment = {
            **{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "KIMI_API_KEY": "k"},
            "KIMI_BASE_URL": upstream.openai_url,
        }
        models = ["kimi-k2.6", *(f"kimi/made-up-{n}" for n in range(5)), f"kimi/{'x' * 195}"]
        async with gateway_process(tmp_path, environment) as gateway, client(gateway.ws_url) as c:
            for number, model in enumerate(models):
                upstream.play(chat("Hello"))
                await c.request("turn.start", turn=f"t{number}", input=CANARY, model=model)
                assert (await c.ending(f"t{number}"))["type"] == "turn.completed"
            with pytest.raises(RequestFailed, match="invalid_request"):
                await c.request("turn.start", input=CANARY, model=f"kimi/{'x' * 30_000}")
    assert {span.name for span in collector.spans} == {"turn", "chat", "chat kimi-k2.6"}
    values = [value for span in collector.spans for value in attributes(span).values() if isinstance(value, str)]
    assert max(map(len, values)) == 200
    assert len(collector.spans) == 2 * len(models)


def test_nothing_is_imported_without_an_endpoint() -> None:
    """Without tracing, the OpenTelemetry packages aren't loaded."""
    code = (
        "import sys; from gateway.app import Gateway; from gateway.settings import Settings; "
        "Gateway(Settings(store='sqlite:///:memory:'), {}); print([m for m in sys.modules if 'opentelemetry' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_extra_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The gateway runs without traces, and a warning says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert open_tracing("http://127.0.0.1:4318", []) is None
    assert "turnwire[otel]" in caplog.text
    assert "pip install" not in caplog.text  # an index may have another package of this name


async def test_a_span_has_no_name_of_a_user_if_users_are_hashed(collector: Collector) -> None:
    """The setting for the log applies to traces too."""
    tracing = open_tracing(collector.url, [], "hash")
    assert tracing is not None
    tracing.start_turn("ann", "t", None, "m").end("completed", "m", None, None, None)
    await asyncio.to_thread(tracing.shutdown)
    (span,) = collector.named("turn")
    assert attributes(span)["user.hash"] == user_hash("ann")
    assert "user.id" not in attributes(span)
