"""docs/troubleshooting.md: each of its problems is produced, and its command prints what the page shows."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.client import client
from tests.credentials import SECRET, bearer, token
from tests.gateway_process import clean_environment, gateway_process
from tests.nginx_process import nginx_process
from tests.ports import free_port
from tests.redis_process import redis_process
from tests.upstream import Upstream, chat, error_response

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (\d+)\. .*?```sh\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
JWT = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET}
HTTP, PROXY, REDIS = "http://127.0.0.1:8000", "https://chat.example.com", "-p 6379"
Stage = dict[str, str]
"""The environment of a command, and what replaces `HTTP`, `PROXY` and `REDIS` in it."""


@asynccontextmanager
async def plain(folder: Path) -> AsyncIterator[Stage]:
    """A gateway, with its store in the working folder of the command."""
    async with gateway_process(folder) as gateway:
        yield {HTTP: gateway.url}


@asynccontextmanager
async def proxy_without_upgrade(folder: Path) -> AsyncIterator[Stage]:
    """nginx in front of a gateway, without the settings that WebSockets need."""
    port = free_port()
    async with gateway_process(folder, {"TURNWIRE_INSECURE": "1"}) as gateway:
        server = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {gateway.url}; }} }}"
        async with nginx_process(folder, port, server):
            yield {PROXY: f"http://127.0.0.1:{port}"}


@asynccontextmanager
async def expired(folder: Path) -> AsyncIterator[Stage]:
    """A token that expired 100 s ago."""
    async with gateway_process(folder, JWT) as gateway:
        now = int(time.time())
        yield {HTTP: gateway.url, "TOKEN": token(iat=now - 3700, exp=now - 100)}


@asynccontextmanager
async def slow_client(folder: Path) -> AsyncIterator[Stage]:
    """A client that reads nothing and was closed."""
    environment = {"TURNWIRE_OUTBOX_BYTES": "65536", "TURNWIRE_METRICS": "public"}
    async with (
        gateway_process(folder, environment) as gateway,
        httpx2.AsyncClient(base_url=gateway.url) as http,
        client(gateway.ws_url, max_queue=1, read=False) as c,
    ):
        demo = {"text": "x" * 1000, "tokens": 400_000, "rate": 0}
        await c.send("turn.start", turn="t", input="Hi", params={"demo": demo})
        async with asyncio.timeout(60):
            while 'connections_closed_total{code="4501"} 1.0' not in (await http.get("/metrics")).text:
                await asyncio.sleep(0.1)
        yield {HTTP: gateway.url}


@asynccontextmanager
async def draining(folder: Path) -> AsyncIterator[Stage]:
    """A gateway that drains."""
    async with gateway_process(folder) as gateway, httpx2.AsyncClient() as http:
        assert (await http.post(f"{gateway.url}/v1/admin/drain")).status_code == 202
        yield {HTTP: gateway.url}


@asynccontextmanager
async def slow_provider(_folder: Path) -> AsyncIterator[Stage]:
    """A provider that takes 4 s for its first token."""
    async with Upstream() as upstream:
        upstream.play(chat("ready", usage={"prompt_tokens": 14, "completion_tokens": 1}).replace(delay_s=4.0))
        yield {"KIMI_API_KEY": "sk-x", "KIMI_BASE_URL": upstream.openai_url}


@asynccontextmanager
async def refusing_provider(_folder: Path) -> AsyncIterator[Stage]:
    """A provider that refuses the key."""
    async with Upstream() as upstream:
        refusal = {"error": {"message": "Invalid Authentication", "type": "invalid_authentication_error"}}
        upstream.play(error_response(401, refusal))
        yield {"KIMI_API_KEY": "sk-x", "KIMI_BASE_URL": upstream.openai_url}


@asynccontextmanager
async def full_redis(folder: Path) -> AsyncIterator[Stage]:
    """A Redis that is full while the gateway runs."""
    with redis_process(folder / "redis") as redis:
        async with (
            gateway_process(folder, store=redis.url) as gateway,
            httpx2.AsyncClient(base_url=gateway.url) as http,
        ):
            redis.execute("CONFIG", "SET", "maxmemory", "1mb")
            async with asyncio.timeout(30):
                while "degraded" not in (await http.get("/ready")).text:
                    refused = await http.post("/v1/turns", json={"input": "Hi"})
                    assert refused.json()["error"]["code"] == "store_unavailable"
            yield {HTTP: gateway.url, REDIS: f"-p {redis.port}"}


@asynccontextmanager
async def crowded_address(folder: Path) -> AsyncIterator[Stage]:
    """An address that has as many connections as its limit allows."""
    async with (
        gateway_process(folder, {**JWT, "TURNWIRE_ADDRESS_CONNECTIONS": "2"}) as gateway,
        client(gateway.ws_url, additional_headers=bearer(token("ann"))),
        client(gateway.ws_url, additional_headers=bearer(token("ann"))),
    ):
        yield {HTTP: gateway.url, "TOKEN": token("bob")}


@asynccontextmanager
async def nothing(_folder: Path) -> AsyncIterator[Stage]:
    """No gateway."""
    yield {}


STAGES: dict[str, Callable[[Path], AbstractAsyncContextManager[Stage]]] = {
    "1": proxy_without_upgrade,
    "2": plain,
    "3": plain,
    "4": expired,
    "5": slow_client,
    "6": draining,
    "7": slow_provider,
    "8": full_redis,
    "9": refusing_provider,
    "10": crowded_address,
    "11": plain,
    "12": nothing,
}


async def output_of(command: str, stage: Stage, folder: Path) -> str:
    """Run a command of the page in `folder`, with this checkout's `turnwire`, and return what it printed."""
    variables = {name: value for name, value in stage.items() if name not in {HTTP, PROXY, REDIS}}
    environment = clean_environment({"PYTHONPATH": str(ROOT), **variables})
    for shown in (HTTP, PROXY, REDIS):
        command = command.replace(shown, stage.get(shown, shown))
    script = f'turnwire() {{ {sys.executable} -m gateway "$@"; }}\n{command}'
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", script),
        env=environment,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return printed.decode()


def without_numbers(text: str) -> str:
    """Return `text` without what may differ: numbers, carriage returns, and blanks at its beginning and end."""
    return re.sub(r"(?<![a-z_-])\d[\d.]*(?![a-z]{2})", "N", text.replace("\r", "")).strip()


def test_every_symptom_has_a_command_and_its_output() -> None:
    """The page has twelve sections, each with one command and one output."""
    assert [number for number, _, _ in SECTIONS] == list(STAGES) == re.findall(r"^## (\d+)\.", PAGE, re.MULTILINE)
    assert len(SECTIONS) == 12


@pytest.mark.parametrize(("number", "command", "shown"), SECTIONS, ids=[section[0] for section in SECTIONS])
async def test_the_command_tells_the_cause(tmp_path: Path, number: str, command: str, shown: str) -> None:
    """The command prints what the page shows, except for numbers."""
    async with STAGES[number](tmp_path) as stage, asyncio.timeout(90):
        assert without_numbers(await output_of(command, stage, tmp_path)) == without_numbers(shown)
