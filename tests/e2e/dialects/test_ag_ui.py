"""AG-UI against a gateway process: with npm's client in Node, and with requests that are wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.credentials import SECRET, token
from tests.gateway_process import GatewayProcess, gateway_process
from tests.http_events import http_client
from tests.programs import installed, program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

CLIENTS = Path(__file__).parents[2] / "dialect_clients"
ENDLESS = {"rate": 50, "tokens": 100_000}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    settings = {"TURNWIRE_DISCONNECT_GRACE_S": "0"}
    async with gateway_process(tmp_path_factory.mktemp("gateway"), settings) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module")
async def http(shared: GatewayProcess) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(shared.url) as client:
        yield client


def user(content: Any, message_id: str = "u1") -> dict[str, Any]:
    """Return a user's message."""
    return {"id": message_id, "role": "user", "content": content}


def run(thread: str, run_id: str, *messages: Any, demo: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Return the input of a run of the demo model."""
    props = {"model": "demo", "demo": {"rate": 0, "text": "Fine.", **(demo or {})}}
    return {"threadId": thread, "runId": run_id, "messages": list(messages), "forwardedProps": props, **fields}


def events_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    """Return the events of a whole stream."""
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream"), answer.text
    lines = answer.text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


def snapshots_of(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [event["messages"] for event in events if event["type"] == "MESSAGES_SNAPSHOT"]


async def test_the_client_in_node(shared: GatewayProcess) -> None:
    """Every event is checked by the package's own schema and by its verification."""
    installed(CLIENTS / "node_modules" / ".package-lock.json", "the packages of tests/dialect_clients")
    process = await asyncio.create_subprocess_exec(
        *(program("node"), "--no-warnings", CLIENTS / "ag_ui_client.js", shared.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()[-4000:]
    found = json.loads(stdout)
    assert found["warnings"] == []

    talk = found["talk"]
    assert [line for line in talk["shown"] if not line.startswith("reasoning")] == [
        "user: Hello",
        "assistant: Hi you.",
        "user: And?",
        "assistant: That is all.",
    ]
    assert [*dict.fromkeys(talk["first"])] == [
        "RUN_STARTED",
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_END",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert talk["started"] == {
        "type": "RUN_STARTED",
        "threadId": "talk",
        "runId": "talk-1",
        "protocolVersion": "1.0",
    }
    (shown,), ours = talk["usage"]
    assert (shown["model"], shown["outputTokens"]) == ("demo", ours["output_tokens"])
    assert shown["totalTokens"] == ours["input_tokens"] + ours["output_tokens"]
    assert talk["turns"] == ["talk-1", "talk-2"]
    assert talk["view"] == ["completed", "talk", True]

    branches = found["branches"]
    assert branches["edited"][2:] == ["user: Two, edited", "assistant: Second, edited."]
    assert branches["again"][2:] == ["user: Two, edited", "assistant: Second, again."]
    assert branches["shorter"] == ["user: One", "assistant: First.", "user: Other", "assistant: A branch."]
    assert branches["last"] == ["user: One, edited", "assistant: Edited first."]
    assert branches["parents"] == [["One", False], ["Two", True], ["Two, edited", True], ["Other", True]]
    assert branches["snapshots"] == 0

    tools = found["tools"]
    assert tools["pending"] == [2, "Let me see.", {"name": "add", "arguments": '{"a": 1}'}, True]
    assert tools["outcomes"] == ["success", "success"]
    assert tools["shown"][2:] == ["tool: 3", "assistant: It is 3."]
    assert [role for role, _ in tools["stored"]] == ["user", "assistant", "tool", "assistant"]

    history = found["history"]
    assert history["loaded"] == talk["shown"]
    assert history["first"] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    assert history["shown"] == [*talk["shown"], "user: More?", "assistant: No."]

    together = found["shared"]
    assert (together["texts"], together["thoughts"], together["lengths"]) == ([True] * 4, [True] * 4, [3] * 4)
    assert together["outcomes"] == [[{"type": "cancelled"}]] * 4
    assert together["conflict"] == [409, "RUN_ERROR", "conflict"]
    assert together["snapshots"] == [0, 0, 1, 1]
    assert (together["runs"], together["status"]) == ("shared-1", "cancelled")

    resumed = found["resumed"]
    assert (resumed["positions"] > 8, resumed["wrong"], resumed["last"]) == (True, [], 204)

    fails = found["fails"]
    assert fails["before"] == [502, "RUN_ERROR", "upstream_error"]
    assert [code for code, _ in fails["errors"]] == ["upstream_error"]
    assert fails["partial"][1].startswith("assistant: One two")
    assert fails["shown"] == [*fails["partial"], "user: Again", "assistant: Fine now."]

    assert found["left"] == {
        "continue": "running",
        "continue after": ["cancelled", "Done."],
        "cancel": "cancelled",
        "cancel after": ["cancelled", "Done."],
    }
    assert found["given"]["system"].split("\n\n") == [
        "Be brief.",
        "Context from the application:",
        "The page:\nCheckout",
        'State of the application, as JSON:\n{"cart":[3]}',
    ]
    assert found["given"]["parts"] == ["text", "image"]


async def test_a_repeated_run_is_one_turn(http: httpx2.AsyncClient) -> None:
    """Law 6: a repeated id joins the run, at once and after its end. Other content, or another thread, is a conflict."""
    body = run("repeated", "repeated-1", user("Hello"), demo={"text": "Once only."})
    answers = await asyncio.gather(*(http.post("/ag-ui", json=body) for _ in range(3)))
    later = await http.post("/ag-ui", json={**body, "next_year": {"a": 1}, "protocolVersion": "9.1"})
    assert [text_of(events_of(answer)) for answer in (*answers, later)] == ["Once only."] * 4
    stored = (await http.get("/v1/conversations/repeated/messages")).json()["messages"]
    assert [message["role"] for message in stored] == ["user", "assistant"]
    for other in (
        {**body, "messages": [user("Other")]},
        {**body, "messages": [*body["messages"], user("More", "u2")]},
        {**body, "threadId": "elsewhere"},
    ):
        refused = await http.post("/ag-ui", json=other)
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict"), refused.text
        position = {"last-event-id": "1-3"}
        assert (await http.post("/ag-ui", json=other, headers=position)).json()["code"] == "conflict"
    assert (await http.get("/v1/conversations/elsewhere")).status_code == 404


async def test_a_message_during_an_answer_ends_it(http: httpx2.AsyncClient) -> None:
    """The new message follows the partial answer. A client that doesn't show that answer gets a snapshot with it."""
    async with http.stream("POST", "/ag-ui", json=run("busy", "busy-1", user("One"), demo=ENDLESS)) as going:
        lines = going.aiter_lines()
        async for line in lines:
            if "TEXT_MESSAGE_CONTENT" in line:
                break
        following = run("busy", "busy-2", user("One"), user("Two", "u2"), demo={"text": "Two."})
        told = events_of(await http.post("/ag-ui", json=following))
        rest = [json.loads(line.removeprefix("data: ")) async for line in lines if line.startswith("data: ")]
    assert (rest[-1]["outcome"], text_of(told)) == ({"type": "cancelled"}, "Two.")
    stored = (await http.get("/v1/conversations/busy/messages")).json()["messages"]
    assert [message["parent"] for message in stored[1:]] == [message["id"] for message in stored[:-1]]
    partial = stored[1]["id"]
    ids = [[message["id"] for message in messages] for messages in snapshots_of(told)]
    assert ids == [["u1", partial], ["u1", partial, "u2"]]


async def test_a_repeated_regeneration(http: httpx2.AsyncClient) -> None:
    """A run that has no new message is repeated, too, also by a client that shows a part of its answer."""
    await http.post("/ag-ui", json=run("regenerated", "rg-1", user("Hello"), demo={"text": "First."}))
    again = run("regenerated", "rg-2", user("Hello"), demo={"text": "Second."})
    first = events_of(await http.post("/ag-ui", json=again))
    assert text_of(first) == "Second."
    message = next(event["messageId"] for event in first if "messageId" in event)
    partial = {"id": message, "role": "assistant", "content": "Sec"}
    repeated = events_of(await http.post("/ag-ui", json={**again, "messages": [user("Hello"), partial]}))
    assert (text_of(repeated), snapshots_of(repeated)) == ("Second.", [[user("Hello")]])
    stored = (await http.get("/v1/conversations/regenerated/messages")).json()["messages"]
    assert [message["role"] for message in stored] == ["user", "assistant", "assistant"]


async def test_the_result_of_a_tool_that_comes_too_late(http: httpx2.AsyncClient) -> None:
    """It is refused with an error that names AG-UI's field, and nothing is stored."""
    tool = {"text": "Let me see.", "tool": {"name": "add", "arguments": "{}"}}
    events = events_of(await http.post("/ag-ui", json=run("late", "late-1", user("Add"), demo=tool)))
    (call,) = events[-1]["outcome"]["pendingToolCallIds"]
    started = next(event for event in events if event["type"] == "TOOL_CALL_START")
    answer = {"id": started["parentMessageId"], "role": "assistant", "content": "Let me see."}
    shown = [user("Add"), answer, user("Never mind", "u2")]
    events = events_of(await http.post("/ag-ui", json=run("late", "late-2", *shown)))
    message = next(event["messageId"] for event in events if event["type"] == "TEXT_MESSAGE_START")
    result = {"id": "t", "role": "tool", "toolCallId": call, "content": "3"}
    shown += [{"id": message, "role": "assistant", "content": "Fine."}, result]
    refused = await http.post("/ag-ui", json=run("late", "late-3", *shown))
    assert (refused.status_code, refused.json()["type"]) == (400, "RUN_ERROR")
    assert refused.json()["message"].endswith(
        "Send a result before the next message of the user. (messages[4].toolCallId)"
    )
    assert len((await http.get("/v1/conversations/late/messages")).json()["messages"]) == 4


async def test_messages_that_the_gateway_does_not_have(http: httpx2.AsyncClient) -> None:
    """A thread that began elsewhere continues. What only the client has stays in its snapshots, at its place."""
    greeting = {"id": "g", "role": "assistant", "content": "Welcome to Bread Inc."}
    await http.post("/ag-ui", json=run("greeted", "greeted-1", greeting, user("Hello"), demo={"text": "Hi."}))
    conversation = (await http.get("/v1/conversations/greeted")).json()
    assert "assistant: Welcome to Bread Inc." in conversation["system"]
    stored = (await http.get("/v1/conversations/greeted/messages")).json()["messages"]
    assert [message["parts"][0]["text"] for message in stored] == ["Hello", "Hi."]
    two = [user("One", "u2"), user("Two", "u3")]
    told = events_of(await http.post("/ag-ui", json=run("greeted", "greeted-2", greeting, *two)))
    ids = [[message["id"] for message in messages] for messages in snapshots_of(told)]
    assert ids == [["g", "u1", stored[1]["id"]], ["g", "u1", stored[1]["id"], "u2", "u3"]]
    assert (await http.get("/v1/conversations/greeted")).json()["messages"] == 4


async def test_an_image_of_20_mb(http: httpx2.AsyncClient) -> None:
    """A snapshot has the address of an image instead of its data, and a client may send that back."""
    image = {"type": "image", "source": {"type": "data", "value": "A" * 20_000_000, "mimeType": "image/png"}}
    await http.post("/ag-ui", json=run("large", "large-1", user("Hello", "u0")))
    asked = user([{"type": "text", "text": "Look"}, image], "u1")
    told = events_of(await http.post("/ag-ui", json=run("large", "large-2", asked)))
    shown = snapshots_of(told)[-1]
    address = shown[-1]["content"][1]["source"]
    assert (address["type"], address["value"].startswith("/v1/messages/")) == ("url", True)
    assert len((await http.get(address["value"])).content) == 15_000_000
    again = events_of(await http.post("/ag-ui", json=run("large", "large-3", *shown)))
    assert (text_of(again), snapshots_of(again)) == ("Fine.", [])
    stored = (await http.get("/v1/conversations/large/messages")).json()["messages"]
    assert [message["role"] for message in stored] == ["user", "assistant", "user", "assistant", "assistant"]


CALL = {"id": "c9", "type": "function", "function": {"name": "add", "arguments": "{}"}}
BAD: dict[str, tuple[Any, int, str]] = {
    "nothing": ({}, 400, "threadId"),
    "no messages": ({"threadId": "b", "runId": "b1"}, 400, "messages"),
    "an unknown thread": (run("b", "b1"), 400, "messages"),
    "an empty thread": (run("", "b1", user("Hi")), 400, "threadId"),
    "an empty run": (run("b", "", user("Hi")), 400, "runId"),
    "a finished answer": (
        run("b", "b1", user("Hi"), {"id": "a", "role": "assistant", "content": "."}),
        400,
        "last message is an answer",
    ),
    "an empty message": (run("b", "b1", user("")), 400, "messages[0].content"),
    "only sound": (
        run("b", "b1", user([{"type": "audio", "source": {"type": "url", "value": "https://a.b/c"}}])),
        400,
        "messages[0].content",
    ),
    "an invalid address": (
        run(
            "b", "b1", user([{"type": "image", "source": {"type": "url", "value": "data:x", "mimeType": "image/png"}}])
        ),
        400,
        "messages[0].content[0].source.value",
    ),
    "data that isn't base64": (
        run("b", "b1", user([{"type": "image", "source": {"type": "data", "value": "?!", "mimeType": "image/png"}}])),
        400,
        "messages[0].content",
    ),
    "a result without its call": (
        run("b", "b1", user("Hi"), {"id": "t", "role": "tool", "toolCallId": "c9", "content": "1"}),
        400,
        "messages[1].toolCallId",
    ),
    "a message without an id": (run("b", "b1", {"role": "user", "content": "Hi"}), 400, "messages[0].id"),
    "a model": ({**run("b", "b1", user("Hi")), "forwardedProps": {"model": "nobody"}}, 404, "nobody"),
    "a temperature": (
        {**run("b", "b1", user("Hi")), "forwardedProps": {"temperature": 9}},
        400,
        "forwardedProps.temperature",
    ),
    "an option of another type": (
        {**run("b", "b1", user("Hi")), "forwardedProps": {"maxOutputTokens": "many"}},
        400,
        "forwardedProps.maxOutputTokens",
    ),
    "a tool without a name": (run("b", "b1", user("Hi"), tools=[{"name": "a b"}]), 400, "tools[0].name"),
    "a resume": (run("b", "b1", user("Hi"), resume=[{"interruptId": "i", "status": "resolved"}]), 400, "resume"),
    "chat completions": ({"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}, 400, "messages[0].id"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_requests(http: httpx2.AsyncClient, name: str) -> None:
    """The body of a refusal has the shape of `RUN_ERROR`. Nothing is stored."""
    body, status, mentioned = BAD[name]
    answer = await http.post("/ag-ui", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    error = answer.json()
    assert (error["type"], mentioned in error["message"]) == ("RUN_ERROR", True), error
    assert (await http.get("/v1/conversations/b")).status_code == 404


async def test_other_bad_input(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/ag-ui", content=b"{", headers={"content-type": "application/json"})).status_code == 400
    assert (await http.post("/ag-ui", content=b"a" * 30_000_000)).status_code == 413
    for wrong in (await http.get("/ag-ui"), await http.get("/ag-ui/x")):
        assert (wrong.status_code in {404, 405}, wrong.json()["type"]) == (True, "RUN_ERROR")
    lost = await http.post("/ag-ui", json=run("b", "unknown", user("Hi")), headers={"last-event-id": "1-9"})
    assert (lost.status_code, lost.json()["code"]) == (404, "not_found")
    no_id = await http.post("/ag-ui", json=run("b", "b1", user("Hi")), headers={"last-event-id": "x"})
    assert (no_id.status_code, no_id.json()["code"]) == (400, "invalid_request")


async def test_what_is_unusual_but_allowed(http: httpx2.AsyncClient) -> None:
    """Long ids, ids that no address can have, unknown roles and parts, nulls, and many results of tools at once."""
    long, odd = "x" * 10_000, "a/b c?é"
    ignored = [{"id": "r", "role": "reasoning", "content": "Hm."}, {"id": "n", "role": "robot", "content": {"a": 1}}]
    body = run(odd, long, *ignored, user("Hi", long), state=None, tools=None, parentRunId="p", context=None)
    body["forwardedProps"].update(config={"anything": [1]}, temperature=None)
    first = await http.post("/ag-ui", json=body)
    events = events_of(first)
    assert (events[0]["threadId"], events[0]["runId"], events[0]["parentRunId"]) == (odd, long, "p")
    assert len(first.headers["turnwire-turn"]) <= 64
    assert (await http.get(f"/v1/turns/{first.headers['turnwire-turn']}")).json()["status"] == "completed"
    again = events_of(await http.post("/ag-ui", json=body))
    assert [event["type"] for event in again] == [event["type"] for event in events]
    loaded = events_of(await http.post("/ag-ui", json=run(odd, "loaded")))
    assert [message["role"] for message in snapshots_of(loaded)[0]] == ["user", "assistant"]


async def test_users_are_isolated_and_lost_events_are_replaced(tmp_path: Path) -> None:
    """Law 12: another user's thread and run aren't there. A run whose events are gone is answered with its stored messages."""
    settings = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET, "TURNWIRE_TURN_LOG_TTL_S": "0"}
    async with gateway_process(tmp_path, settings) as process, http_client(process.url) as http:
        ann, bob = ({"authorization": f"Bearer {token(name)}"} for name in ("ann", "bob"))
        body = run("secret", "secret-1", user("Hi"), demo=ENDLESS)
        refused = await http.post("/ag-ui", json=body)
        assert (refused.status_code, refused.json()["type"]) == (401, "RUN_ERROR")
        async with http.stream("POST", "/ag-ui", json=body, headers=ann) as going:
            lines = going.aiter_lines()
            async for line in lines:
                if "TEXT_MESSAGE_CONTENT" in line:
                    break
            nothing = await http.post("/ag-ui", json=run("secret", "secret-1"), headers=bob)
            assert (nothing.status_code, nothing.json()["code"]) == (400, "invalid_request")
            own = await http.post("/ag-ui", json=run("secret", "secret-1", user("Hi")), headers=bob)
            assert text_of(events_of(own)) == "Fine."
            assert (await http.post("/v1/turns/secret-1/cancel", headers=ann)).status_code == 200
            rest = [json.loads(line.removeprefix("data: ")) async for line in lines if line.startswith("data: ")]
        assert rest[-1]["outcome"] == {"type": "cancelled"}
        async with asyncio.timeout(30):
            while (await http.get("/v1/turns/secret-1/events", headers=ann)).status_code != 410:
                await asyncio.sleep(0.05)
        again = run("secret", "secret-2", user("Hi"), demo={"text": "Again."})
        for _ in range(2):
            repeated = events_of(await http.post("/ag-ui", json=again, headers=ann))
            assert repeated[-1]["outcome"] == {"type": "success"}
        assert snapshots_of(repeated)[0][-1]["content"] == "Again."
        told = events_of(await http.post("/ag-ui", json=body, headers=ann))
        assert [event["type"] for event in told] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
        assert told[-1]["outcome"] == {"type": "cancelled"}
        answer = snapshots_of(told)[0][-1]
        stored = (await http.get("/v1/turns/secret-1", headers=ann)).json()["message"]
        assert (answer["id"], answer["content"]) == (stored["id"], stored["parts"][0]["text"])
