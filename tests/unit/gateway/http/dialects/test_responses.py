"""Tests of the addresses of OpenAI Responses, with OpenAI's own SDK: chains, streams that are resumed, and bad input."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types.responses import Response

from gateway.dialects.responses_ids import conversation_of
from gateway.http.dialects.responses_stored import StoredResponses
from store.errors import StoreError
from tests.credentials import KeyFile
from tests.http_events import http_client
from tests.in_loop_server import InLoopServer, serving
from tests.open_responses import check_event, check_response

QUICK = {"demo": {"rate": 0, "text": "Hello, how are you?"}}
SLOW = {"demo": {"rate": 50, "tokens": 4000}}
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}, "strict": False}
CALLS = {"demo": {"rate": 0, "thinking": 2, "text": "Let me see.", "tool": {"name": "add", "arguments": "{}"}}}


NOT_BASE64 = {"type": "input_image", "image_url": "data:image/png;base64,!"}


@pytest.fixture
async def server() -> AsyncIterator[InLoopServer]:
    async with serving(disconnect_grace_s=0.1, heartbeat_s=0.2) as running:
        yield running


@pytest.fixture
async def http(server: InLoopServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(server.url) as http:
        yield http


@pytest.fixture
async def sdk(server: InLoopServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_of(server) as client:
        yield client


def client_of(server: InLoopServer, key: str = "none", **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, **options)


async def ask(sdk: openai.AsyncOpenAI, text: Any, **fields: Any) -> Response:
    extra = {**QUICK, **fields.pop("extra_body", {})}
    response = await sdk.responses.create(model="demo", input=text, extra_body=extra, **fields)
    assert isinstance(response, Response)
    return response


def input_texts(items: Sequence[Any]) -> list[str]:
    """Return the first text of each input item."""
    return [item.content[0].text for item in items]


async def contexts(http: httpx2.AsyncClient, conversation: str) -> list[tuple[str, str]]:
    """Return the role and the text of each message of a conversation."""
    page = (await http.get(f"/v1/conversations/{conversation}/messages")).json()["messages"]
    return [(message["role"], message["parts"][0].get("text", "")) for message in page]


async def test_a_chain_is_a_conversation(sdk: openai.AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    """Two responses may continue the same one. Instructions aren't carried over, and system messages are."""
    system = {"role": "developer", "content": "Speak plainly."}
    first = await ask(sdk, [system, {"role": "user", "content": "One"}], instructions="Be brief.")
    conversation = conversation_of(first.id)
    second = await ask(sdk, "Two", previous_response_id=first.id)
    fork = await ask(sdk, "Three", previous_response_id=first.id)
    assert conversation_of(second.id) == conversation_of(fork.id) == conversation
    page = (await http.get(f"/v1/conversations/{conversation}/messages")).json()["messages"]
    parents = {message["parts"][0]["text"]: message["parent"] for message in page if message["role"] == "user"}
    answer = (await http.get(f"/v1/turns/{first.id}")).json()["message"]["id"]
    assert parents == {"One": None, "Two": answer, "Three": answer}
    assert (await http.get(f"/v1/conversations/{conversation}")).json()["system"] == "Speak plainly."
    verse = [{"role": "system", "content": "In verse."}, {"role": "user", "content": "Four"}]
    later = await ask(sdk, verse, previous_response_id=fork.id)
    assert (await http.get(f"/v1/conversations/{conversation}")).json()["system"] == "Speak plainly.\n\nIn verse."
    assert (later.previous_response_id, later.instructions, first.instructions) == (fork.id, None, "Be brief.")


async def test_a_tool_is_answered(sdk: openai.AsyncOpenAI) -> None:
    """The client sends the result alone, or the whole context with it, which is then in no conversation."""
    first = await ask(sdk, "Add", tools=[TOOL], extra_body=CALLS)
    call = first.output[-1]
    assert call.type == "function_call"
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "3"}
    second = await ask(sdk, [result], previous_response_id=first.id, tools=[TOOL])
    assert second.output_text == "Hello, how are you?"
    whole = [{"role": "user", "content": "Add"}, *[item.to_dict() for item in first.output], result]
    assert (await ask(sdk, whole, store=False)).output_text == "Hello, how are you?"
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(sdk, [{**result, "call_id": "nobody"}], previous_response_id=first.id)
    assert refused.value.param is not None
    assert refused.value.param.startswith("input")
    with pytest.raises(openai.BadRequestError):
        await ask(sdk, [result])


async def test_a_context_with_answers_is_continued(sdk: openai.AsyncOpenAI, server: InLoopServer) -> None:
    """Such input is in no conversation; the context is kept for as long as the turn."""
    history = [
        {"role": "user", "content": "My name is Alice."},
        {"role": "assistant", "content": "Hello Alice!"},
        {"role": "user", "content": "What is my name?"},
    ]
    first = await ask(sdk, history, instructions="Be brief.")
    second = await ask(sdk, "And again?", previous_response_id=first.id)
    items = await sdk.responses.input_items.list(second.id, order="asc")
    assert input_texts(items.data) == [
        *[message["content"] for message in history],
        "Hello, how are you?",
        "And again?",
    ]
    # A context may also continue a conversation, which it leaves as it is.
    stored = await ask(sdk, "One")
    third = await ask(sdk, history[1:], previous_response_id=stored.id)
    items = await sdk.responses.input_items.list(third.id, order="asc", limit=2)
    assert input_texts(items.data) == ["One", "Hello, how are you?"]
    assert items.has_more
    with pytest.raises(openai.BadRequestError) as lost:
        await ask(sdk, "x", previous_response_id=(await ask(sdk, history, store=False)).id)
    assert lost.value.code == "previous_response_not_found"


async def test_a_named_conversation(sdk: openai.AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    """Its newest message is continued. A repeated request joins its turn, also after the head has moved (law 6)."""
    headers = {"idempotency-key": "k1"}
    first = await ask(sdk, "One", conversation="chat-7")
    second = await ask(sdk, "Two", conversation={"id": "chat-7"}, extra_headers=headers)
    again = await ask(sdk, "Two", conversation="chat-7", extra_headers=headers)
    assert (again.id, second.id, again.output_text) == ("k1", "k1", second.output_text)
    assert first.conversation is not None
    assert first.conversation.id == "chat-7"
    assert [text for role, text in await contexts(http, "chat-7") if role == "user"] == ["One", "Two"]
    with pytest.raises(openai.ConflictError) as other:
        await ask(sdk, "Three", conversation="chat-7", extra_headers=headers)
    assert other.value.code == "conflict"


async def test_a_repeated_start_of_a_chain(sdk: openai.AsyncOpenAI) -> None:
    headers = {"idempotency-key": "k1"}
    made = [await ask(sdk, "One", instructions="Be brief.", extra_headers=headers) for _ in range(2)]
    assert [response.id for response in made] == ["k1", "k1"]
    system = [{"role": "system", "content": "S"}, {"role": "user", "content": "Two"}]
    headers = {"idempotency-key": "k2"}
    following = [await ask(sdk, system, previous_response_id="k1", extra_headers=headers) for _ in range(2)]
    assert [response.id for response in following] == ["k2", "k2"]


async def test_an_old_response_is_found_in_its_conversation(tmp_path: Path) -> None:
    """A turn is kept for a day, and a conversation for longer."""
    async with serving(store=f"sqlite:///{tmp_path / 'db'}") as server, client_of(server) as sdk:
        await use_old_responses(sdk, tmp_path / "db")


async def use_old_responses(sdk: openai.AsyncOpenAI, database: Path) -> None:
    first = await ask(sdk, "One", metadata={"a": "b"})
    second = await ask(sdk, "Two", previous_response_id=first.id)
    forget_turns(database)
    got = await sdk.responses.retrieve(first.id)
    assert (got.output_text, got.status) == (first.output_text, "completed")
    third = await ask(sdk, "Three", previous_response_id=second.id)
    assert conversation_of(third.id) == conversation_of(first.id)
    with pytest.raises(openai.BadRequestError):
        await ask(sdk, "x", previous_response_id="resp_" + "x" * 24 + "_x")
    streamed = await sdk.responses.retrieve(first.id, stream=True, starting_after=2)
    events = [event async for event in streamed]
    assert events[-1].type == "response.completed"
    await sdk.responses.delete(first.id)
    for name in (first.id, second.id):
        if name == first.id:
            with pytest.raises(openai.NotFoundError):
                await sdk.responses.retrieve(name)
            with pytest.raises(openai.BadRequestError):
                await ask(sdk, "x", previous_response_id=name)
        else:
            assert (await sdk.responses.retrieve(name)).id == name


def forget_turns(database: Path) -> None:
    """Let the turns end long ago."""
    with closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute("UPDATE turns SET ended_ms = 1").rowcount > 0


async def test_a_background_response(sdk: openai.AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    """It is answered at once, goes on without a client, and is stopped from anywhere."""
    made = await sdk.responses.create(model="demo", input="Hi", background=True, extra_body=SLOW)
    assert made.status in {"queued", "in_progress"}
    assert made.background
    check_response((await http.get(f"/v1/responses/{made.id}")).json())
    with pytest.raises(openai.APIStatusError) as busy:
        await ask(sdk, "x", previous_response_id=made.id)
    assert busy.value.code == "busy"
    await asyncio.sleep(0.3)  # longer than the grace period of a turn that ends with its client
    stopped = await sdk.responses.cancel(made.id)
    assert stopped.status == "cancelled"
    assert (await sdk.responses.cancel(made.id)).status == "cancelled"
    assert (await sdk.responses.retrieve(made.id)).status == "cancelled"
    stream = await sdk.responses.retrieve(made.id, stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "response.incomplete"


async def test_a_stream_is_resumed_after_each_event(http: httpx2.AsyncClient) -> None:
    """Law 7: the rest is exactly what the client didn't get, while the turn runs and from what is stored."""
    body = {"model": "demo", "input": "Hi", "stream": True, "background": True, "tools": [TOOL]}
    script = {**CALLS["demo"], "rate": 60, "text": "Hello, how are you? " * 3}
    async with http.stream("POST", "/v1/responses", json={**body, "demo": script}) as answer:
        whole = events_of("".join([piece async for piece in answer.aiter_text()]))
    turn = answer.headers["turnwire-turn"]
    for event in whole:
        check_event(event)
    for position in {event["sequence_number"] for event in whole[::7]} | {0, whole[-1]["sequence_number"]}:
        rest = await http.get(f"/v1/responses/{turn}?stream=true&starting_after={position}&include=x")
        events = events_of(rest.text)
        assert all(event["sequence_number"] > position for event in events)
        kept = [event for event in whole if event["sequence_number"] <= position]
        assert texts(kept + events) == texts(whole)
        assert [event["type"] for event in kept + events if not event["type"].endswith("delta")] == [
            event["type"] for event in whole if not event["type"].endswith("delta")
        ]
    stored = events_of((await http.get(f"/v1/responses/{turn}?stream=true")).text)
    assert texts(stored) == texts(whole)
    assert stored[-1] == whole[-1]
    assert (await http.get(f"/v1/responses/{turn}")).json() == whole[-1]["response"]


def events_of(stream: str) -> list[dict[str, Any]]:
    """Return the events of a stream."""
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]


def texts(events: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the text of each item."""
    found: dict[str, list[str]] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            found.setdefault(event["item_id"], []).append(event["delta"])
    return {item: "".join(deltas) for item, deltas in found.items()}


async def test_two_clients_follow_a_running_response(sdk: openai.AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    """The one that comes later gets what it missed and then the same; a stop ends both."""
    stream = await sdk.responses.create(model="demo", input="Hi", background=True, stream=True, extra_body=SLOW)
    events = aiter(stream)
    first = await anext(events)
    assert first.type == "response.created"
    seen: list[Any] = [first]
    while not seen[-1].type.endswith("delta"):
        seen.append(await anext(events))
    later = await sdk.responses.retrieve(first.response.id, stream=True, starting_after=seen[-1].sequence_number)
    rest = aiter(later)
    assert (await anext(rest)).sequence_number > seen[-1].sequence_number
    await sdk.responses.cancel(first.response.id)
    assert [event async for event in events][-1].type == "response.incomplete"
    assert [event async for event in rest][-1].type == "response.incomplete"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_stops_its_response(http: httpx2.AsyncClient, stream: bool) -> None:
    """As at OpenAI, unless it runs in the background or a header says otherwise."""
    kept: dict[str, str] = {"turnwire-on-disconnect": "continue"}
    for turn, headers in (("gone", dict[str, str]()), ("kept", kept)):
        body = {"model": "demo", "input": "Hi", "stream": stream, **SLOW}
        sent = asyncio.ensure_future(http.post("/v1/responses", json=body, headers={"turnwire-turn": turn, **headers}))
        while (await http.get(f"/v1/turns/{turn}")).json().get("status") != "running":
            await asyncio.sleep(0.02)
        sent.cancel()
        await asyncio.gather(sent, return_exceptions=True)
    while (await http.get("/v1/turns/gone")).json()["status"] == "running":
        await asyncio.sleep(0.02)
    assert (await http.get("/v1/responses/gone")).json()["status"] == "cancelled"
    assert (await http.post("/v1/responses/kept/cancel")).json()["status"] == "cancelled"


async def test_a_response_whose_conversation_was_deleted_is_not_found(
    sdk: openai.AsyncOpenAI, http: httpx2.AsyncClient
) -> None:
    """Its text is gone, so an empty answer would be untrue."""
    made = await ask(sdk, "One")
    assert (await http.delete(f"/v1/conversations/{conversation_of(made.id)}")).status_code == 200
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError):
        await ask(sdk, "x", previous_response_id=made.id)


async def test_deleted_responses(sdk: openai.AsyncOpenAI, http: httpx2.AsyncClient) -> None:
    """A conversation is deleted with its last response. What was deleted can't be retrieved or continued."""
    first = await ask(sdk, "One")
    second = await ask(sdk, "Two", previous_response_id=first.id)
    alone = await ask(sdk, "Three", store=False)
    deleted = await http.delete(f"/v1/responses/{alone.id}")
    assert deleted.json() == {"id": alone.id, "object": "response", "deleted": True}
    conversation = f"/v1/conversations/{conversation_of(first.id)}"
    await sdk.responses.delete(first.id)
    assert (await http.get(conversation)).status_code == 200
    await sdk.responses.delete(second.id)
    assert (await http.get(conversation)).status_code == 404
    for name in (first.id, second.id, alone.id):
        assert (await http.get(f"/v1/responses/{name}")).status_code == 404
        assert (await http.delete(f"/v1/responses/{name}")).status_code == 404
        assert (await http.post(f"/v1/responses/{name}/cancel")).status_code == 404
        assert (await http.get(f"/v1/responses/{name}/input_items")).status_code == 404
        with pytest.raises(openai.BadRequestError):
            await ask(sdk, "x", previous_response_id=name)


async def test_users_are_isolated(tmp_path: Path) -> None:
    """Law 12: what belongs to another user is answered as what doesn't exist."""
    file = KeyFile(tmp_path)
    ann, bob = file.add(user="ann"), file.add(user="bob")
    async with serving(auth="keys", api_keys=str(file.path)) as server:
        async with client_of(server, ann) as hers, client_of(server, bob) as his:
            made = await ask(hers, "Hi", instructions="Secret")
            for use in (
                his.responses.retrieve,
                his.responses.cancel,
                his.responses.delete,
                his.responses.input_items.list,
            ):
                with pytest.raises(openai.NotFoundError) as refused:
                    await use(made.id)
                assert made.id in str(refused.value) or "not found" in str(refused.value)
            with pytest.raises(openai.BadRequestError) as previous:
                await ask(his, "x", previous_response_id=made.id)
            assert previous.value.code == "previous_response_not_found"
            # A name belongs to its user.
            assert (await ask(his, "x", extra_headers={"turnwire-turn": made.id})).instructions is None
            assert (await hers.responses.retrieve(made.id)).instructions == "Secret"
        async with client_of(server, "tw_no") as nobody:
            with pytest.raises(openai.AuthenticationError):
                await ask(nobody, "x")


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"input": "Hi", "model": "nobody"}, 404, "model_not_found", None),
        ({"input": "Hi", "top_logprobs": 3}, 400, "unsupported_parameter", "top_logprobs"),
        ({"input": "Hi", "tools": [{"type": "web_search"}]}, 400, "unsupported_parameter", "tools[0].type"),
        ({"input": "Hi", "text": {"format": {"type": "json_schema", "schema": {}}}, "modalities": ["audio"]}, 200, None, None),
        ({"input": []}, 400, "invalid_request", "input"),
        ({}, 400, "invalid_request", "input"),
        ({"input": "x" * 300_000}, 413, "too_large", None),
        ({"input": [{"role": "user", "content": [NOT_BASE64]}]}, 400, "invalid_request", "input[0]"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, 400, "invalid_request", "messages"),
        ({"input": "Hi", "metadata": {"a": "x" * 20_000}}, 413, "too_large", "metadata"),
        ({"input": "Hi", "conversation": "never mind", "demo": {"fail": "auth"}}, 502, "upstream_auth", None),
        ({"input": "Hi", "tools": [{"type": "function", "name": "a", "description": "x" * 300_000}]}, 413, "too_large", "tools"),
        ({"input": "Hi", "previous_response_id": "../../x\n"}, 400, "previous_response_not_found", "previous_response_id"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_bad_input(
    http: httpx2.AsyncClient, body: dict[str, Any], status: int, code: str | None, param: str | None, stream: bool
) -> None:
    answer = await http.post("/v1/responses", json={"stream": stream, **QUICK, **body})
    assert answer.status_code == status
    if code is not None:
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == (code, param)
        assert set(error) == {"message", "type", "param", "code"}
        assert answer.headers["x-should-retry"] in {"true", "false"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/responses", 405),
        ("GET", "/openai/v1/responses/resp_x", 404),
        ("GET", "/v1/responses/resp_x?stream=maybe", 400),
        ("GET", "/v1/responses/resp_x?starting_after=-1", 400),
        ("GET", "/v1/responses/resp_x/nothing", 404),
        ("GET", "/v1/responses/resp_x/input_items?limit=0", 400),
        ("POST", "/v1/responses/compact", 405),
    ],
)
async def test_addresses_that_dont_exist(http: httpx2.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await http.request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_long_answer_is_streamed_whole(http: httpx2.AsyncClient) -> None:
    """Its end repeats the text four times."""
    body = {"model": "demo", "input": "Hi", "stream": True, "demo": {"rate": 0, "tokens": 20_000}}
    answer = await http.post("/v1/responses", json=body)
    events = events_of(answer.text)
    (text,) = texts(events).values()
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == text
    assert len(text) > 70_000


async def test_what_is_kept_is_lost_without_harm(
    sdk: openai.AsyncOpenAI, server: InLoopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response succeeds though its data can't be kept. Later it only lacks what it would repeat of its request."""

    async def fail(*_: object) -> None:
        raise StoreError("The store can't be reached.")

    monkeypatch.setattr(StoredResponses, "_put", fail)
    made = await ask(sdk, "Hi", instructions="Be brief.")
    assert (made.status, made.instructions) == ("completed", "Be brief.")
    got = await sdk.responses.retrieve(made.id)
    assert (got.output_text, got.instructions) == (made.output_text, None)


async def test_erasing_a_user_deletes_what_is_kept(sdk: openai.AsyncOpenAI, server: InLoopServer) -> None:
    history = [
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
    ]
    made = await ask(sdk, history, instructions="Secret")
    stored = StoredResponses(server.gateway.services, "local")
    assert (await stored.kept(made.id)).settings["instructions"] == "Secret"
    async with http_client(server.url) as http:
        assert (await http.delete("/v1/users/me")).status_code == 200
    assert (await stored.kept(made.id)).settings == {}
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(made.id)
