"""Cache breakpoints in requests to the Messages API: where they are, and for which models."""

from __future__ import annotations

from typing import Any, cast

import pytest

from providers.anthropic.caching import CONTROL, add_breakpoints
from providers.anthropic.request import messages_body
from providers.base import (
    ChatMessage,
    ChatRequest,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from providers.catalog.catalog import Catalog
from providers.quirks import PromptCache
from tests.provider_requests import route
from tests.upstream_providers import every_key


def talk(*messages: tuple[str, tuple[Part, ...]], **fields: Any) -> ChatRequest:
    """Return a request with these messages, each a (role, parts)."""
    chat_messages = tuple(ChatMessage(cast("Role", role), parts) for role, parts in messages)
    return ChatRequest(model="m", messages=chat_messages, **fields)


def places(body: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return where the breakpoints of a body are.

    A breakpoint is ("tools", the tool's name), ("system",), (the message's index, the block's type) or ("request",).
    """
    found: list[tuple[str, ...]] = [
        ("tools", block["name"]) for block in body.get("tools", ()) if "cache_control" in block
    ]
    if isinstance(body.get("system"), list):
        found += [("system",) for block in body["system"] if block["cache_control"] == CONTROL]
    for number, message in enumerate(body["messages"]):
        found += [(str(number), block["type"]) for block in message["content"] if "cache_control" in block]
    return found + ([("request",)] if body.get("cache_control") == CONTROL else [])


USER = ("user", (TextPart("a"), TextPart("b")))
ANSWER = ("assistant", (ReasoningPart("why", signature="s"), TextPart("so")))


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("", []),
        ("request", [("tools", "g"), ("system",), ("request",)]),
        ("blocks", [("tools", "g"), ("system",), ("2", "text")]),
    ],
)
def test_places(style: PromptCache, expected: list[tuple[str, ...]]) -> None:
    """With a style, the tools, the system prompt and the end of the prompt have a breakpoint.

    Nothing else in the tools and messages changes.
    """
    request = talk(USER, ANSWER, USER, system="Be brief.", tools=(Tool("f"), Tool("g")))
    body = messages_body(request, route("anthropic", prompt_cache=style))
    assert places(body) == expected
    plain = messages_body(request, route("anthropic"))
    for block in (*body["tools"], *(block for message in body["messages"] for block in message["content"])):
        block.pop("cache_control", None)
    assert {name: body[name] for name in ("messages", "tools")} == {name: plain[name] for name in ("messages", "tools")}


@pytest.mark.parametrize("style", ["request", "blocks"])
def test_an_answer_to_continue_has_no_breakpoint(style: PromptCache) -> None:
    """If the last message is the beginning of an answer, the breakpoint is at the end of the user's message before it."""
    body = messages_body(
        talk(USER, ANSWER, USER, ("assistant", (TextPart("Once"),))), route("anthropic", prompt_cache=style)
    )
    assert places(body) == [("2", "text")]


def test_the_end_of_a_distant_request_is_marked() -> None:
    """If more than `LOOKBACK_BLOCKS` blocks follow the end of the previous request, it has a breakpoint too."""
    calls = tuple(ToolCallPart(f"c{n}", "f", "{}") for n in range(9))
    results = tuple(ToolResultPart(f"c{n}", "3") for n in range(9))
    body = messages_body(
        talk(USER, ("assistant", calls), ("tool", results), system="Be brief.", tools=(Tool("f"),)),
        route("anthropic", prompt_cache="blocks"),
    )
    assert places(body) == [("tools", "f"), ("system",), ("0", "text"), ("2", "tool_result")]


def test_thinking_has_no_breakpoint() -> None:
    """The API refuses a breakpoint in a thinking block, so it goes into the block before it, if there is one."""
    thinking = {"type": "thinking", "thinking": "why", "signature": "s"}
    text = {"type": "text", "text": "so"}
    for content, expected in (([text, thinking], [("0", "text")]), ([thinking], [])):
        body = {"messages": [{"role": "user", "content": [dict(block) for block in content]}]}
        add_breakpoints(body, "blocks")
        assert places(body) == expected


def test_an_empty_conversation_is_left_as_it_is() -> None:
    """A body without tools and messages, whose system prompt is blank, stays as it is."""
    body: dict[str, Any] = {"messages": [], "system": " "}
    add_breakpoints(body, "request")
    assert body == {"messages": [], "system": " "}


@pytest.mark.parametrize(
    ("model", "style"),
    [
        ("claude-opus-5-5", "request"),
        ("anthropic/claude-3-haiku-20240307", "request"),
        ("foundry/claude-opus-5-5", "request"),
        ("bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0", "blocks"),
        ("bedrock/anthropic.claude-3-haiku-20240307-v1:0", ""),
        ("vertex/claude-haiku-4-5@20251001", "blocks"),
        ("gpt-6-sol", ""),
        ("kimi-k3", ""),
    ],
)
def test_style_of_each_provider(model: str, style: PromptCache) -> None:
    """Bedrock and Vertex AI take `cache_control` only in blocks. Some old models on Bedrock don't take it at all."""
    assert Catalog(every_key()).resolve(model).quirks.prompt_cache == style
