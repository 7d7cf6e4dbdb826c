"""The application: what the lifespan creates, the turns that a new process resumes, and the drain."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.app import Gateway
from store.errors import StoreError
from tests.client import client
from tests.in_loop_server import serving
from tests.in_process import SLOW, make_settings


async def test_before_the_lifespan_there_are_no_services() -> None:
    """The services can't be used before the lifespan has created them."""
    gateway = Gateway(make_settings(), {})
    with pytest.raises(AssertionError, match="lifespan"):
        _ = gateway.services
    await gateway.store.close()


def test_an_unknown_store_url_is_refused_at_once() -> None:
    """An unknown store URL is refused without a connection to any server."""
    with pytest.raises(StoreError, match="Unknown store"):
        Gateway(make_settings(store="postgres://host/db"), {})


async def test_the_store_is_opened_once_and_closed_at_the_end(tmp_path: Path) -> None:
    """A second `open_store` does nothing. The store is closed at shutdown, so that another gateway can open the same
    file."""
    store = f"sqlite:///{tmp_path / 'turnwire.db'}"
    for n in range(2):
        async with serving(store=store) as running:
            await running.gateway.open_store()
            async with client(running.ws_url) as c:
                listed = await c.request("conversation.list")
                assert len(listed["conversations"]) == n
                await c.request("conversation.create")
        with pytest.raises(StoreError, match="closed"):
            await running.gateway.store.conversations("local", 1, None)


async def test_a_new_process_resumes_unfinished_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 9: a gateway that starts resumes the unfinished turns in its store."""
    monkeypatch.setattr("gateway.turns.runner.CLEANUP_TIMEOUT_S", 0.02)
    store = f"sqlite:///{tmp_path / 'turnwire.db'}"
    async with serving(store=store) as running, client(running.ws_url) as c:
        result = await c.request("turn.start", turn="t", input="Hi", params={"demo": SLOW})
        await c.until_seq("t", 4)
        # Simulate a crash: there is no drain, and the store is closed.
        await running.gateway.store.close()
        for task in running.gateway.services.runner._running:
            task.cancel()
    async with serving(store=store) as running, client(running.ws_url) as c:
        await c.request("turn.attach", turn="t")
        await c.until(lambda: "t" in c.turns and (c.turns["t"].epoch or 0) > result["epoch"])
        assert (await c.request("turn.get", turn="t"))["status"] == "running"
        await c.request("turn.cancel", turn="t")
        ended = await c.ending("t")
        conversation = await c.request("conversation.get", conversation=result["conversation"])
        assert conversation["head"] == ended["message"]


async def test_a_drain_lets_turns_end_and_then_closes() -> None:
    """A drain sends `going_away` first, then the turn's ending, then the close with 4503."""
    async with serving(drain_s=5) as running, client(running.ws_url) as c:
        await c.request("turn.start", turn="t", input="Hi", params={"demo": {"rate": 200, "tokens": 40}})
        await c.until_seq("t", 4)
        leaving = asyncio.get_running_loop().create_task(running.gateway.drain())
        assert (await c.ending("t"))["type"] == "turn.completed"
        assert (await c.until_closed())[0] == 4503
        await leaving
        kinds = [frame["type"] for frame in c.frames]
        assert kinds.index("going_away") < kinds.index("turn.completed")


async def test_a_drain_fails_turns_after_its_time_limit() -> None:
    """After `drain_s` a running turn fails with `shutting_down`, and its client receives the ending."""
    async with serving(drain_s=0) as running, client(running.ws_url) as c:
        await c.request("turn.start", turn="t", input="Hi", params={"demo": SLOW})
        await c.until_seq("t", 4)
        await running.gateway.drain()
        ended = c.turns["t"].ended
        assert ended is not None
        assert ended["error"]["code"] == "shutting_down"
