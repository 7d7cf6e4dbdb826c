"""Anthropic's Messages API with Anthropic's own SDK: streams, tools, thinking, images, history, errors and models."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.credentials import KeyFile
from tests.demo import expected
from tests.http_events import http_client
from tests.in_loop_server import InLoopServer, serving
from tests.late_imports import LateImport
from tests.upstream import Script, Upstream, error_response, messages, sse

if TYPE_CHECKING:
    import anthropic
    from anthropic.types import Message
else:
    anthropic = LateImport("anthropic")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SCRIPT = {"thinking": 3, "tokens": 30, "rate": 0}
SLOW = {"rate": 50, "tokens": 4000}
HELLO: Any = [{"role": "user", "content": "Hello"}]
ADD: Any = {"name": "add", "description": "Adds.", "input_schema": {"type": "object", "properties": {}}}
MODEL = "claude-haiku-4-5"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as running:
        yield running


@pytest.fixture
async def server(upstream: Upstream) -> AsyncIterator[InLoopServer]:
    keys = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": upstream.anthropic_url}
    async with serving(keys, disconnect_grace_s=0.1, heartbeat_s=0.2) as running:
        yield running


@pytest.fixture
async def http(server: InLoopServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(server.url) as client:
        yield client


@pytest.fixture
async def sdk(server: InLoopServer) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with client_of(server) as client:
        yield client


def client_of(server: InLoopServer, **options: Any) -> anthropic.AsyncAnthropic:
    options = {"api_key": "none", "max_retries": 0, **options}
    return anthropic.AsyncAnthropic(base_url=server.url, **options)


def blocks(*content: dict[str, Any], stop: str = "end_turn", sequence: str | None = None, **usage: int) -> Script:
    """Return a stream of Anthropic's API with these content blocks."""
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1, **usage}}}
    events: list[dict[str, Any]] = [start]
    for index, block in enumerate(content):
        begun, deltas = dict(block), []
        if block["type"] == "tool_use":
            begun["input"] = {}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        elif block["type"] == "thinking":
            begun |= {"thinking": "", "signature": ""}
            signature = {"type": "signature_delta", "signature": block["signature"]}
            deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}, signature]
        elif block["type"] == "text":
            begun["text"] = ""
            deltas = [{"type": "text_delta", "text": block["text"]}]
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": stop, "stop_sequence": sequence}
    events.append({"type": "message_delta", "delta": ended, "usage": {"output_tokens": 7}})
    events.append({"type": "message_stop"})
    return Script(tuple(sse(event, event["type"]) for event in events))


THOUGHT = {"type": "thinking", "thinking": "Hm", "signature": "sig+nature=="}
CALLS = [{"type": "tool_use", "id": f"toolu_{n}", "name": "add", "input": {"a": n}} for n in range(2)]


async def test_the_asynchronous_sdk(sdk: anthropic.AsyncAnthropic, http: httpx2.AsyncClient) -> None:
    """The id of the message is the id of the turn, which our own protocol can read."""
    text = expected("Hello", SCRIPT)
    async with sdk.messages.stream(model="demo", max_tokens=99, messages=HELLO, extra_body={"demo": SCRIPT}) as stream:
        assert "".join([piece async for piece in stream.text_stream]) == text
        streamed = await stream.get_final_message()
        assert stream.response.headers["turnwire-turn"] == streamed.id
    whole = await sdk.messages.create(model="demo", max_tokens=99, messages=HELLO, extra_body={"demo": SCRIPT})
    for message in (streamed, whole):
        assert message.id.startswith("msg_")
        assert [block.type for block in message.content] == ["thinking", "text"]
        assert (message.stop_reason, message.model) == ("end_turn", "demo")
        view = (await http.get(f"/v1/turns/{message.id}")).json()
        assert (view["status"], view["usage"]["output_tokens"]) == ("completed", message.usage.output_tokens)
        assert view["message"]["parts"][1]["text"] == text


async def test_the_synchronous_sdk(server: InLoopServer) -> None:
    def ask() -> tuple[Message, int, list[str], str]:
        with anthropic.Anthropic(base_url=server.url, auth_token="none", max_retries=0) as client:
            with client.messages.stream(
                model="demo", max_tokens=99, messages=HELLO, extra_body={"demo": SCRIPT}
            ) as stream:
                message = stream.get_final_message()
            count = client.messages.count_tokens(model="demo", messages=HELLO, system="Be brief.", tools=[ADD])
            models = [model.id for model in client.models.list(limit=1)]
            return message, count.input_tokens, models, client.models.retrieve("demo").display_name

    message, count, models, name = await asyncio.to_thread(ask)
    assert message.content[1].to_dict()["text"] == expected("Hello", SCRIPT)
    assert 20 < count < 200
    assert models[0] == "demo"
    assert len(models) == len(set(models)) > 5  # pages of one model each
    assert name == "Demo"


async def test_thinking_and_parallel_tools_there_and_back(sdk: anthropic.AsyncAnthropic, upstream: Upstream) -> None:
    """The signature goes back to the provider unchanged, and the results directly follow their calls."""
    usage: Any = {"cache_read_input_tokens": 20, "cache_creation_input_tokens": 5}
    upstream.play(
        blocks(THOUGHT, {"type": "text", "text": "Let me see."}, *CALLS, stop="tool_use", **usage), messages("It is 3.")
    )
    asked: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 4096,
        "tools": [ADD],
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "auto"},
        "stop_sequences": ["END"],
    }
    async with sdk.messages.stream(messages=HELLO, **asked) as stream:
        first = await stream.get_final_message()
    content = first.to_dict()["content"]
    assert isinstance(content, list)
    assert content[:2] == [THOUGHT, {"type": "text", "text": "Let me see."}]
    assert [block["input"] for block in content[2:]] == [{"a": 0}, {"a": 1}]
    ids = [block["id"] for block in content[2:]]  # the gateway makes them unique
    assert first.stop_reason == "tool_use"
    assert (first.usage.input_tokens, first.usage.cache_read_input_tokens) == (3, 20)
    assert (first.usage.cache_creation_input_tokens, first.usage.output_tokens) == (5, 7)
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": call, "content": [{"type": "text", "text": "3"}]} for call in ids
    ]
    results[1] |= {"content": "No.", "is_error": True}
    asked["messages"] = [*HELLO, first.to_param(), {"role": "user", "content": results}]
    second = await sdk.messages.create(**asked)
    assert second.content[0].to_dict()["text"] == "It is 3."
    body = upstream.requests[1].body
    assert body["messages"][1]["content"] == content
    sent = body["messages"][2]["content"]
    assert [(block["tool_use_id"], block["content"]) for block in sent] == [(ids[0], "3"), (ids[1], "No.")]
    assert sent[1]["is_error"] is True
    assert (body["stop_sequences"], body["thinking"]["budget_tokens"]) == (["END"], 2048)
    assert body["system"][0]["text"] == "Be brief."


async def test_the_tool_runner_of_the_sdk(sdk: anthropic.AsyncAnthropic, upstream: Upstream) -> None:
    """It asks the server to keep the messages, and sends all of them when that is refused."""
    upstream.play(blocks({"type": "text", "text": "Let me see."}, *CALLS, stop="tool_use"), messages("It is 1."))

    @anthropic.beta_async_tool
    async def add(a: int) -> str:
        """Add."""
        return str(a + 1)

    runner = sdk.beta.messages.tool_runner(model=MODEL, max_tokens=99, tools=[add], messages=HELLO, stream=True)
    found = [await stream.get_final_message() async for stream in runner]
    assert [message.stop_reason for message in found] == ["tool_use", "end_turn"]
    results = upstream.requests[1].body["messages"][2]["content"]
    assert [result["content"] for result in results] == ["1", "2"]
    assert len(upstream.requests) == 2


async def test_an_image_and_one_call_at_a_time(sdk: anthropic.AsyncAnthropic, upstream: Upstream) -> None:
    upstream.play(blocks(*CALLS, stop="tool_use"))
    source: Any = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"png").decode()}
    content: Any = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
    answer = await sdk.messages.create(
        model=MODEL,
        max_tokens=99,
        messages=[{"role": "user", "content": content}],
        tools=[ADD],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    assert [block.to_dict()["input"] for block in answer.content] == [{"a": 0}]
    body = upstream.requests[0].body
    assert body["messages"][0]["content"][0]["source"] == source
    assert body["tool_choice"]["type"] == "any"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_stop_sequence_that_ended_an_answer(
    sdk: anthropic.AsyncAnthropic, http: httpx2.AsyncClient, upstream: Upstream, stream: bool
) -> None:
    """It is also in the stored message, which a client of our own protocol can send back as it is."""
    upstream.play(blocks({"type": "text", "text": "One, two"}, stop="stop_sequence", sequence="three"))
    asked: dict[str, Any] = {"model": MODEL, "max_tokens": 99, "messages": HELLO, "stop_sequences": ["x", "three"]}
    if stream:
        async with sdk.messages.stream(**asked) as streaming:
            answer = await streaming.get_final_message()
    else:
        answer = await sdk.messages.create(**asked)
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "three")
    message = (await http.get(f"/v1/turns/{answer.id}")).json()["message"]
    assert message["stop_sequence"] == "three"
    again = {"role": "user", "parts": [{"kind": "text", "text": "And?"}]}
    body = {"model": "demo", "messages": [message, again], "params": {"demo": SCRIPT}}
    assert (await http.post("/v1/turns", json=body)).status_code == 200


async def test_a_conversation_keeps_the_history(
    server: InLoopServer, http: httpx2.AsyncClient, upstream: Upstream
) -> None:
    upstream.play(blocks(THOUGHT, CALLS[0], stop="tool_use"), messages("It is 3."))
    async with client_of(server, default_headers={"x-conversation-id": "c"}) as sdk:
        thinking: Any = {"type": "enabled", "budget_tokens": 2048}
        asked: Any = {"model": MODEL, "max_tokens": 4096, "tools": [ADD], "thinking": thinking}
        first = await sdk.messages.create(**asked, messages=HELLO)
        call: Any = first.content[1]
        result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "3"}
        context: Any = [*HELLO, first.to_param(), {"role": "user", "content": [result]}]
        await sdk.messages.create(**asked, messages=context)
    stored = (await http.get("/v1/conversations/c/messages")).json()["messages"]
    assert [message["role"] for message in stored] == ["user", "assistant", "tool", "assistant"]
    assert upstream.requests[1].body["messages"][1]["content"] == first.to_dict()["content"]


async def test_the_ids_of_requests_are_where_the_sdk_reads_them(
    sdk: anthropic.AsyncAnthropic, http: httpx2.AsyncClient
) -> None:
    """So that a user of the SDK can name a request whose lines in the log are wanted."""
    answer = await sdk.messages.create(
        model="demo", max_tokens=9, messages=HELLO, extra_headers={"x-request-id": "mine"}
    )
    assert answer._request_id == "mine"
    with pytest.raises(anthropic.NotFoundError) as refused:
        await sdk.messages.create(model="nobody", max_tokens=9, messages=HELLO)
    assert refused.value.request_id == refused.value.response.headers["x-request-id"]
    assert "request-id" not in (await http.get("/v1/models")).headers


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_have_the_classes_of_the_sdk(
    sdk: anthropic.AsyncAnthropic, upstream: Upstream, stream: bool
) -> None:
    """Before the first token, an error is the status of the response, also of a stream."""
    ask: Any = {"model": "demo", "max_tokens": 9, "messages": HELLO, "stream": stream}
    with pytest.raises(anthropic.NotFoundError, match="not_found_error"):
        await sdk.messages.create(**ask | {"model": "nobody"})
    with pytest.raises(anthropic.BadRequestError, match="n: "):
        await sdk.messages.create(**ask, extra_body={"n": 2})
    with pytest.raises(anthropic.ContentTooLargeError, match="request_too_large"):
        await sdk.messages.create(**ask | {"messages": [{"role": "user", "content": "x" * 400_000}]})
    with pytest.raises(anthropic.OverloadedError, match="overloaded_error") as overloaded:
        await sdk.messages.create(**ask, extra_body={"demo": {"fail": "overloaded", "rate": 0}})
    assert overloaded.value.response.headers["x-should-retry"] == "true"
    assert overloaded.value.response.headers["turnwire-turn"].startswith("msg_")
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        await sdk.messages.create(**ask, extra_body={"demo": {"fail": "context", "rate": 0}})
    upstream.play(error_response(401, {"type": "error", "error": {"type": "authentication_error", "message": "x"}}))
    with pytest.raises(anthropic.InternalServerError, match="api_error") as failed:
        await sdk.messages.create(**ask | {"model": MODEL})
    assert failed.value.status_code == 502


async def test_an_error_in_a_stream(sdk: anthropic.AsyncAnthropic) -> None:
    demo = {"demo": {"fail": "mid", "rate": 0, "tokens": 20}}
    texts = []
    with pytest.raises(anthropic.APIStatusError, match="api_error"):
        async with sdk.messages.stream(model="demo", max_tokens=99, messages=HELLO, extra_body=demo) as stream:
            async for text in stream.text_stream:
                texts.append(text)
    assert texts


async def test_credentials_and_ids(tmp_path: Path) -> None:
    """Either header carries the credential. A repeated id joins its turn, is refused with other content, and is another
    turn for another user."""
    file = KeyFile(tmp_path)
    key, other = file.add(user="ann"), file.add(user="eve")
    ask: Any = {"model": "demo", "max_tokens": 99, "extra_body": {"demo": SCRIPT}}
    headers = {"turnwire-turn": "t"}
    async with (
        serving(auth="keys", api_keys=str(file.path)) as server,
        client_of(server, api_key=key) as ann,
        client_of(server, api_key=None, auth_token=other) as eve,
        client_of(server, api_key="tw_no") as nobody,
    ):
        first = await ann.messages.create(**ask, messages=HELLO, extra_headers=headers)
        again = await ann.messages.create(**ask, messages=HELLO, extra_headers=headers)
        assert first.to_dict() == again.to_dict()
        with pytest.raises(anthropic.ConflictError):
            await ann.messages.create(**ask, messages=[{"role": "user", "content": "Bye"}], extra_headers=headers)
        hers = await eve.messages.create(**ask, messages=[{"role": "user", "content": "Bye"}], extra_headers=headers)
        assert hers.content != first.content
        for refused in (nobody.models.list, lambda: nobody.messages.create(**ask, messages=HELLO)):
            with pytest.raises(anthropic.AuthenticationError, match="authentication_error"):
                await refused()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_cancels_the_turn(
    http: httpx2.AsyncClient, upstream: Upstream, stream: bool
) -> None:
    """The provider's answer is stopped, unless a header says that the turn continues."""
    upstream.play(messages(*["word "] * 1000).replace(rate=50))
    body = {"model": MODEL, "max_tokens": 9, "messages": HELLO, "stream": stream}
    for number, (turn, headers) in enumerate((("gone", {}), ("kept", {"turnwire-on-disconnect": "continue"})), 1):
        sent = asyncio.ensure_future(
            http.post("/v1/messages", json=body, headers={"turnwire-turn": turn, **headers}, timeout=60)
        )
        asked = await upstream.wait_for_request(number)
        sent.cancel()
        await asyncio.gather(sent, return_exceptions=True)
        if turn == "gone":
            async with asyncio.timeout(20):
                await asked.disconnected.wait()
    async with asyncio.timeout(20):
        while await status_of(http, "gone") == "running":
            await asyncio.sleep(0.05)
    assert [await status_of(http, turn) for turn in ("gone", "kept")] == ["cancelled", "running"]


async def status_of(http: httpx2.AsyncClient, turn: str) -> str:
    status: str = (await http.get(f"/v1/turns/{turn}")).json()["status"]
    return status


async def test_pings(http: httpx2.AsyncClient) -> None:
    """A silent stream begins, and has a ping after each heartbeat interval, so that no proxy closes it."""
    body = {"messages": HELLO, "stream": True, "demo": {"first_ms": 500, "text": "Hi", "rate": 0}}
    text = (await http.post("/v1/messages", json=body)).text
    assert text.startswith("event: message_start\n")
    assert text.count('event: ping\ndata: {"type":"ping"}\n\n') >= 2


CLAUDE_CODE = {
    "user-agent": "claude-cli/2.1.177 (external, cli)",
    "x-app": "cli",
    "anthropic-version": "2023-06-01",
    "anthropic-dangerous-direct-browser-access": "true",
    "anthropic-beta": "claude-code-20250219,context-management-2025-06-27,effort-2025-11-24,a-beta-of-next-year",
    "authorization": "Bearer none",
    "x-claude-code-session-id": "b4e5aaaa-9a3e-47c4-84ad-3a70f38c676e",
    "x-stainless-lang": "js",
    "x-stainless-retry-count": "0",
}


async def test_requests_like_those_of_claude_code(http: httpx2.AsyncClient, upstream: Upstream) -> None:
    """Many tools with long descriptions, blocks with cache control, fields of beta features; then the same without stream.

    The system prompt that the provider gets is the same each time, so that its cache can be used.
    """
    assert (await http.head("/", headers=CLAUDE_CODE)).status_code == 200
    listed = (await http.get("/v1/models?limit=1000", headers=CLAUDE_CODE)).json()
    assert MODEL in [model["id"] for model in listed["data"] if model["type"] == "model"]
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"command": {"type": "string", "description": "x" * 3000}, "timeout": {"type": "number"}},
        "required": ["command"],
        "additionalProperties": False,
    }
    cached = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    names = ["Bash", "mcp__plugin_github__" + "a_long_name_" * 6, *(f"Tool{n}" for n in range(30))]
    reminder = {"type": "text", "text": "<system-reminder>\nToday is Monday.\n</system-reminder>"}
    body: dict[str, Any] = {
        "model": MODEL,
        "messages": [
            {"role": "user", "content": [reminder, {"type": "text", "text": "List the files.", **cached}]},
            {"role": "assistant", "content": [THOUGHT, {**CALLS[0], "name": "Bash", "input": {"command": "ls"}}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_0", "content": "a.py", "is_error": False, **cached},
                    reminder,
                ],
            },
        ],
        "tools": [{"name": name, "description": "y" * 1000, "input_schema": schema} for name in names],
        "metadata": {"user_id": json.dumps({"device_id": "d" * 64, "account_uuid": "", "session_id": "s"})},
        "max_tokens": 32_000,
        "thinking": {"type": "enabled", "budget_tokens": 31_999},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "temperature": 1,
        "stream": True,
    }
    assert len(json.dumps(body["tools"])) > 100_000
    systems = []
    for stream in (True, False):
        nonce = "71fea" if stream else "0aaa9"
        header = f"x-anthropic-billing-header: cc_version=2.1.177.01c; cc_entrypoint=cli; cch={nonce};"
        system = [
            {"type": "text", "text": header},
            {"type": "text", "text": "You are Claude Code, Anthropic's official CLI for Claude.", **cached},
            {"type": "text", "text": "You are an interactive agent.", **cached},
        ]
        upstream.play(blocks(THOUGHT, {"type": "text", "text": "There is a.py."}))
        sent = {**body, "system": system, "stream": stream}
        answer = await http.post("/v1/messages?beta=true", json=sent, headers=CLAUDE_CODE)
        assert answer.status_code == 200, answer.text
        assert "There is a.py." in answer.text
        assert ("event: message_stop" in answer.text) == stream
        systems.append(upstream.requests[-1].body["system"])
    assert systems[0] == systems[1]
    received = upstream.requests[-1].body
    assert received["messages"][1]["content"][0] == THOUGHT
    assert len({tool["name"] for tool in received["tools"]}) == len(names)
    counted = {name: body[name] for name in ("model", "messages", "tools", "thinking")}
    count = await http.post("/v1/messages/count_tokens?beta=true", json=counted, headers=CLAUDE_CODE)
    assert count.json()["input_tokens"] > 10_000


FOREIGN: dict[str, tuple[object, int]] = {
    "a body of Chat Completions": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        400,
    ),
    "a body of Responses": ({"model": "demo", "input": "Hi"}, 400),
    "a body of the AI SDK": ({"messages": [{"role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}, 400),
    "our own body": ({"turn": "t", "input": "Hi"}, 400),
    "a result without its call": (
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c9", "content": "3"}]}]},
        400,
    ),
    "an image that isn't base64": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "%"}}
                    ],
                }
            ]
        },
        400,
    ),
    "too many tools": ({"messages": HELLO, "tools": [{**ADD, "description": "x" * 300_000}]}, 413),
    "a number that isn't one": (b'{"messages": [], "temperature": 1e999}', 400),
    "half a character": (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400),
    "nothing": (b"", 400),
}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_bad_input_is_answered_in_anthropics_shape(http: httpx2.AsyncClient, path: str) -> None:
    """Nothing else is disturbed: a stream beside it is whole."""
    beside = {"messages": HELLO, "stream": True, "demo": {**SCRIPT, "rate": 200}}
    async with asyncio.TaskGroup() as tasks:
        whole = tasks.create_task(http.post("/v1/messages", json=beside))
        for body, status in FOREIGN.values():
            sent = body if isinstance(body, bytes) else json.dumps(body).encode()
            refused = await http.post(path, content=sent, headers={"content-type": "application/json"})
            assert refused.status_code == status, (sent[:80], refused.text)
            assert refused.json()["type"] == "error"
            assert set(refused.json()["error"]) == {"type", "message"}
            assert refused.headers["x-should-retry"] == "false"
    assert "event: message_stop" in whole.result().text


async def test_whose_errors_are_at_an_address(http: httpx2.AsyncClient) -> None:
    """The messages of our own API are below the same address, and keep its errors."""
    for method, path, status in (
        ("GET", "/v1/messages", 405),
        ("GET", "/v1/messages/count_tokens", 405),
        ("POST", "/v1/messages/batches", 404),
    ):
        refused = await http.request(method, path)
        assert (refused.status_code, refused.json()["type"]) == (status, "error")
    version = {"anthropic-version": "2023-06-01"}
    for method, path in (
        ("GET", "/v1/messages/m_none/parts/0"),
        ("POST", "/v1/messages/m_none/feedback"),
        ("GET", "/v1/messages/m_none/nothing"),
    ):
        body = {"rating": "up"} if method == "POST" else None
        refused = await http.request(method, path, json=body, headers=version)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")


async def test_models_have_the_shape_that_the_client_asks_for(http: httpx2.AsyncClient) -> None:
    version = {"anthropic-version": "2023-06-01"}
    assert (await http.get("/v1/models")).json()["object"] == "list"
    page = (await http.get("/v1/models?limit=2&lifecycle[]=active&beta=true", headers=version)).json()
    assert (page["first_id"], page["has_more"], len(page["data"])) == ("demo", True, 2)
    following = (await http.get(f"/v1/models?limit=1&after_id={page['last_id']}", headers=version)).json()
    assert following["first_id"] not in {model["id"] for model in page["data"]}
    assert (await http.get("/v1/models/demo")).json()["object"] == "model"
    assert (await http.get("/v1/models/demo", headers=version)).json()["type"] == "model"
    unlisted = (await http.get("/v1/models/anthropic/claude-of-next-year", headers=version)).json()
    assert unlisted["display_name"] == "anthropic/claude-of-next-year"
    for path in ("/v1/models/nobody", "/v1/models?limit=0", "/v1/models?after_id=nobody", "/v1/models?limit=%ff"):
        refused = await http.get(path, headers=version)
        assert (refused.status_code, refused.json()["type"]) == (404 if "models/n" in path else 400, "error")
