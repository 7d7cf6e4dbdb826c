"""A page with the AI SDK's `useChat` in Chromium, on two instances behind one address: what is left when something fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.client_stage import ResettingProxy
from tests.demo import expected
from tests.http_events import http_client
from tests.page_stage import browser_context
from tests.programs import installed, program
from tests.upstream import chat
from tests.web_server import page_server
from tests.world import World, world

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
]

CLIENTS = Path(__file__).parents[2] / "dialect_clients"
WORDS = [f"w{n} " for n in range(90)]
TEXT = "".join(WORDS).strip()
CALL = {
    "tool_calls": [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    ]
}
Transport = Literal["http", "socket"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page's program, bundled with the packages that it imports."""
    installed(CLIENTS / "node_modules" / ".package-lock.json", "the packages of tests/dialect_clients")
    out = tmp_path_factory.mktemp("page") / "page.js"
    options = ("--bundle", "--format=esm", "--jsx=automatic", '--define:process.env.NODE_ENV="production"')
    process = await asyncio.create_subprocess_exec(
        *(program("node"), CLIENTS / "node_modules" / "esbuild" / "bin" / "esbuild", CLIENTS / "ai_sdk_page.jsx"),
        *(*options, "--log-level=warning", f"--outfile={out}"),
    )
    assert await process.wait() == 0
    return out.read_text()


class Site:
    """The address of a page, and two instances behind another address."""

    def __init__(self, page: str, w: World, proxy: ResettingProxy, gateways: str) -> None:
        self.page = page
        self.world = w
        self.proxy = proxy
        self.gateways = gateways

    def lead_to(self, instance: int) -> None:
        """Lead new connections to an instance."""
        self.proxy.target = int(self.world.instances[instance].url.rpartition(":")[2])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(script: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    async with page_server(script) as page, world(folder, TURNWIRE_ALLOWED_ORIGINS=page) as w:
        proxy = ResettingProxy(0)
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        async with server:
            made = Site(page, w, proxy, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            made.lead_to(0)
            yield made
            proxy.cut_all()


@asynccontextmanager
async def opened(browser: Browser, site: Site, name: str, transport: Transport) -> AsyncIterator[Page]:
    """Open the page in a browser of its own."""
    async with browser_context(browser) as context:
        page = await context.new_page()
        await page.goto(f"{site.page}/?api={site.gateways}&chat={name}&transport={transport}")
        await expect(page.locator("output")).to_have_text("ready")
        yield page


async def send(page: Page, text: str, button: str = "Send") -> None:
    await page.locator("input").fill(text)
    await page.get_by_role("button", name=button).click()


def last(page: Page) -> Locator:
    """Return the text of the last message."""
    return page.locator("article").last.locator("[data-kind=text]").last


async def texts(page: Page) -> list[str]:
    """Return what the page shows of each message."""
    return [text.strip() for text in await page.locator("article").all_text_contents()]


def context_of(site: Site) -> list[dict[str, Any]]:
    """Return the messages that the provider was sent last."""
    found: list[dict[str, Any]] = site.world.upstream.requests[-1].body["messages"]
    return found


@pytest.mark.parametrize("transport", ["http", "socket"])
async def test_a_reload_in_the_middle_of_an_answer(browser: Browser, site: Site, transport: Transport) -> None:
    """The page is loaded again, twice, and the answer continues. The provider is asked once."""
    site.world.upstream.play(chat(*WORDS).replace(rate=30))
    before = len(site.world.upstream.requests)
    async with opened(browser, site, f"reload-{transport}", transport) as page:
        await send(page, "Count")
        for words in ("w3", "w12"):
            await expect(last(page)).to_contain_text(words)
            await page.reload()
        await expect(last(page)).to_have_text(TEXT)
        await expect(page.locator("output")).to_have_text("ready")
        assert await texts(page) == ["Count", TEXT]
        await page.reload()
        await expect(last(page)).to_have_text(TEXT)
    assert len(site.world.upstream.requests) == before + 1


@pytest.mark.parametrize("transport", ["http", "socket"])
async def test_a_stop_from_a_second_tab(browser: Browser, site: Site, transport: Transport) -> None:
    """A second tab shows the same answer, and stops it in both. The provider's stream is closed."""
    site.world.upstream.play(chat(*[f"w{n} " for n in range(5000)]).replace(rate=60))
    name = f"stop-{transport}"
    async with (
        opened(browser, site, name, transport) as page,
        opened(browser, site, name, transport) as other,
    ):
        await send(page, "Count")
        await expect(last(page)).to_contain_text("w3")
        await other.reload()
        await expect(last(other)).to_contain_text("w5")
        await other.get_by_role("button", name="Stop").click()
        for tab in (page, other):
            await expect(tab.locator("output")).to_have_text("ready")
        assert await texts(page) == await texts(other)
        async with asyncio.timeout(20):
            await site.world.upstream.requests[-1].disconnected.wait()


@pytest.mark.parametrize("transport", ["http", "socket"])
async def test_edit_regenerate_and_a_tool(browser: Browser, site: Site, transport: Transport) -> None:
    """The provider gets the context that the page shows."""
    upstream = site.world.upstream
    async with opened(browser, site, f"edit-{transport}", transport) as page:

        async def answered(text: str) -> list[tuple[str, Any]]:
            await expect(last(page)).to_have_text(text)
            await expect(page.locator("output")).to_have_text("ready")
            return [(message["role"], message.get("content")) for message in context_of(site)]

        upstream.play(chat("One."), chat("Two."), chat("Two again."), chat("Edited."))
        await send(page, "First")
        assert await answered("One.") == [("user", "First")]
        await send(page, "Second")
        assert await answered("Two.") == [("user", "First"), ("assistant", "One."), ("user", "Second")]
        await page.get_by_role("button", name="Regenerate").click()
        assert await answered("Two again.") == [("user", "First"), ("assistant", "One."), ("user", "Second")]
        await send(page, "First, edited", "Edit")
        assert await answered("Edited.") == [("user", "First, edited")]
        assert await texts(page) == ["First, edited", "Edited."]

        upstream.play(chat(CALL, finish="tool_calls"), chat("It is 3."))
        await send(page, "Add 1 and 2")
        await page.get_by_role("button", name="Add").click()
        assert (await answered("It is 3."))[-2:] == [("assistant", None), ("tool", '{"sum":3}')]
        await page.reload()
        assert await answered("It is 3.")
        assert (await texts(page))[2:] == ["Add 1 and 2", '{"a":1,"b":2}{"sum":3}It is 3.']


@pytest.mark.parametrize("ends", ["killed", "drained"])
@pytest.mark.parametrize("transport", ["http", "socket"])
async def test_the_end_of_the_instance(browser: Browser, site: Site, transport: Transport, ends: str) -> None:
    """The instance behind the page dies or is deployed in the middle of an answer. Another one continues it, and so does
    the page."""
    w = site.world
    gone = await w.add()
    number = len(w.instances) - 1
    site.lead_to(number)
    async with opened(browser, site, f"{ends}-{transport}", transport) as page:
        await page.evaluate("window.model = 'demo'")
        await send(page, "Hello")
        await expect(page.locator("article[data-role=assistant] [data-kind=text]")).not_to_be_empty()
        message = await page.locator("article").last.get_attribute("id")
        site.lead_to(0)
        if ends == "killed":
            w.kill(number)
        else:
            gone.terminate()
            w.hidden.add(number)
        async with http_client(site.gateways) as http:
            running = (await http.get(f"/v1/turns/{message}")).json()
            await expect(page.locator("output")).to_have_text("ready", timeout=60_000)
            shown = (await texts(page))[-1]
            stored = (await http.get(f"/api/chat/{ends}-{transport}/messages")).json()["messages"][-1]
            view = (await http.get(f"/v1/turns/{stored['id']}")).json()
        assert shown == stored["parts"][-1]["text"].strip() == expected("Hello", {}).strip()
        assert (running["status"], view["status"]) == ("running", "completed")
        assert stored["id"] == message
