"""The AI SDK's chat against a gateway process: with npm's packages in Node, and with requests that are wrong."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import websockets

from tests.credentials import SECRET, token
from tests.gateway_process import GatewayProcess, gateway_process
from tests.http_events import http_client
from tests.programs import installed, program
from tests.redis_process import redis_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

CLIENTS = Path(__file__).parents[2] / "dialect_clients"
NEXT = {"rate": 20, "tokens": 5000}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    async with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module")
async def http(shared: GatewayProcess) -> AsyncIterator[httpx2.AsyncClient]:
    async with http_client(shared.url) as client:
        yield client


def user(text: str, message_id: str = "u1") -> dict[str, Any]:
    """Return a user's UI message."""
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


def chunks_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    """Return the chunks of a whole stream."""
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")


@pytest.mark.parametrize("transport", ["http", "socket"])
async def test_the_sdk_in_node(shared: GatewayProcess, transport: str) -> None:
    """Every chunk is checked by the SDK's own schema, and on the socket the numbers of the chunks too."""
    installed(CLIENTS / "node_modules" / ".package-lock.json", "the packages of tests/dialect_clients")
    process = await asyncio.create_subprocess_exec(
        *(program("node"), "--no-warnings", "--experimental-websocket", CLIENTS / "ai_sdk_client.js"),
        *(shared.url, transport),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()[-4000:]
    found = json.loads(stdout)

    talk = found["talk"]
    assert talk["shown"] == ["user: Hello", "assistant: Hi you.", "user: And?", "assistant: That is all."]
    assert talk["parts"] == [["step-start", None], ["reasoning", "done"], ["text", "done"]]
    assert [finish["finishReason"] for finish in talk["finishes"]] == ["stop", "stop"]
    assert talk["turn"] == ["completed", f"{transport}-talk", talk["usage"]["data"]["outputTokens"]]
    for kind in ("talk", "tools"):
        assert without_states(found[kind]["stored"]) == without_states(found[kind]["messages"])

    branches = found["branches"]
    assert branches["edited"][2:] == ["user: Two, edited", "assistant: Second, edited."]
    assert branches["again"][2:] == ["user: Two, edited", "assistant: Second, again."]
    assert branches["first"] == ["user: One", "assistant: First, again."]
    assert branches["last"] == ["user: One, edited", "assistant: Edited first."]
    assert branches["stored"] == ["One, edited", "Edited first."]

    tools = found["tools"]
    assert (tools["calls"], tools["errors"]) == ([["add", {"a": 1, "b": 2}]], [])
    assert tools["shown"] == ["user: Add 1 and 2", "assistant: Let me see.|It is 3."]
    assert tools["types"] == ["step-start", "text", "tool-add", "step-start", "text"]
    assert tools["finishes"] == ["tool-calls", "stop"]

    fails = found["fails"]
    assert ["before its first token" in fails["errors"][0], "in the middle" in fails["errors"][1]] == [True, True]
    assert fails["partial"][1].startswith("assistant: One two")
    assert (fails["status"], fails["shown"]) == ("ready", ["user: Fail", "assistant: Fine now."])

    assert found["shared"] == {
        "same": True,
        "ids": [True, True],
        "ended": ["cancelled", True],
        "stopped": [200, ["cancelled"]],
        "nothing": [0, "ready"],
    }
    assert found["left"]["after"] == ("running" if transport == "http" else "cancelled")
    assert (found["left"]["shown"], found["left"]["stored"]) == (["user: Next", "assistant: Done."], 4)
    assert [len(found["refused"]["errors"]), found["refused"]["status"]] == [3, "error"]
    assert "nobody" in found["refused"]["errors"][0]


def without_states(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages without what only the streaming client adds to the parts."""
    return [
        {**message, "parts": [{k: v for k, v in part.items() if k not in {"state", "id"}} for part in message["parts"]]}
        for message in messages
    ]


async def test_a_repeated_request_joins_the_turn(http: httpx2.AsyncClient) -> None:
    """Law 6: the same message of the same chat is one turn; with other content it is a conflict, unless it is an edit."""
    body = {"id": "repeated", "messages": [user("Hello")], "demo": {"rate": 0, "text": "Once only."}}
    first, second = await asyncio.gather(http.post("/api/chat", json=body), http.post("/api/chat", json=body))
    third = await http.post("/api/chat", json={**body, "trigger": "submit-message", "unknown": 1})
    assert first.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert {answer.headers["turnwire-turn"] for answer in (first, second, third)} == {chunks_of(first)[0]["messageId"]}
    assert [text_of(chunks_of(answer)) for answer in (first, second, third)] == ["Once only."] * 3
    other = await http.post("/api/chat", json={**body, "messages": [user("Other")]})
    assert (other.status_code, other.headers["turnwire-error"]) == (409, "conflict")
    edited = await http.post("/api/chat", json={**body, "messages": [user("Other")], "messageId": "u1"})
    assert (edited.status_code, edited.headers["turnwire-turn"] == first.headers["turnwire-turn"]) == (200, False)


async def test_only_the_last_message(http: httpx2.AsyncClient) -> None:
    """An application may send only the last message, as the SDK's documentation shows, and an id that no path can have."""
    chat = "a/b c?"
    for n, text in enumerate(("One", "Two")):
        body = {"id": chat, "message": user(text, f"u{n}"), "demo": {"rate": 0, "text": f"Answer {n}."}}
        answer = await http.post("/api/chat", json=body)
        assert text_of(chunks_of(answer)) == f"Answer {n}."
    regenerated = {"id": chat, "trigger": "regenerate-message", "demo": {"rate": 0, "text": "Again."}}
    assert text_of(chunks_of(await http.post("/api/chat", json=regenerated))) == "Again."
    stored = (await http.get("/api/chat/a%2Fb%20c%3F/messages")).json()
    assert [message["parts"][-1]["text"] for message in stored["messages"]] == ["One", "Answer 0.", "Two", "Again."]
    assert [message["id"] for message in stored["messages"]][::2] == ["u0", "u1"]


async def test_messages_that_the_gateway_does_not_have(http: httpx2.AsyncClient) -> None:
    """A chat that began elsewhere continues: what came before is given to the model with the system prompt."""
    greeting = {"id": "g", "role": "assistant", "parts": [{"type": "text", "text": "Welcome to Bread Inc."}]}
    body = {"id": "greeted", "messages": [greeting, user("Hello")], "demo": {"rate": 0, "text": "Hi."}}
    assert (await http.post("/api/chat", json=body)).status_code == 200
    conversation = (await http.get("/v1/conversations/greeted")).json()
    assert "assistant: Welcome to Bread Inc." in conversation["system"]


async def test_a_request_without_a_chat(http: httpx2.AsyncClient) -> None:
    """Without an id there is no history: the messages are the whole context, with the results of tools in them."""
    call = {"type": "tool-add", "toolCallId": "c1", "state": "output-available", "input": {"a": 1}, "output": {"b": 2}}
    answer = {"id": "a", "role": "assistant", "parts": [{"type": "step-start"}, {"type": "text", "text": "Hm."}, call]}
    body = {"messages": [user("Add"), answer], "demo": {"rate": 0, "text": "Two."}}
    found = await http.post("/api/chat", json=body)
    assert text_of(chunks_of(found)) == "Two."
    assert (await http.get(f"/v1/turns/{found.headers['turnwire-turn']}")).json()["conversation"] is None


async def test_a_resume_in_the_second_step_has_the_first_step_too(http: httpx2.AsyncClient) -> None:
    """A client that loads the page between two steps rebuilds the whole message."""
    demo = {"rate": 0, "text": "Let me see.", "tool": {"name": "add", "arguments": "{}"}}
    first = chunks_of(await http.post("/api/chat", json={"id": "steps", "messages": [user("Add")], "demo": demo}))
    message = first[0]["messageId"]
    call = next(chunk for chunk in first if chunk["type"] == "tool-input-available")
    done = {"type": "tool-add", "toolCallId": call["toolCallId"], "state": "output-available", "input": {}, "output": 3}
    answered = {"id": message, "role": "assistant", "parts": [{"type": "step-start"}, done]}
    body = {
        "id": "steps",
        "messages": [user("Add"), answered],
        "messageId": message,
        "demo": {"rate": 30, "tokens": 60},
    }
    async with http.stream("POST", "/api/chat", json=body) as going:
        async for line in going.aiter_lines():
            if "text-delta" in line:
                break
        resumed = chunks_of(await http.get("/api/chat/steps/stream"))
    types = [chunk["type"] for chunk in resumed]
    assert resumed[0] == {"type": "start", "messageId": message}
    assert types[:8] == [
        "start",
        "start-step",
        "text-start",
        "text-delta",
        "text-end",
        "tool-input-available",
        "tool-output-available",
        "finish-step",
    ]
    assert (types.count("start-step"), types[-1]) == (2, "finish")


async def test_a_message_during_an_answer_ends_it(http: httpx2.AsyncClient) -> None:
    body = {"id": "busy", "messages": [user("One")], "demo": NEXT}
    async with http.stream("POST", "/api/chat", json=body) as going:
        lines = going.aiter_lines()
        async for line in lines:
            if "text-delta" in line:
                break
        turn = going.headers["turnwire-turn"]
        partial = {"id": turn, "role": "assistant", "parts": [{"type": "text", "text": "…"}]}
        following = {"messages": [user("One"), partial, user("Two", "u2")], "demo": {"rate": 0, "text": "Two."}}
        answer = await http.post("/api/chat", json={"id": "busy", **following})
        rest = [line async for line in lines if line.startswith("data: ")]
    assert text_of(chunks_of(answer)) == "Two."
    assert json.loads(rest[-2].removeprefix("data: "))["type"] == "abort"
    stored = (await http.get("/api/chat/busy/messages")).json()["messages"]
    assert [message["id"] for message in stored] == ["u1", turn, "u2", answer.headers["turnwire-turn"]]


async def test_a_message_after_a_resumed_answer_keeps_the_context(http: httpx2.AsyncClient) -> None:
    """A page that was reloaded, and has resumed the answer, shows nothing before it. The chat doesn't begin again."""
    first = await http.post("/api/chat", json={"id": "reloaded", "messages": [user("One")], "demo": {"rate": 0}})
    shown = {"id": first.headers["turnwire-turn"], "role": "assistant", "parts": [{"type": "text", "text": "First."}]}
    body = {"id": "reloaded", "messages": [user("One"), shown, user("Two", "u2")], "demo": NEXT}
    async with http.stream("POST", "/api/chat", json=body) as going:
        async for line in going.aiter_lines():
            if "text-delta" in line:
                break
        resumed = {**shown, "id": going.headers["turnwire-turn"]}
        following = {"messages": [resumed, user("Three", "u3")], "demo": {"rate": 0, "text": "Three."}}
        answer = await http.post("/api/chat", json={"id": "reloaded", **following})
    assert text_of(chunks_of(answer)) == "Three."
    stored = (await http.get("/api/chat/reloaded/messages")).json()["messages"]
    assert [message["id"] for message in stored[::2]] == ["u1", "u2", "u3"]
    assert stored[3]["id"] == resumed["id"]


async def test_a_message_during_the_answer_to_a_tool_follows_it(http: httpx2.AsyncClient) -> None:
    """The second step of an answer isn't stored while it runs, but the message that ends it follows that step."""
    demo = {"rate": 0, "text": "Let me see.", "tool": {"name": "add", "arguments": "{}"}}
    first = chunks_of(await http.post("/api/chat", json={"id": "cut-step", "messages": [user("Add")], "demo": demo}))
    call = next(chunk for chunk in first if chunk["type"] == "tool-input-available")
    done = {"type": "tool-add", "toolCallId": call["toolCallId"], "state": "output-available", "input": {}, "output": 3}
    message = {"id": first[0]["messageId"], "role": "assistant", "parts": [{"type": "step-start"}, done]}
    body = {"id": "cut-step", "messages": [user("Add"), message], "demo": NEXT}
    async with http.stream("POST", "/api/chat", json=body) as going:
        async for line in going.aiter_lines():
            if "text-delta" in line:
                break
        shown = {**message, "parts": [*message["parts"], {"type": "step-start"}, {"type": "text", "text": "…"}]}
        following = {"messages": [user("Add"), shown, user("Stop", "u2")], "demo": {"rate": 0, "text": "OK."}}
        assert (await http.post("/api/chat", json={"id": "cut-step", **following})).status_code == 200
    stored = (await http.get("/api/chat/cut-step/messages")).json()["messages"]
    assert [message["id"] for message in stored[:3]] == ["u1", message["id"], "u2"]
    assert [part["type"] for part in stored[1]["parts"]].count("step-start") == 2


BAD: dict[str, tuple[Any, int, str]] = {
    "nothing": ({}, 400, "messages"),
    "no messages": ({"id": "b", "messages": []}, 400, "messages"),
    "no parts": ({"id": "b", "messages": [{"id": "u", "role": "user", "content": "Hi"}]}, 400, "parts"),
    "a role": ({"id": "b", "messages": [{"id": "u", "role": "robot", "parts": []}]}, 400, "messages[0].role"),
    "an empty message": ({"id": "b", "messages": [user("")]}, 400, "messages[0].parts"),
    "a file": (
        {"id": "b", "messages": [{**user(""), "parts": [{"type": "file", "url": "data:x", "mediaType": "image/png"}]}]},
        400,
        "messages[0].parts[0].url",
    ),
    "a model": ({"id": "b", "messages": [user("Hi")], "model": "nobody"}, 404, "nobody"),
    "a temperature": ({"id": "b", "messages": [user("Hi")], "temperature": 9}, 400, "temperature"),
    "a result without its call": (
        {
            "id": "b",
            "messages": [
                user("Hi"),
                {
                    "id": "a",
                    "role": "assistant",
                    "parts": [{"type": "tool-x", "toolCallId": "c", "state": "output-available", "output": 1}],
                },
            ],
        },
        400,
        "no tool call c",
    ),
    "a finished answer": (
        {
            "id": "b",
            "messages": [user("Hi"), {"id": "a", "role": "assistant", "parts": [{"type": "text", "text": "."}]}],
        },
        400,
        "messages[1].parts",
    ),
    "a body of chat completions": ({"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}, 400, "parts"),
    "a message that is unknown": ({"id": "b", "trigger": "regenerate-message", "messageId": "m"}, 404, "stored"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_requests(http: httpx2.AsyncClient, name: str) -> None:
    """The body of a refusal is its text, which the SDK shows to the user."""
    body, status, mentioned = BAD[name]
    answer = await http.post("/api/chat", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8"), answer.text
    assert mentioned in answer.text
    assert (await http.get("/api/chat/b/stream")).status_code == 204


async def test_other_bad_input(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/api/chat", content=b"{", headers={"content-type": "application/json"})).status_code == 400
    assert (await http.post("/api/chat", content=b"a" * 30_000_000)).status_code == 413
    assert (await http.get("/api/chat")).status_code == 405
    for path in ("/api/chat/nobody/stream", "/api/chat/%00/stream"):
        assert (await http.get(path)).status_code == 204
    assert (await http.post("/api/chat/nobody/stop", json={"activeStreamId": "x"})).json() == {"turns": {}}
    missing = await http.get("/api/chat/nobody/messages")
    assert (missing.status_code, missing.headers["turnwire-error"]) == (404, "not_found")
    image = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64," + "A" * 20_000_000}
    large = {"id": "large", "messages": [{**user("Look"), "parts": [image]}], "demo": {"rate": 0, "text": "Nice."}}
    assert text_of(chunks_of(await http.post("/api/chat", json=large))) == "Nice."
    shown = (await http.get("/api/chat/large/messages")).json()["messages"][0]["parts"][0]
    assert (shown["mediaType"], shown["url"].startswith("/v1/messages/")) == ("image/png", True)


class Socket:
    """A socket that speaks the protocol of the SDK's transport."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.connection = connection

    async def send(self, kind: str, request: str, **fields: Any) -> None:
        whole = {"type": kind, "requestId": request, "headers": {}, "body": {}, "id": "c", **fields}
        await self.connection.send(json.dumps(whole))

    async def until_ended(self, request: str) -> list[dict[str, Any]]:
        """Return the frames of a request up to its last one."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(30):
            while not found or found[-1]["type"] not in {"end", "error", "no-active"}:
                frame = json.loads(await self.connection.recv())
                if frame["requestId"] == request:
                    found.append(frame)
        return found


@asynccontextmanager
async def socket(url: str, path: str = "/ai-sdk/ws", **options: Any) -> AsyncIterator[Socket]:
    async with websockets.connect(url.replace("http", "ws", 1) + path, **options) as connection:
        yield Socket(connection)


async def test_several_requests_on_one_socket(shared: GatewayProcess) -> None:
    """Two answers at once, and two requests that follow the same turn, each with its own numbers from 0."""
    async with socket(shared.url) as s:
        demo = {"rate": 100, "tokens": 60}
        await s.send("send", "r1", id="m1", messages=[user("One")], body={"demo": demo})
        assert json.loads(await s.connection.recv())["chunk"]["type"] == "start"
        await s.send("send", "r2", id="m2", messages=[user("Two")], body={"demo": {"rate": 0, "text": "Two."}})
        await s.send("resume", "r3", id="m1")
        found: dict[str, list[dict[str, Any]]] = {"r1": [{"type": "start"}], "r2": [], "r3": []}
        async with asyncio.timeout(30):
            while not all(frames and frames[-1]["type"] == "end" for frames in found.values()):
                frame = json.loads(await s.connection.recv())
                found[frame["requestId"]].append(frame)
    chunks = {name: [frame for frame in frames if frame["type"] == "chunk"] for name, frames in found.items()}
    assert [frame["sequence"] for frame in chunks["r1"]] == list(range(1, len(chunks["r1"]) + 1))
    for name in ("r2", "r3"):
        assert [frame["sequence"] for frame in chunks[name]] == list(range(len(chunks[name])))
    texts = {name: text_of([frame["chunk"] for frame in frames]) for name, frames in chunks.items()}
    assert texts["r1"] == texts["r3"] != texts["r2"] == "Two."


async def test_garbage_on_a_socket(shared: GatewayProcess) -> None:
    """A frame that names its request is answered. One that doesn't closes the socket, and nothing else is disturbed."""
    async with socket(shared.url) as s, socket(shared.url) as other:
        await other.send(
            "send", "r1", id="undisturbed", messages=[user("Hi")], body={"demo": {"rate": 50, "tokens": 30}}
        )
        frames: tuple[dict[str, Any], ...] = (
            {"messages": 3},
            {"messages": []},
            {"messages": [user("Hi")], "body": {"model": "nobody"}},
            {"type": "dance"},
            {"messages": [user("Half an emoji: \ud83d")]},
        )
        mentioned = ("messages", "messages", "nobody", "(type)", "surrogate")
        for n, (fields, words) in enumerate(zip(frames, mentioned, strict=True)):
            await s.send(fields.pop("type", "send"), f"b{n}", **fields)
            (answer,) = await s.until_ended(f"b{n}")
            assert answer["type"] == "error"
            assert words in answer["errorText"]
        await s.send("resume", "r", id="never")
        assert await s.until_ended("r") == [{"type": "no-active", "requestId": "r"}]
        await s.send("abort", "unknown")
        await s.connection.send("{]")
        async with asyncio.timeout(20):
            await s.connection.wait_closed()
        assert s.connection.close_code == 1008
        assert (await other.until_ended("r1"))[-1]["type"] == "end"
    async with socket(shared.url) as s:
        await s.connection.send(b"binary")
        await s.connection.wait_closed()
        assert s.connection.close_code == 1008
    async with socket(shared.url) as s:
        # Each frame of the answer would repeat it.
        await s.send("send", "r" * 257, messages=[user("Hi")])
        await s.connection.wait_closed()
        assert s.connection.close_code == 1008


async def test_a_client_that_reads_too_slowly(shared: GatewayProcess) -> None:
    """Its socket is closed without a failure in the log, and its turn goes on."""
    lines = len(shared.log)
    async with socket(shared.url, max_queue=1) as slow:
        body = {"demo": {"rate": 0, "tokens": 300_000}}
        await slow.send("send", "r1", id="slow", messages=[user("Count")], body=body)
        async with asyncio.timeout(60):
            while not any("code=1013" in line for line in shared.log[lines:]):
                await asyncio.sleep(0.1)
            (closing,) = [line for line in shared.log[lines:] if "code=1013" in line]
            (connection,) = re.findall(r"connection=(\S+)", closing)
            while not any("connection closed" in line and connection in line for line in shared.log[lines:]):
                await asyncio.sleep(0.1)
    assert "request failed" not in "".join(shared.log[lines:])
    async with socket(shared.url) as s:
        await s.send("resume", "r2", id="slow")
        frame = json.loads(await s.connection.recv())
        assert frame["type"] in {"start", "no-active"}


async def test_credentials_and_users(tmp_path: Path) -> None:
    """The credential of a socket may come with its first frame. Another user sees nothing of a chat."""
    settings = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET}
    async with gateway_process(tmp_path, settings) as process, http_client(process.url) as http:
        ann, bob = ({"authorization": f"Bearer {token(name)}"} for name in ("ann", "bob"))
        body = {"id": "secret", "messages": [user("Hi")], "demo": NEXT}
        refused = await http.post("/api/chat", json=body)
        assert (refused.status_code, refused.text) == (401, refused.text)
        assert "Bearer" in refused.text
        async with socket(process.url, origin=process.url) as s:
            await s.send(
                "send",
                "r1",
                id="secret",
                messages=[user("Hi")],
                headers={"Authorization": ann["authorization"]},
                body={"demo": NEXT},
            )
            assert json.loads(await s.connection.recv())["chunk"]["type"] == "start"
            assert (await http.get("/api/chat/secret/stream", headers=bob)).status_code == 204
            assert (await http.get("/api/chat/secret/messages", headers=bob)).status_code == 404
            assert (await http.post("/api/chat/secret/stop", headers=bob)).json() == {"turns": {}}
            await s.send("resume", "r2", id="secret", headers={"authorization": bob["authorization"]})
            assert (await s.until_ended("r2"))[-1]["type"] == "error"
            await s.send("send", "r3", id="other", messages=[user("Hi")], headers={"Turnwire-As": "bob"})
            named = (await s.until_ended("r3"))[-1]
            assert (named["type"], "Turnwire-As" in named["errorText"]) == ("error", True), "it isn't ann's turn"
            assert len((await http.post("/api/chat/secret/stop", headers=ann)).json()["turns"]) == 1
            frames = await s.until_ended("r1")
            assert [frame["chunk"]["type"] for frame in frames if "chunk" in frame][-1] == "abort"
        async with socket(process.url, origin=process.url) as s:
            await s.send("send", "r1", messages=[user("Hi")])
            await s.connection.wait_closed()
            assert s.connection.close_code == 1008
        with pytest.raises(websockets.InvalidStatus) as wrong:
            async with socket(process.url, additional_headers={"authorization": "Bearer wrong"}):
                pass
        assert wrong.value.response.status_code == 401
        for query in ("token=x", "api_key=x", "&".join(f"a{n}=1" for n in range(99))):
            with pytest.raises(websockets.InvalidStatus) as in_address:
                async with socket(process.url, f"/ai-sdk/ws?{query}", origin=process.url):
                    pass
            assert in_address.value.response.status_code in {400, 401}, "as at every other address"
        async with socket(process.url, origin=process.url, additional_headers={"Turnwire-As": "bob"}) as s:
            await s.send("resume", "r", id="secret", headers={"Authorization": ann["authorization"]})
            await s.connection.wait_closed()
            assert s.connection.close_code == 1008, "ann may not act for bob"
        ticket = (await http.post("/v1/tickets", headers=ann)).json()["ticket"]
        async with socket(process.url, f"/ai-sdk/ws?ticket={ticket}", origin=process.url) as s:
            await s.send("resume", "r", id="secret")
            assert (await s.until_ended("r"))[-1]["type"] == "no-active"


async def test_the_user_that_a_service_names_on_a_socket(tmp_path: Path) -> None:
    """A service acts for the user in the headers of the opening. Those of a frame can't name another one."""
    settings = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET}
    async with gateway_process(tmp_path, settings) as process, http_client(process.url) as http:
        service = {"Authorization": f"Bearer {token('app', scope='chat read cancel as')}"}
        body: dict[str, Any] = {"messages": [user("Hi")], "body": {"demo": {"rate": 0, "text": "Hi."}}}
        named = {"Turnwire-As": "ann"}
        for n, opening in enumerate((named, {**service, **named})):
            async with socket(process.url, origin=process.url, additional_headers=opening) as s:
                await s.send("send", "r1", id=f"named{n}", headers={**service, **named}, **body)
                assert (await s.until_ended("r1"))[-1]["type"] == "end"
                await s.send("send", "r2", id="other", headers={**service, "turnwire-as": "bob"}, **body)
                (refused,) = await s.until_ended("r2")
                assert "one user" in refused["errorText"]
            as_ann = await http.get(f"/api/chat/named{n}/messages", headers={**service, **named})
            assert [message["role"] for message in as_ann.json()["messages"]] == ["user", "assistant"]
        async with socket(process.url, origin=process.url) as s:
            await s.send("send", "r1", id="frame", headers={**service, **named}, **body)
            assert (await s.until_ended("r1"))[-1]["type"] == "error"
        async with socket(process.url, origin=process.url, additional_headers=named) as s:
            await s.send("send", "r1", id="frame", headers={"Authorization": f"Bearer {token('eve')}"}, **body)
            await s.connection.wait_closed()
            assert s.connection.close_code == 1008


async def test_repeated_edits_on_two_instances(tmp_path: Path) -> None:
    """Both instances start the same turns at once, and each start interrupts the others. None waits for ever, and one
    of them is answered."""
    with redis_process(tmp_path / "redis") as redis:
        async with (
            gateway_process(tmp_path / "a", store=redis.url) as one,
            gateway_process(tmp_path / "b", store=redis.url) as two,
            http_client(one.url) as first,
            http_client(two.url) as second,
        ):
            for attempt in range(6):
                demo = {"rate": 100, "tokens": 20}
                body = {"id": f"edits{attempt}", "messages": [user("Hello")], "demo": demo}
                await first.post("/api/chat", json=body)
                edits = [{**body, "messages": [user(f"Edit {n % 3}")], "messageId": "u1"} for n in range(9)]
                async with asyncio.timeout(15):
                    answers = await asyncio.gather(
                        *((first, second)[n % 2].post("/api/chat", json=edit) for n, edit in enumerate(edits))
                    )
                assert {answer.status_code for answer in answers} == {200}
                assert any('"type":"finish"' in answer.text for answer in answers)
