"""Helpers for tests of authentication: settings, instances, openings and requests with a credential."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from tests.client import Client, RequestFailed
from tests.credentials import (
    SECRET,
    bearer,
)
from tests.demo import expected
from tests.gateway_process import GatewayProcess, gateway_process
from tests.redis_process import redis_process

LONG = {"demo": {"rate": 10, "tokens": 1000}}
PAGE = Origin("https://app.example")
JWT = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET, "TURNWIRE_ALLOWED_ORIGINS": PAGE}
PROMISED_S = 5
"""The time in which a change of the key file, and a revocation, take effect on every instance."""


@asynccontextmanager
async def redis_pair(folder: Path, environment: dict[str, str]) -> AsyncIterator[list[GatewayProcess]]:
    """Start two instances on one Redis."""
    with redis_process(folder) as redis:
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(gateway_process(folder, environment, store=redis.url)) for _ in range(2)
            ]


@asynccontextmanager
async def two_instances(folder: Path, environment: dict[str, str], store: str) -> AsyncIterator[list[GatewayProcess]]:
    """Start two instances that share a Redis. SQLite allows only one instance, which is then in the list twice."""
    async with AsyncExitStack() as stack:
        if store == "redis":
            yield await stack.enter_async_context(redis_pair(folder, environment))
        else:
            yield [await stack.enter_async_context(gateway_process(folder, environment))] * 2


both_stores = pytest.mark.parametrize("store", ["sqlite", "redis"])


async def post(url: str, path: str, credential: str, body: Any = None) -> httpx2.Response:
    """Send one POST request with a credential."""
    async with httpx2.AsyncClient() as http:
        return await http.post(url + path, headers=bearer(credential), json=body)


async def ticket(url: str, credential: str) -> str:
    """Return a ticket for a credential."""
    answer = await post(url, "/v1/tickets", credential)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["ticket"])


async def status_of(url: str, **options: Any) -> int:
    """Return the HTTP status with which the opening is refused, or 101 if it is accepted."""
    try:
        async with connect(url, **options):
            return 101
    except InvalidStatus as refused:
        body = refused.response.body or b""
        assert json.loads(body)["error"]["message"]
        return refused.response.status_code


async def refusal_code(waiting: Any) -> str:
    """Return the code with which a request is refused."""
    with pytest.raises(RequestFailed) as refused:
        await waiting
    return refused.value.code


async def run_turn(c: Client, turn: str = "t") -> None:
    """Run one turn from its start to its end event."""
    await c.request("turn.start", turn=turn, input="Hello")
    await c.ending(turn)
    assert c.turns[turn].text() == expected("Hello", {})


async def outcome(c: Client, kind: str, fields: dict[str, Any]) -> Any:
    """Return the result or the error of a request."""
    try:
        return await c.request(kind, **fields)
    except RequestFailed as refused:
        return refused.error
