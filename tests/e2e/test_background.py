"""Responses that the provider produces in the background: they outlive the instance that requested them,
and a cancel request is passed on to the provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.client import Client, client
from tests.upstream import RESPONSE, responses
from tests.world import World, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

WORDS = [f"word{n} 🙂 " for n in range(300)]


@asynccontextmanager
async def instances(folder: Path) -> AsyncIterator[World]:
    """Start two instances with OpenAI's background mode."""
    rows = folder / "models.toml"
    rows.write_text("[providers.openai.quirks]\nbackground = true\n")
    async with world(folder, TURNWIRE_MODELS=str(rows)) as made:
        yield made


def statuses(c: Client) -> list[str]:
    """Return the statuses in the turn's status events, in order."""
    return [frame["status"] for frame in c.frames if frame.get("type") == "turn.status"]


async def test_law_9_a_killed_owners_response_is_continued(tmp_path: Path) -> None:
    """Law 9: the owner is killed in the middle of the turn; the other instance fetches the same response and continues
    with the rest."""
    async with instances(tmp_path) as w, client(w.urls()[1]) as there:
        w.upstream.play(responses(*WORDS).replace(rate=60))
        async with client(w.urls()[0]) as here:
            await here.request("turn.start", turn="t", input="x", model="gpt-6-sol")
            await here.until_seq("t", 30)
            await there.request("turn.attach", turn="t")
            w.kill(0)
        ended = await there.ending("t", timeout_s=30)
        assert ended["type"] == "turn.completed", ended
        view = there.turns["t"]
        assert (view.text(), view.resets) == ("".join(WORDS), 0)
        assert statuses(there) == ["running", "resumed"]
        assert [received.method for received in w.upstream.requests] == ["POST", "GET"]
        assert w.upstream.requests[0].body["store"] is True
        await w.check_stored("t", view.text())
        assert w.upstream.cancelled == []


async def test_law_9_the_owner_is_killed_before_the_first_token(tmp_path: Path) -> None:
    """Law 9: the owner is killed before the first token; the model isn't asked a second time."""
    async with instances(tmp_path) as w, client(w.urls()[1]) as there:
        w.upstream.play(responses("Hello", ".").replace(rate=0.7))
        async with client(w.urls()[0]) as here:
            await here.request("turn.start", turn="t", input="x", model="gpt-6-sol")
            await there.request("turn.attach", turn="t")
            await there.until(lambda: "running" in statuses(there))
            w.kill(0)
        assert (await there.ending("t", timeout_s=30))["type"] == "turn.completed"
        assert (there.turns["t"].text(), there.turns["t"].resets) == ("Hello.", 0)
        assert [received.method for received in w.upstream.requests] == ["POST", "GET"]


@pytest.mark.parametrize("through", [0, 1])
async def test_law_5_a_cancel_request_reaches_the_provider(tmp_path: Path, through: int) -> None:
    """Law 5: closing the connection doesn't stop a background response, so the gateway also cancels it at the
    provider."""
    async with instances(tmp_path) as w, client(w.urls()[0]) as here:
        async with client(w.urls()[through]) as canceller:
            w.upstream.play(responses(*WORDS).replace(rate=60))
            await here.request("turn.start", turn="t", input="x", model="gpt-6-sol")
            await here.until_seq("t", 10)
            assert await canceller.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
            async with asyncio.timeout(5):
                while not w.upstream.cancelled:
                    await asyncio.sleep(0.02)
        assert w.upstream.cancelled == [RESPONSE]
        assert w.upstream.requests[0].disconnected.is_set()
        assert (await here.ending("t"))["type"] == "turn.cancelled"


async def test_law_5_a_takeover_obeys_the_cancel_request(tmp_path: Path) -> None:
    """Law 5: the turn of a dead owner is cancelled; the instance that takes it over cancels the response at the
    provider, too."""
    async with instances(tmp_path) as w, client(w.urls()[1]) as there:
        w.upstream.play(responses(*WORDS).replace(rate=60))
        async with client(w.urls()[0]) as here:
            await here.request("turn.start", turn="t", input="x", model="gpt-6-sol")
            await here.until_seq("t", 10)
            w.kill(0)
        assert await there.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
        async with asyncio.timeout(5):
            while not w.upstream.cancelled:
                await asyncio.sleep(0.02)
        assert w.upstream.cancelled == [RESPONSE]
