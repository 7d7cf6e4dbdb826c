"""OpenAI Responses against a gateway process, with the helpers of OpenAI's SDK and the cases of Open Responses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import pytest_asyncio
from pydantic import BaseModel

from tests.demo import expected
from tests.gateway_process import GatewayProcess, gateway_process
from tests.http_events import http_client
from tests.late_imports import LateImport
from tests.open_responses import check_event, check_response
from tests.programs import installed, program
from tests.world import world

if TYPE_CHECKING:
    import openai
    from openai.lib import responses_websocket
else:
    openai = LateImport("openai")
    responses_websocket = LateImport("openai.lib.responses_websocket")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

CLIENTS = Path(__file__).parents[2] / "dialect_clients"
SCRIPT = {"thinking": 3, "tokens": 30, "rate": 0}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string", "description": "A city"}},
        "required": ["location"],
    },
}
STRICT: Any = [{**WEATHER, "strict": True}]
CALL = {"rate": 0, "tool": {"name": "get_weather", "arguments": '{"location":"Oslo"}'}}
LIMITS: dict[str, Any] = {
    "max_lanes": 8,
    "max_events_per_lane": 1000,
    "max_events": 5000,
    "max_bytes_per_lane": 2**24,
    "max_bytes": 2**25,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    async with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sdk(gateway: GatewayProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(gateway: GatewayProcess) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(gateway.url) as client:
        yield client


async def test_a_stream_of_the_sdk(sdk: openai.AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    """The id of the response is the id of the turn, which our own protocol can read."""
    text = ""
    async with sdk.responses.stream(
        model="demo", input="Hello", tools=STRICT, extra_body={"demo": {**SCRIPT, "tool": True}}
    ) as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
                assert event.snapshot == text
        response = await stream.get_final_response()
    assert text == response.output_text == expected("Hello", SCRIPT)
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
    view = (await http.get(f"/v1/turns/{response.id}")).json()
    assert response.usage is not None
    assert (view["status"], view["usage"]["output_tokens"]) == ("completed", response.usage.output_tokens)


async def test_a_lost_stream_is_resumed(sdk: openai.AsyncOpenAI) -> None:
    """A client that lost its stream continues after the last event that it has, and ends with the same response."""
    made = await sdk.responses.create(
        model="demo", input="Hello", background=True, stream=True, extra_body={"demo": {**SCRIPT, "rate": 100}}
    )
    seen = []
    async for event in made:
        seen.append(event)
        if len(seen) == 12:
            break
    await made.close()
    first: Any = seen[0]
    async with sdk.responses.stream(response_id=first.response.id, starting_after=seen[-1].sequence_number) as stream:
        rest = [event async for event in stream]
        response = await stream.get_final_response()
    assert all(event.sequence_number > seen[-1].sequence_number for event in rest)
    text = "".join(event.delta for event in [*seen, *rest] if event.type == "response.output_text.delta")
    assert text == response.output_text == expected("Hello", SCRIPT)


async def test_structured_output(sdk: openai.AsyncOpenAI) -> None:
    class Answer(BaseModel):
        word: str

    parsed = await sdk.responses.parse(
        model="demo", input="Hello", text_format=Answer, extra_body={"demo": {"rate": 0, "text": '{"word":"hi"}'}}
    )
    assert parsed.output_parsed == Answer(word="hi")
    assert parsed.text is not None
    assert parsed.text.to_dict()["format"]["name"] == "Answer"  # type: ignore[index]


@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")  # of the SDK's use of websockets
async def test_the_sdk_without_asyncio(gateway: GatewayProcess) -> None:
    await asyncio.to_thread(use_sdk_without_asyncio, gateway)


def use_sdk_without_asyncio(gateway: GatewayProcess) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/openai/v1", api_key="none", max_retries=0) as sdk:
        with sdk.responses.stream(model="demo", input="Hello", extra_body={"demo": SCRIPT}) as stream:
            first = stream.get_final_response()
        assert first.output_text == expected("Hello", SCRIPT)
        with sdk.responses.connect() as connection:
            connection.response.create(model="demo", input="Again", previous_response_id=first.id)
            for event in connection:
                if event.type == "response.completed":
                    assert event.response.previous_response_id == first.id
                    break


async def test_a_connection_of_the_sdk(sdk: openai.AsyncOpenAI) -> None:
    """Several responses at once on one socket, and then one that continues one of them."""
    async with sdk.responses.connect() as connection:
        limits = responses_websocket.ResponsesWebSocketLimits(**LIMITS)
        async with responses_websocket.AsyncResponsesWebSocketSession(connection, limits=limits) as session:
            lanes = {name: session.lane(name) for name in ("a", "b", "c.d-e_1")}
            for name, lane in lanes.items():
                body: Any = {"type": "response.create", "model": "demo", "input": name, "store": False}
                await lane.send(body | {"demo": {**SCRIPT, "rate": 100}})
            for name, lane in lanes.items():
                response = await lane.get_final_response()
                assert response.output_text == expected(name, SCRIPT)
            continued: Any = {"type": "response.create", "model": "demo", "input": "On", "demo": SCRIPT, "store": False}
            await session.default.send(continued | {"previous_response_id": response.id})
            assert (await session.default.get_final_response()).output_text == expected("On", SCRIPT)


async def test_the_clients_for_javascript(gateway: GatewayProcess) -> None:
    """OpenAI's SDK with its helper for streams, and the AI SDK, which uses Responses by default."""
    installed(CLIENTS / "node_modules" / ".package-lock.json", "the packages of tests/dialect_clients")
    process = await asyncio.create_subprocess_exec(
        *(program("node"), str(CLIENTS / "responses_client.js"), gateway.url), stdout=asyncio.subprocess.PIPE
    )
    found = json.loads((await process.communicate())[0])
    assert found == {
        "deltas": "Hm.",
        "text": "Hm.",
        "types": ["reasoning", "message", "function_call"],
        "answer": "It is 3.",
        "refused": [404, "model_not_found"],
        "streamed": ["Hm.", [["add", {"a": 1}]], "tool-calls"],
        "reasoning": True,
        "generated": "It is 3.",
        "usage": True,
    }


def message(role: str, content: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


CASES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "basic-response": ({"input": [message("user", "Say hello in exactly 3 words.")]}, {"message"}),
    "streaming-response": ({"input": [message("user", "Count from 1 to 5.")], "stream": True}, {"message"}),
    "system-prompt": (
        {"input": [message("system", "Always respond in pirate speak."), message("user", "Say hello.")]},
        {"message"},
    ),
    "tool-calling": (
        {"input": [message("user", "How is the weather in Oslo?")], "tools": [WEATHER], "demo": CALL},
        {"function_call"},
    ),
    "tool-calling-streaming": (
        {"input": [message("user", "How is the weather in Oslo?")], "tools": [WEATHER], "demo": CALL, "stream": True},
        {"function_call"},
    ),
    "image-input": (
        {
            "input": [
                message(
                    "user",
                    [
                        {"type": "input_text", "text": "What do you see in this image?"},
                        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                    ],
                )
            ]
        },
        {"message"},
    ),
    "multi-turn": (
        {
            "input": [
                message("user", "My name is Alice."),
                message("assistant", "Hello Alice! Nice to meet you."),
                message("user", "What is my name?"),
            ]
        },
        {"message"},
    ),
}
"""The cases of Open Responses: what is asked, and the types of items that the answer must have."""


@pytest.mark.parametrize("name", CASES)
async def test_open_responses(http: httpx2.AsyncClient, name: str) -> None:
    body, types = CASES[name]
    answer = await http.post("/v1/responses", json={"model": "demo", "demo": {"rate": 0, "tokens": 10}, **body})
    assert answer.status_code == 200
    if not body.get("stream"):
        assert answer.headers["content-type"] == "application/json"
        response = answer.json()
    else:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.text.endswith("\n\ndata: [DONE]\n\n")
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        for event in events:
            check_event(event)
        kinds = [event["type"] for event in events]
        assert kinds[0] == "response.created"
        if "function_call" in types:
            assert "response.function_call_arguments.delta" in kinds
            assert "response.function_call_arguments.done" in kinds
            for kind in ("added", "done"):
                items = [event["item"] for event in events if event["type"] == f"response.output_item.{kind}"]
                assert "function_call" in {item["type"] for item in items}
        response = events[-1]["response"]
    checked = check_response(response)
    assert checked.status == "completed"
    assert types <= {item["type"] for item in response["output"]}


async def test_open_responses_over_a_socket(sdk: openai.AsyncOpenAI) -> None:
    """The same cases as frames of one socket, with the same events."""
    async with sdk.responses.connect() as connection:
        for name, (body, types) in CASES.items():
            request = {"type": "response.create", "model": "demo", "demo": {"rate": 0, "tokens": 10}, **body}
            await connection.send_raw(json.dumps({k: v for k, v in request.items() if k != "stream"}))
            kind = ""
            while kind != "response.completed":
                event = json.loads(await connection.recv_bytes())
                check_event(event)
                kind = event["type"]
            assert types <= {item["type"] for item in event["response"]["output"]}, name
        previous: Any = {"type": "response.create", "model": "demo", "input": "And?", "demo": {"rate": 0, "tokens": 5}}
        await connection.send_raw(json.dumps({**previous, "previous_response_id": event["response"]["id"]}))
        while json.loads(await connection.recv_bytes())["type"] != "response.completed":
            pass


async def test_a_response_survives_its_instance(tmp_path: Path) -> None:
    """Laws 7 and 9: the instance that streams is killed in the middle. On the other one, the rest follows the last event
    that the client has, what is kept of the response is there, and it can be continued."""
    demo = {"rate": 20, "tokens": 120}
    async with world(tmp_path) as w:
        one, two = (
            openai.AsyncOpenAI(base_url=f"{instance.url}/v1", api_key="none", max_retries=0)
            for instance in w.instances[:2]
        )
        made = await one.responses.create(
            model="demo", input="Hello", instructions="Go.", background=True, stream=True, extra_body={"demo": demo}
        )
        seen: list[Any] = []
        with suppress(openai.APIError, httpx2.HTTPError):
            async for event in made:
                seen.append(event)
                if len(seen) == 30:
                    w.kill(0)
        response = seen[0].response
        rest = [
            event
            async for event in await two.responses.retrieve(
                response.id, stream=True, starting_after=seen[-1].sequence_number, timeout=60
            )
        ]
        text = "".join(event.delta for event in [*seen, *rest] if event.type == "response.output_text.delta")
        assert text == expected("Hello", demo)
        assert rest[-1].type == "response.completed"
        got = await two.responses.retrieve(response.id)
        assert (got.output_text, got.instructions, got.background) == (text, "Go.", True)
        more = await two.responses.create(input="On", previous_response_id=response.id, extra_body={"demo": SCRIPT})
        assert more.output_text == expected("On", SCRIPT)
        await asyncio.gather(one.close(), two.close())
