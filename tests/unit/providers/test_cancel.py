"""A cancelled answer ends the request to its provider, in every dialect."""

from __future__ import annotations

import asyncio

import pytest

from providers.route import Route
from tests.answers import Batches
from tests.provider_requests import chat_request, route
from tests.upstream import Script, chat, messages, responses
from tests.upstream_providers import open_providers

DIALECTS = {
    "chat": (route(), chat("a", "b").replace(stall_after=1)),
    "responses": (route("openai_responses"), responses("a", "b").replace(stall_after=4)),
    "messages": (route("anthropic", reasoning="adaptive"), messages("a", "b").replace(stall_after=3)),
}
"""A route of each dialect, and a stream that stops in its middle."""


@pytest.mark.parametrize("delay_s", [0, 60])
@pytest.mark.parametrize(("model", "script"), DIALECTS.values(), ids=DIALECTS)
async def test_cancel_disconnects(model: Route, script: Script, delay_s: float) -> None:
    """Cancelling disconnects from the provider at once, both before its first byte and during the stream."""
    async with open_providers() as (upstream, providers):
        upstream.play(script.replace(delay_s=delay_s))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(providers.answer(chat_request(), model))
            received = await upstream.wait_for_request()
            await asyncio.sleep(0.05)
            task.cancel()
            async with asyncio.timeout(5):
                await received.disconnected.wait()


async def test_cancel_during_the_answer_disconnects() -> None:
    """Cancelling an answer after its first batch disconnects from the provider."""
    async with open_providers() as (upstream, providers):
        upstream.play(chat("a", "b").replace(stall_after=1))
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(
                providers.providers.client(DIALECTS["chat"][0]).answer(chat_request(), sink := Batches())
            )
            while not sink.put_batches:
                await asyncio.sleep(0.005)
            answering.cancel()
        async with asyncio.timeout(5):
            await upstream.requests[0].disconnected.wait()
