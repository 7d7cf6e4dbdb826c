"""Requests to providers, and routes to models, for tests."""

from __future__ import annotations

from typing import Any

from providers.base import ChatMessage, ChatRequest, Params, TextPart, Tool, ToolChoice
from providers.quirks import Quirks
from providers.route import Route


def chat_request(
    text: str = "Hi",
    *,
    model: str = "m",
    tools: tuple[Tool, ...] = (),
    tool_choice: ToolChoice | None = None,
    system: str | None = None,
    **params: Any,
) -> ChatRequest:
    """Return a request with one user message."""
    return ChatRequest(
        model=model,
        messages=(ChatMessage("user", (TextPart(text),)),),
        params=Params(**params),
        tools=tools,
        tool_choice=tool_choice,
        system=system,
    )


def route(dialect: Any = "openai_chat", *, features: tuple[Any, ...] | None = None, **quirks: Any) -> Route:
    """Return a route with these quirks, by default to a model with tools and vision."""
    return Route(
        id="m",
        model="m",
        provider={"openai_chat": "openai", "openai_responses": "openai"}.get(dialect, dialect),
        title={"anthropic": "Anthropic", "demo": "Demo"}.get(dialect, "OpenAI"),
        dialect=dialect,
        features=("chat", "streaming", "tools", "vision") if features is None else features,
        quirks=Quirks(**quirks),
    )
