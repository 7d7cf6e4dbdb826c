"""OpenAI Chat Completions against a gateway process, with OpenAI's own SDK."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.demo import expected
from tests.gateway_process import GatewayProcess, gateway_process
from tests.http_events import http_client
from tests.late_imports import LateImport
from tests.world import world

if TYPE_CHECKING:
    import openai
else:
    openai = LateImport("openai")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SCRIPT = {"thinking": 3, "tokens": 30, "rate": 0}


@pytest.fixture
async def sdk(gateway: GatewayProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def http(gateway: GatewayProcess) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(gateway.url) as client:
        yield client


async def test_a_stream_has_the_text_of_the_turn(sdk: openai.AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    """The id of the completion is the id of the turn, which our own protocol can read."""
    stream = await sdk.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "Hello"}],
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"demo": SCRIPT},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == expected("Hello", SCRIPT)
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    turn = stream.response.headers["turnwire-turn"]
    assert {chunk.id for chunk in chunks} == {turn}
    view = (await http.get(f"/v1/turns/{turn}")).json()
    assert (view["status"], view["usage"]["output_tokens"]) == ("completed", chunks[-1].usage.completion_tokens)


async def test_a_whole_answer(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "Hello"}], extra_body={"demo": SCRIPT}
    )
    assert answer.choices[0].message.content == expected("Hello", SCRIPT)
    assert answer.id.startswith("chatcmpl-")


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_have_openais_shape(sdk: openai.AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await sdk.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "Hi"}], stream=stream)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as several:
        await sdk.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Hi"}], n=2, stream=stream
        )
    assert several.value.param == "n"
    demo = {"demo": {"fail": "auth", "rate": 0}}
    with pytest.raises(openai.InternalServerError) as failed:
        await sdk.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Hi"}], stream=stream, extra_body=demo
        )
    assert failed.value.status_code == 502
    assert failed.value.response.headers["turnwire-turn"].startswith("chatcmpl-")


@pytest.mark.parametrize("path", ["/v1/chat/nothing", "/openai/v1/nothing", "/v1/chat/completions"])
async def test_unknown_paths_and_methods(http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == (405 if path.endswith("completions") else 404)
    assert answer.json()["error"]["type"] in {"not_found_error", "invalid_request_error"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_cancels_the_turn(tmp_path: Path, stream: bool) -> None:
    """Unless a header says that the turn continues."""
    settings = {"TURNWIRE_DISCONNECT_GRACE_S": "0.2", "TURNWIRE_DRAIN_S": "0"}
    async with gateway_process(tmp_path, settings) as gateway, http_client(gateway.url) as http:
        for turn, headers in (("gone", {}), ("kept", {"turnwire-on-disconnect": "continue"})):
            body = {
                "messages": [{"role": "user", "content": "Hi"}],
                "stream": stream,
                "demo": {"rate": 20, "tokens": 2000},
            }
            sent = asyncio.ensure_future(
                http.post("/v1/chat/completions", json=body, headers={"turnwire-turn": turn, **headers})
            )
            await running(http, turn)
            sent.cancel()
            await asyncio.gather(sent, return_exceptions=True)
        async with asyncio.timeout(60):
            while (await http.get("/v1/turns/gone")).json()["status"] == "running":
                await asyncio.sleep(0.1)
        assert (await http.get("/v1/turns/gone")).json()["message"]["by"] == "disconnect"
        assert (await http.get("/v1/turns/kept")).json()["status"] == "running"


async def running(http: httpx2.AsyncClient, turn: str) -> None:
    """Wait until the turn runs."""
    async with asyncio.timeout(30):
        while (await http.get(f"/v1/turns/{turn}")).json().get("status") != "running":
            await asyncio.sleep(0.05)


FOREIGN: dict[str, tuple[object, int]] = {
    "a body of Responses": ({"model": "demo", "input": "Hi"}, 400),
    "a body of Anthropic Messages": (
        {"model": "demo", "max_tokens": 5, "system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]},
        400,
    ),
    "a body of the AI SDK": (
        {"id": "c", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]},
        400,
    ),
    "our own body": ({"turn": "t", "input": "Hi"}, 400),
    "a result without its call": (
        {"messages": [{"role": "tool", "tool_call_id": "c9", "content": "3"}]},
        400,
    ),
    "an image that isn't base64": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,%"}]}]},
        400,
    ),
    "too much": ({"messages": [{"role": "user", "content": "x" * 400_000}]}, 413),
    "a number that isn't one": (b'{"messages": [], "temperature": 1e999}', 400),
    "half a character": (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400),
    "no JSON": (b"hello", 400),
    "nothing": (b"", 400),
}


@pytest.mark.parametrize("case", FOREIGN)
async def test_bad_input_is_answered_in_openais_shape(http: httpx2.AsyncClient, case: str) -> None:
    """Nothing else is disturbed: a stream beside it is whole."""
    body, status = FOREIGN[case]
    beside = {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "demo": {**SCRIPT, "rate": 200}}
    async with asyncio.TaskGroup() as tasks:
        whole = tasks.create_task(http.post("/v1/chat/completions", json=beside))
        for _ in range(3):
            sent = body if isinstance(body, bytes) else httpx2.Request("POST", "http://x", json=body).content
            headers = {"content-type": "application/json"}
            refused = await http.post("/v1/chat/completions", content=sent, headers=headers)
            assert refused.status_code == status, refused.text
            assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
            assert refused.headers["x-should-retry"] == "false"
    assert whole.result().text.endswith("data: [DONE]\n\n")


async def test_twenty_megabytes_of_images(http: httpx2.AsyncClient) -> None:
    """They are refused or answered, and short requests beside them aren't delayed."""
    data = base64.b64encode(bytes(5_000_000)).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, *[image] * 3]}], "demo": SCRIPT}
    large = asyncio.ensure_future(http.post("/v1/chat/completions", json=body, timeout=60))
    slowest = 0.0
    while not large.done():
        began = time.monotonic()
        assert (await http.get("/health")).status_code == 200
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.02)
    answer = large.result()
    assert answer.status_code in {200, 413}, answer.text
    assert slowest < 2


async def test_the_answer_survives_its_instance(tmp_path: Path) -> None:
    """Laws 7 and 9: the instance that streams is killed in the middle. On the other one, the rest follows the position of
    the client, and a second client that was there all the time has the whole text."""
    demo = {"rate": 20, "tokens": 120}
    headers = {"x-conversation-id": "c", "turnwire-turn": "t"}
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "demo": demo}
    async with world(tmp_path) as w, http_client(w.instances[0].url) as one, http_client(w.instances[1].url) as two:
        lines: list[str] = []
        async with one.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            reading = answer.aiter_lines()
            while len(lines) < 60:
                lines.append(await anext(reading))
            beside = asyncio.ensure_future(two.get("/v1/stream/c", timeout=60))
            await asyncio.sleep(0.3)
            w.kill(0)
            with suppress(httpx2.HTTPError):
                async for line in reading:
                    lines.append(line)
        whole_events = "\n".join(lines).rpartition("\n\n")[0].split("\n\n")
        last = next(line for line in reversed("\n".join(whole_events).splitlines()) if line.startswith("id: "))
        rest = await two.get("/v1/stream/c", params={"from": last[4:]}, timeout=60)
        assert rest.status_code == 200, rest.text
        text = expected("Hello", demo)
        assert text_of("\n".join(whole_events)) + text_of(rest.text) == text
        assert text_of((await beside).text) == text
        assert 'finish_reason":"stop"' in rest.text


def text_of(stream: str) -> str:
    """Return the text in the chunks of a stream."""
    chunks = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))
