"""Tests of edits of the first message of a chat or a thread that come at the same time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from tests.http_events import http_client
from tests.in_loop_server import serving

SLOW = {"rate": 50, "tokens": 20}


def ui_body(chat: str, text: str, **fields: Any) -> dict[str, Any]:
    message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": chat, "messages": [message], "demo": SLOW, **fields}


def run_body(thread: str, text: str, run: str) -> dict[str, Any]:
    message = {"id": "u1", "role": "user", "content": text}
    empty: dict[str, Any] = {"state": {}, "tools": [], "context": []}
    return {"threadId": thread, "runId": run, "messages": [message], "forwardedProps": {"demo": SLOW}, **empty}


async def post(http: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> str:
    """Return the last event of an answer that says how it has ended."""
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    last = events[-1]
    return str(last.get("outcome", {}).get("type") or last["type"])


async def texts(http: httpx2.AsyncClient, conversation: str) -> list[str]:
    """Return the texts of the user's messages in the newest branch, the oldest first."""
    shown = (await http.get(f"/api/v1/conversations/{conversation}/messages")).json()["messages"]
    return [message["content"] for message in shown if message["role"] == "user"]


async def stored(http: httpx2.AsyncClient, conversation: str) -> list[str]:
    """Return the texts of all messages of the user in a conversation, the oldest first."""
    found = (await http.get(f"/v1/conversations/{conversation}/messages")).json()["messages"]
    return [message["parts"][0]["text"] for message in found if message["role"] == "user"]


async def until_stored(http: httpx2.AsyncClient, conversation: str, text: str) -> None:
    """Wait until a message of the user is stored."""
    async with asyncio.timeout(20):
        while text not in await stored(http, conversation):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("at_once", [True, False])
async def test_the_last_edit_wins(at_once: bool) -> None:
    """The others are stopped, and none of their answers is in its context."""
    async with serving() as server, http_client(server.url) as http:

        async def edit(n: int, chat: str) -> str:
            if n and not at_once:
                await until_stored(http, chat, f"Edit {n - 1}")
            if chat == "chat":
                return await post(http, "/api/chat", ui_body(chat, f"Edit {n}", messageId="u1"))
            return await post(http, "/ag-ui", run_body(chat, f"Edit {n}", f"r{n}"))

        await post(http, "/api/chat", ui_body("chat", "Hello"))
        await post(http, "/ag-ui", run_body("thread", "Hello", "r"))
        for chat, stopped, ended in (("chat", "abort", "finish"), ("thread", "cancelled", "success")):
            endings = await asyncio.gather(*(edit(n, chat) for n in range(4)))
            assert sorted(endings) == sorted([ended, *[stopped] * 3])
            winner = endings.index(ended)
            assert await texts(http, chat) == [f"Edit {winner}"]
            assert at_once or winner == 3


async def test_a_repeated_edit_joins_the_one_that_runs() -> None:
    """Law 6: the repetitions are one turn, which stops the other edit once."""
    async with serving() as server, http_client(server.url) as http:
        await post(http, "/api/chat", ui_body("chat", "Hello"))
        first = asyncio.create_task(post(http, "/api/chat", ui_body("chat", "One", messageId="u1")))
        await until_stored(http, "chat", "One")
        repeated = [post(http, "/api/chat", ui_body("chat", "Two", messageId="u1")) for _ in range(3)]
        assert await asyncio.gather(*repeated) == ["finish"] * 3
        assert await first == "abort"
        assert await stored(http, "chat") == ["Hello", "One", "Two"]
        assert await texts(http, "chat") == ["Two"]
