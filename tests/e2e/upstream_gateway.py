"""A gateway whose providers are all at one upstream, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.client import Client, TurnView, client
from tests.gateway_process import GatewayProcess, gateway_process
from tests.upstream import Upstream

KEY = "sk-canary-5f1b"


@asynccontextmanager
async def gateway_with_upstream(
    upstream: Upstream, folder: Path, **settings: str
) -> AsyncIterator[tuple[GatewayProcess, Client]]:
    """Start a gateway whose providers are all at `upstream`, and connect a client. At the end, check law 13: no line of
    the log and no frame has a key, and no frame has the upstream's address."""
    environment = {
        "OPENAI_API_KEY": KEY,
        "ANTHROPIC_API_KEY": KEY,
        "KIMI_API_KEY": KEY,
        "GLM_API_KEY": KEY,
        "OPENAI_BASE_URL": upstream.openai_url,
        "ANTHROPIC_BASE_URL": upstream.anthropic_url,
        "KIMI_BASE_URL": upstream.openai_url,
        "GLM_BASE_URL": upstream.openai_url,
        "OLLAMA_BASE_URL": upstream.openai_url,
        "TURNWIRE_WAITING_AFTER_S": "60",  # a slow test machine must not look like a silent provider
        **settings,
    }
    async with gateway_process(folder, environment) as gateway, client(gateway.ws_url) as c:
        yield gateway, c
        everything = "".join(gateway.log) + repr(c.frames)
        assert KEY not in everything, "law 13: no key in logs or frames"
        assert upstream.url.split("//")[1] not in repr(c.frames), "law 13: no provider host in frames"


async def run_turn(c: Client, name: str, model: str, **fields: Any) -> TurnView:
    """Start a turn and wait for its end."""
    await c.request("turn.start", turn=name, input="Hello", model=model, **fields)
    await c.ending(name)
    return c.turns[name]
