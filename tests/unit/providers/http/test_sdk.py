"""The official SDKs send a long request without converting each of its items."""

from __future__ import annotations

import time

import pytest

from providers.base import ChatMessage, ChatRequest, TextPart
from providers.http.sdk import as_is
from tests.provider_requests import route
from tests.upstream import chat
from tests.upstream_providers import open_providers


def test_long_lists_are_sent_in_the_extra_body() -> None:
    """The lists that may be long are moved to the extra body, which the SDK merges over the empty lists that it gets."""
    arguments = {"model": "m", "messages": ["x"], "tools": [{"a": 1}], "extra_body": {"b": 2}}
    assert as_is(arguments) == {
        "model": "m",
        "messages": [],
        "tools": [],
        "extra_body": {"b": 2, "messages": ["x"], "tools": [{"a": 1}]},
    }
    assert as_is({"model": "m", "input": "x"}) == {"model": "m", "input": [], "extra_body": {"input": "x"}}


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic"])
async def test_a_request_of_many_messages_does_not_block_the_loop(dialect: str) -> None:
    """Law 11: 5,000 messages with one part each, as many as one start may have, take less than 0.3 s of the loop's time."""
    async with open_providers() as (upstream, providers):
        upstream.play(chat("Hi"))
        request = ChatRequest(model="m", messages=(ChatMessage("user", (TextPart("a"),)),) * 5_000)
        took_s = []
        for _ in range(3):  # the first one loads much of the SDK, and a garbage collection may slow down any
            began_s = time.thread_time()
            await providers.answer(request, route(dialect))
            took_s.append(time.thread_time() - began_s)
        body = upstream.requests[-1].body
        assert len(body["input" if dialect == "openai_responses" else "messages"]) == 5_000
        assert min(took_s) < 0.3
