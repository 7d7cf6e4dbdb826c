"""Finished work leaves no reference cycle: what it held is freed at once, not by a later garbage collection.

A cycle through a stack frame would keep a request of many megabytes, or an answer.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any

import httpx2
import pytest

import gateway
from tests.client import Client, RequestFailed, client
from tests.http_events import SSE, http_client, started
from tests.in_loop_server import serving
from tests.in_process import SLOW
from tests.upstream import Upstream, chat, error_response

MODEL = "openai/some-model"
QUICK = {"demo": {"rate": 0, "text": "Hello."}}
ROOT = Path(gateway.__file__).parents[1]
OURS = tuple(f"{ROOT / name}/" for name in ("gateway", "providers", "store"))


async def complete(c: Client, _: httpx2.AsyncClient) -> None:
    await c.request("turn.start", turn="t", input="x", params=QUICK)
    await c.ending("t")


async def fail(c: Client, _: httpx2.AsyncClient) -> None:
    await c.request("turn.start", turn="t", input="x", params={"demo": {"rate": 0, "fail": "now"}})
    assert (await c.ending("t"))["type"] == "turn.failed"


async def cancel(c: Client, _: httpx2.AsyncClient) -> None:
    await c.request("turn.start", turn="t", input="x", params={"demo": SLOW})
    await c.until(lambda: c.turns["t"].seq > 2)
    await c.request("turn.cancel", turn="t")
    await c.ending("t")


async def refuse(c: Client, _: httpx2.AsyncClient) -> None:
    for kind, fields in (
        ("turn.start", {"turn": "t", "input": "x", "model": "unknown"}),
        ("turn.start", {"turn": "t", "input": "x", "conversation": "unknown"}),
        ("turn.get", {"turn": "unknown"}),
        ("conversation.get", {"conversation": "unknown"}),
        ("no.such.request", {}),
    ):
        with pytest.raises(RequestFailed):
            await c.request(kind, **fields)


async def refuse_over_http(_: Client, http: httpx2.AsyncClient) -> None:
    for body in ('{"input":"x","model":"unknown"}', '{"input":', '{"input":"x","unknown":1}'):
        answer = await http.post("/v1/turns", content=body, headers={"content-type": "application/json"})
        assert answer.is_client_error, body
    assert (await http.get("/v1/turns/unknown")).status_code == 404


async def wait_over_http(_: Client, http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/turns", json={"input": "x", "params": QUICK})
    assert answer.json()["status"] == "completed"


async def leave_over_http(_: Client, http: httpx2.AsyncClient) -> None:
    async with started(http, accept=SSE, turn="t", input="x", params={"demo": SLOW}) as events:
        await events.next()
    await http.post("/v1/turns/t/cancel")
    while (await http.get("/v1/turns/t")).json()["status"] != "cancelled":
        await asyncio.sleep(0.05)


async def cancel_at_provider(c: Client, _: httpx2.AsyncClient) -> None:
    await c.request("turn.start", turn="t", input="slow", model=MODEL)
    await c.until(lambda: c.turns["t"].seq > 2)
    await c.request("turn.cancel", turn="t")
    await c.ending("t")


async def fail_at_provider(c: Client, _: httpx2.AsyncClient) -> None:
    for turn, ending in (("cut", "turn.failed"), ("refused", "turn.failed"), ("retried", "turn.completed")):
        await c.request("turn.start", turn=turn, input="x", model=MODEL)
        assert (await c.ending(turn))["type"] == ending, turn


SLOW_ANSWER = chat(*["x "] * 1000).replace(rate=50)
FAILURES = (
    chat("x", "y").replace(cut=200),
    error_response(400, {"error": {"message": "No."}}),
    error_response(503, {"error": {"message": "Busy."}}),
    chat("x"),
)
WORK = {
    complete: (),
    fail: (),
    cancel: (),
    refuse: (),
    refuse_over_http: (),
    wait_over_http: (),
    leave_over_http: (),
    cancel_at_provider: (SLOW_ANSWER,),
    fail_at_provider: FAILURES,
}
"""Each kind of work, and what the provider answers."""


@pytest.mark.parametrize("work", WORK, ids=lambda work: work.__name__)
async def test_finished_work_leaves_no_reference_cycle(
    work: Callable[[Client, httpx2.AsyncClient], Coroutine[Any, Any, None]], upstream: Upstream
) -> None:
    """No stack frame of the gateway is left for the garbage collector: neither after a success nor after a failure."""
    upstream.play(*WORK[work])
    environment = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": upstream.openai_url}
    async with (
        serving(environment, disconnect_grace_s=0.1) as server,
        client(server.ws_url) as c,
        http_client(server.url) as http,
    ):
        await c.request("turn.start", turn="first", input="x", params=QUICK)  # load what is loaded only once
        await c.ending("first")
        gc.collect()
        gc.disable()
        try:
            await work(c, http)
            await asyncio.sleep(0.3)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            frames = [found.f_code for found in gc.garbage if isinstance(found, FrameType)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert {code.co_qualname for code in frames if code.co_filename.startswith(OURS)} == set()
