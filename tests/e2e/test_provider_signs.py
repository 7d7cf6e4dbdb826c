"""A gateway process whose provider sends signs of life, or errors in its own words."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest

from tests.client import client
from tests.gateway_process import gateway_process
from tests.metrics import value
from tests.upstream import Upstream, chat, error_response, sse

pytestmark = pytest.mark.e2e

SIGNS = 300_000
SENTENCE = "zirconium walruses juggle"


def environment(upstream: Upstream) -> dict[str, str]:
    """Return the variables of a gateway whose provider Kimi is `upstream`."""
    return {
        **{"TURNWIRE_LOG_FORMAT": "json", "TURNWIRE_LOG_LEVEL": "debug"},
        **{"KIMI_API_KEY": "sk-kimi", "KIMI_BASE_URL": upstream.openai_url},
    }


async def test_a_flood_of_signs_of_life(tmp_path: Path) -> None:
    """Hundreds of thousands of events without a chunk are skipped and counted, and another turn isn't affected."""
    async with Upstream() as upstream, gateway_process(tmp_path, environment(upstream)) as gateway:
        first, *rest = chat("Hello, ", "you.").blocks
        upstream.play(chat().replace(blocks=(first, sse("null") * SIGNS, *rest), write="whole"))
        async with client(gateway.ws_url) as c:
            await c.request("turn.start", turn="near", input="x", params={"demo": {"rate": 50, "tokens": 60}})
            await c.request("turn.start", turn="t", input="x", model="kimi/any")
            assert (await c.ending("t"))["type"] == "turn.completed"
            assert c.turns["t"].text() == "Hello, you."
            assert (await c.ending("near"))["type"] == "turn.completed"
        async with httpx2.AsyncClient() as http:
            metrics = (await http.get(f"{gateway.url}/metrics")).text
    assert value(metrics, "turnwire_provider_skipped_events_total", provider="kimi") == SIGNS


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": {"message": f"The model has been retired. {SENTENCE}"}}, "model_not_found"),
        (410, {"title": "Gone", "detail": f"{SENTENCE} has reached its end of life"}, "model_not_found"),
        (400, {"message": f"Input is too long for requested model. {SENTENCE}"}, "context_length_exceeded"),
        (400, {"error": {"message": f"Bad value: {SENTENCE}", "type": "invalid_request_error"}}, "invalid_request"),
        (400, {"error": True, "message": f"unsupported {SENTENCE}"}, "unsupported"),
    ],
)
async def test_a_refusal_in_the_providers_words(tmp_path: Path, status: int, body: object, code: str) -> None:
    """A refused request is sent only once, even if the provider says to retry, and costs nothing. No word of the
    refusal is in the log or the error."""
    async with Upstream() as upstream, gateway_process(tmp_path, environment(upstream)) as gateway:
        retry = {"x_should_retry": "true"} if code in ("model_not_found", "context_length_exceeded") else {}
        upstream.play(error_response(status, body, **retry))
        async with client(gateway.ws_url) as c:
            await c.request("turn.start", turn="t", input="x", model="kimi/any")
            ended = await c.ending("t")
        assert ended["error"]["code"] == code
        assert ended["usage"] == {"input_tokens": 0, "output_tokens": 0}
        assert len(upstream.requests) == 1
    said = "".join(gateway.log) + json.dumps(ended)
    for word in SENTENCE.split():
        assert word not in said
