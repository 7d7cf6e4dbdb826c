"""The README's Python, curl and HTML examples, and the demo model's curl command, run as they are printed."""

from __future__ import annotations

import asyncio
import re
import sys
import time
import tomllib
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, expect

from tests.fault_proxy import fault_proxy
from tests.gateway_process import GatewayProcess, gateway_process
from tests.page_stage import WatchedPage, browser_context
from tests.programs import program

pytestmark = pytest.mark.e2e

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
CONNECT = """async (url) => {
  const { connect } = await import("/static/turnwire.js");
  globalThis.connection = connect({ url, storage: null });
}"""
"""Connects the client, which the page's own server has, to the gateway at `url`."""
DEMO = PROJECT / "providers" / "demo" / "demo.toml"


async def pasted(gateway: GatewayProcess, *command: str) -> str:
    """Run a command of the README with this gateway's address, and return its output."""
    command = tuple(part.replace("http://127.0.0.1:8000", gateway.url) for part in command)
    command = tuple(part.replace("ws://127.0.0.1:8000/ws", gateway.ws_url) for part in command)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    output, errors = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_the_examples_work(gateway: GatewayProcess) -> None:
    """The Python example streams an answer. Then, with the same gateway, curl streams a turn, resumes its stream, and
    gets `already_ended` for the cancel."""
    (python,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert "that is the only notification you need" in (await pasted(gateway, sys.executable, "-c", python)).lower()
    program("curl")
    start, more = re.findall(r"```sh\n(curl .*?)```", README, re.DOTALL)
    streamed = await pasted(gateway, "sh", "-ec", start)
    kinds = re.findall(r"^event: (.*)$", streamed, re.MULTILINE)
    shown = re.findall(r"^event: (.*)$", README, re.MULTILINE)
    assert kinds == shown
    ids = re.findall(r"^id: (\d+)-", streamed, re.MULTILINE)
    resumed = await pasted(gateway, "sh", "-ec", re.sub(r"\d+(?=-3')", ids[0], more))
    assert re.findall(r"^event: (.*)$", resumed, re.MULTILINE) == shown[3:]
    assert resumed.endswith('{"turns":{"t1":"already_ended"}}')


async def test_the_demo_models_command_works(gateway: GatewayProcess) -> None:
    """The curl command in an answer of the demo model streams an answer."""
    program("curl")
    themes = tomllib.loads(DEMO.read_text(encoding="utf-8"))["themes"]
    (command,) = re.findall(r"```sh\n(.*?)```", "".join(theme["text"] for theme in themes), re.DOTALL)
    streamed = await pasted(gateway, "sh", "-ec", command.replace("localhost:8000", gateway.url))
    assert "event: turn.completed" in streamed


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_the_page_of_another_origin_works(browser: Browser, tmp_path: Path) -> None:
    """The README's page, served from an origin that the gateway allows, imports the client and streams an answer.

    The loss of its network is heard at once. A page of an origin that isn't allowed is told so, and what to set: its turn
    fails instead of waiting for ever."""
    (page,) = re.findall(r"```html\n(.*?)```", README, re.DOTALL)
    shown = ""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text=shown, content_type="text/html")

    app = web.Application()
    app.router.add_get("/hello.html", hello)
    app.router.add_static("/static", PROJECT / "static")
    async with TestServer(app, host="127.0.0.1") as server, browser_context(browser) as context:
        origin = str(server.make_url("/")).rstrip("/")
        async with gateway_process(tmp_path, {"TURNWIRE_ALLOWED_ORIGINS": origin}) as gateway:
            shown = page.replace("http://127.0.0.1:8000", gateway.url).replace("ws://127.0.0.1:8000/ws", gateway.ws_url)
            watched = WatchedPage(await context.new_page())
            await watched.page.goto(f"{origin}/hello.html")
            await expect(watched.page.locator("body")).to_contain_text(
                "that is the only notification you need", ignore_case=True
            )
            assert watched.errors == []
            async with fault_proxy(int(gateway.url.rpartition(":")[2])) as proxy:
                await watched.page.evaluate(CONNECT, f"ws://127.0.0.1:{proxy.port}/ws")
                await watched.page.wait_for_function("connection.state.state === 'live'")
                proxy.hang()  # nothing arrives any more, and no socket is closed
                await context.set_offline(True)
                assert await watched.page.evaluate("connection.state.suspect || connection.state.state === 'waiting'")
                await watched.page.wait_for_function("connection.state.state === 'waiting'", timeout=3000)
                proxy.restore()
                await context.set_offline(False)
                await watched.page.wait_for_function("connection.state.state === 'live' && !connection.state.suspect")
                await watched.page.evaluate("connection.close()")
            await watched.page.goto(f"{origin.replace('127.0.0.1', 'localhost')}/static/vendor/LICENSE-marked.txt")
            await watched.page.evaluate(CONNECT, gateway.ws_url)
            began = time.monotonic()
            failed = await watched.page.evaluate("connection.start({ input: 'x' }).done.catch(({ code }) => code)")
            assert (failed, time.monotonic() - began < 5) == ("forbidden_origin", True)
            assert await watched.page.evaluate("connection.state.state") == "closed"
            said = [error for error in watched.errors if "TURNWIRE_ALLOWED_ORIGINS" in error]
            assert len(said) == 1, watched.errors
            assert origin.replace("127.0.0.1", "localhost") in said[0]
