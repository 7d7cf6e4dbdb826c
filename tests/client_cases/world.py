"""The world of the client cases: real gateways on a real Redis, relays in front of them, and a server that signs tokens."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from tests.client_cases.relay import Relay, relay
from tests.credentials import SECRET, KeyFile, bearer, token
from tests.gateway_process import GatewayProcess, gateway_process
from tests.redis_process import redis_process

ROOT = Path(__file__).parents[2]
PAGE = "<!doctype html><meta charset=utf-8><title>client</title><link rel=icon href=data:,>"
# The instances beside the defaults. A dead owner is detected after 1 s. A client of `b` that hears nothing for a few heartbeats
# opens another socket. The others keep longer times, which a busy machine doesn't exceed.
INSTANCES = {
    "a": {"TURNWIRE_LEASE_S": "5"},
    "b": {"TURNWIRE_LEASE_S": "5", "TURNWIRE_HEARTBEAT_S": "3"},
    "doomed": {"TURNWIRE_LEASE_S": "1"},
    "leaving": {"TURNWIRE_LEASE_S": "5", "TURNWIRE_DRAIN_S": "10"},
}
# A credential of 8 s is renewed after 2 s, so that a renewal has time on a busy machine. The outbox is soon full, and a client
# that doesn't read has time to read the close.
GUARDED = {
    "TURNWIRE_AUTH": "jwt,keys",
    "TURNWIRE_JWT_SECRET": SECRET,
    "TURNWIRE_JWT_LEEWAY_S": "0",
    "TURNWIRE_AUTH_WARNING_S": "6",
    "TURNWIRE_AUTH_GRACE_S": "1",
    "TURNWIRE_OUTBOX_BYTES": "65536",
    "TURNWIRE_CLOSE_TIMEOUT_S": "30",
}
LARGE_INPUT = "A long line of the history. — Eine lange Zeile. — 長い行。 " * 300
LARGE_MESSAGES = 4


class World:
    """The running gateways and the helpers of the cases. `url` serves tokens, and the files of a player in a browser."""

    def __init__(self) -> None:
        self.url = ""
        self.gateways: dict[str, GatewayProcess] = {}
        self.large = ""
        self.tokens: Counter[str] = Counter()
        self._service_key = ""
        self._http: aiohttp.ClientSession

    async def start(self, folder: Path, stack: AsyncExitStack) -> None:
        """Start everything."""
        self._http = await stack.enter_async_context(aiohttp.ClientSession())
        await self._serve_tokens(stack)
        redis = stack.enter_context(redis_process(folder / "redis"))
        keys = KeyFile(folder)
        self._service_key = keys.add_service()
        settings: dict[str, tuple[dict[str, str], str | None]] = {
            name: (environment, redis.url) for name, environment in INSTANCES.items()
        }
        settings["guarded"] = {**GUARDED, "TURNWIRE_API_KEYS": str(keys.path)}, None
        for name, (environment, store) in settings.items():
            allowed = {"TURNWIRE_ALLOWED_ORIGINS": self.url, **environment}
            running = gateway_process(folder, allowed, store=store, allow_kill=True)
            self.gateways[name] = await stack.enter_async_context(running)
        await self._write_history()

    async def _serve_tokens(self, stack: AsyncExitStack) -> None:
        app = web.Application()
        app.router.add_get("/token", self._token)
        app.router.add_get("/", self._page)
        app.router.add_static("/static", ROOT / "static")
        app.router.add_static("/tests/client_cases", ROOT / "tests" / "client_cases")
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def _token(self, request: web.Request) -> web.Response:
        query = request.query
        self.tokens[query["user"]] += 1
        if self.tokens[query["user"]] > 1:
            await asyncio.sleep(float(query.get("renewal_s", "0")))
        if query.get("service"):
            return web.Response(text=self._service_key)
        expires_at = math.ceil(time.time() + float(query.get("life_s", "3600")))
        return web.Response(text=token(query["user"], query.get("secret", SECRET), exp=expires_at))

    async def _write_history(self) -> None:
        """Write the conversation `large`, whose messages don't fit in a frame."""
        for _ in range(LARGE_MESSAGES):
            start: dict[str, Any] = {"input": LARGE_INPUT, "params": {"demo": {"rate": 0, "tokens": 3}}}
            if self.large:
                start["conversation"] = self.large
            async with self._http.post(f"{self.gateways['a'].url}/v1/turns", json=start) as answer:
                assert answer.status == 200, await answer.text()
                self.large = (await answer.json())["conversation"]

    def token_url(self, **fields: Any) -> str:
        """Return the URL that gives a new token of `user`, or a key of the service."""
        return f"{self.url}/token?{urlencode(fields)}"

    def port(self, gateway: str) -> int:
        """Return the port of a gateway."""
        return int(self.gateways[gateway].url.rpartition(":")[2])

    def relay(self, gateway: str) -> AbstractAsyncContextManager[Relay]:
        """Return a relay to a gateway, as a context."""
        return relay(self.port(gateway))

    async def get(self, gateway: str, path: str, user: str | None) -> dict[str, Any]:
        """Return the answer to a GET over HTTP, without any client library. It is sent to an instance that stays."""
        headers = bearer(token(user)) if user is not None else {}
        if gateway in INSTANCES:
            gateway = "b"
        async with self._http.get(f"{self.gateways[gateway].url}{path}", headers=headers) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def kill(self, gateway: str) -> None:
        """Kill a gateway with SIGKILL, and wait for its end."""
        self.gateways[gateway].process.kill()
        await self.gateways[gateway].wait()

    async def drain(self, gateway: str) -> None:
        """Send SIGTERM to a gateway."""
        self.gateways[gateway].terminate()


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Start a world. On exit, stop it."""
    async with AsyncExitStack() as stack:
        made = World()
        await made.start(folder, stack)
        yield made
