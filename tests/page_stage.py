"""The bundled page in a real Chromium, with the actions of the browser tests."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Browser, BrowserContext, Locator, Page, ViewportSize, async_playwright, expect

from tests.gateway_process import GatewayProcess
from tests.programs import installed, program

log = logging.getLogger(__name__)

CHROMIUM = os.environ.get("CHROMIUM")
CHROMIUMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Names of the browser's program. The first one has no desktop user interface, and takes two thirds of the time."""
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
ENDING_MS = 30_000
# The page is ready at once on an idle machine, and may take long on a busy one.
expect.set_options(timeout=20_000)

Scheme = Literal["light", "dark"]
Motion = Literal["reduce", "no-preference"]

PROBES = Path(__file__).with_name("page_probes.js")

OTHER_DEVICE = """async ([text, demo]) => {
  const { connect } = await probes.load("turnwire.js");
  window.other ??= connect({ storage: null });
  const shown = location.hash.slice(1);
  const conversation = shown || (await other.createConversation()).id;
  if (!shown) location.hash = conversation;
  const turn = other.start({ conversation, model: "demo", input: "Say it", params: { demo: { rate: 0, text, ...demo } } });
  await turn.accepted;
}"""

WHILE_BUSY = """try {
  if (!localStorage.getItem("turnwire.prefs")) localStorage.setItem("turnwire.prefs", '[["on-busy", "parallel"]]');
} catch {
  // A page without storage.
}"""

FORGET_ALL = """async () => {
  const { connect } = await probes.load("turnwire.js");
  const connection = connect({ storage: null });
  await connection.request("turn.cancel", { mine: true });
  const all = await connection.conversations().all();
  await Promise.all(all.map(({ id }) => connection.conversation(id).delete()));
  connection.close();
}"""


class WatchedPage:
    """An open page and the errors that it has logged to the console."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.is_reusable = True
        """Whether the next test of the file may use the page too. A test that changes the page for good says no."""
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def exchange(self, prompt: str) -> Locator:
        """Return the exchange (prompt and answers) with this prompt."""
        asked = self.page.get_by_test_id("prompt").get_by_text(prompt, exact=True)
        return self.page.get_by_test_id("exchange").filter(has=asked)

    def turn(self, prompt: str) -> Locator:
        """Return the answer to this prompt."""
        return self.exchange(prompt).get_by_test_id("turn")

    async def choose(self, *, rate: int, tokens: int, thinking: bool = False, fail: str = "never") -> None:
        """Set the demo model's options."""
        await self.settings(shown=True)
        form = self.page.get_by_test_id("settings")
        await form.get_by_role("slider", name="Speed").fill(str(rate))
        await form.get_by_role("slider", name="Length").fill(str(tokens))
        await form.get_by_role("checkbox", name="Thinking").set_checked(thinking)
        await form.get_by_role("combobox", name="Fail").select_option(label=fail)
        await self.settings(shown=False)

    async def settings(self, *, shown: bool) -> None:
        """Open or close the drawer with the settings."""
        drawer = self.page.get_by_test_id("drawer")
        if await drawer.is_visible() != shown:
            toggle = self.page.get_by_test_id("drawer-toggle")
            await (toggle if shown else drawer.get_by_role("button", name="Close")).click()
        if shown:
            await self.page.get_by_test_id("tab-settings").click()

    async def ask(self, prompt: str) -> Locator:
        """Send a prompt with the keyboard and return its answer."""
        box = self.page.get_by_test_id("prompt-box")
        await box.fill(prompt)
        await box.press("Enter")
        turn = self.turn(prompt)
        await expect(turn.first).to_be_visible()  # a tool call may already have been answered with a second turn
        return turn

    async def say(self, text: str, **demo: Any) -> Locator:
        """Run a demo turn that answers with this text, as another device would, and return its answer.

        The turn is in the shown conversation, or in a new one if none is shown.
        """
        number = await self.page.get_by_test_id("turn").count()
        await self.page.evaluate(OTHER_DEVICE, [text, demo])
        turn = self.page.get_by_test_id("turn").nth(number)
        await expect(turn).to_be_visible()
        return turn

    async def until_live(self) -> None:
        """Wait until the connection is live."""
        await expect(self.page.get_by_test_id("connection")).to_have_attribute("data-state", "live")


Prepare = Callable[[WatchedPage], Awaitable[None]]


async def wait_for_words(turn: Locator) -> None:
    """Wait until an answer has at least two words."""
    await expect(turn.get_by_test_id("answer")).to_have_text(re.compile(r"\S+\s+\S+"))


async def ended(turn: Locator, state: str) -> None:
    """Wait until the answer has this final state."""
    await expect(turn).to_have_attribute("data-state", state, timeout=ENDING_MS)


def chromium() -> Path:
    """Return the path of the browser. The environment variable CHROMIUM can set another one."""
    if CHROMIUM:
        return installed(Path(CHROMIUM), f"Chromium ({CHROMIUM})")
    return program(next((name for name in CHROMIUMS if shutil.which(name)), CHROMIUMS[0]))


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Run a Chromium."""
    executable = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def browser_context(
    browser: Browser,
    width: int = 1280,
    height: int = 800,
    motion: Motion = "reduce",
    service_workers: Literal["allow", "block"] = "block",
    *,
    asks: bool = False,
) -> AsyncIterator[BrowserContext]:
    """Open a new browser profile, so that tests don't share stored data.

    By default animations are off, because they cost much CPU time on a machine without a graphics card. A prompt that is
    sent while an answer streams starts beside it; with `asks`, the page asks what it is to do, as it does by default.
    """
    viewport = ViewportSize(width=width, height=height)
    context = await browser.new_context(
        viewport=viewport, color_scheme="light", reduced_motion=motion, service_workers=service_workers
    )
    await context.add_init_script(path=PROBES)
    if not asks:
        await context.add_init_script(WHILE_BUSY)
    yield context
    await context.close()


async def open_page(context: BrowserContext, url: str) -> WatchedPage:
    """Open the page and wait until it is live."""
    watched = WatchedPage(await context.new_page())
    await watched.page.goto(url)
    await watched.until_live()
    return watched


@asynccontextmanager
async def watched_page(
    browser: Browser,
    gateway: GatewayProcess,
    width: int = 1280,
    height: int = 800,
    motion: Motion = "reduce",
    *,
    asks: bool = False,
) -> AsyncIterator[WatchedPage]:
    """Open the page and wait until it is live. On exit, delete the gateway's conversations and check that the page
    logged no error."""
    async with browser_context(browser, width, height, motion, asks=asks) as context:
        watched = await open_page(context, f"{gateway.url}/")
        yield watched
        await watched.page.evaluate(FORGET_ALL)
    assert watched.errors == []


class ReloadedPage:
    """One tab for the tests of a file that change the page too much for a `SharedPage`. Each test finds the page loaded anew,
    without stored data and other tabs. This takes half of the time of a new tab."""

    def __init__(self, browser: Browser, gateway: GatewayProcess) -> None:
        self._browser = browser
        self._gateway = gateway
        self._stack = AsyncExitStack()
        self._page: Page | None = None

    async def close(self) -> None:
        """Close the tab, so that the next test opens a new one."""
        self._page = None
        await self._stack.aclose()

    @asynccontextmanager
    async def loaded(self, url: str | None = None) -> AsyncIterator[WatchedPage]:
        """Load the page, by default from the gateway itself, and return it. After a test that fails, the next one gets a new
        tab in a new browser context."""
        url = url or f"{self._gateway.url}/"
        if self._page is None:
            context = await self._stack.enter_async_context(browser_context(self._browser))
            self._page = await context.new_page()
        page = self._page
        try:
            for other in page.context.pages:
                if other is not page:
                    await other.close()
            await page.goto(f"{url}health")  # of the same origin; the page before it can store nothing more
            await page.evaluate("localStorage.clear(), sessionStorage.clear()")
            watched = WatchedPage(page)
            await page.goto(url)
            yield watched
        except BaseException:
            await self.close()
            raise


class SharedPage:
    """One page for the tests of a file, as opening it takes longer than most of them.

    After each test the page is brought back to the state of before. If that doesn't work, the next test opens a new page
    in a new browser context.
    """

    def __init__(self, browser: Browser, gateway: GatewayProcess, prepare: Prepare | None = None) -> None:
        self._browser = browser
        self._gateway = gateway
        self._prepare = prepare
        self._stack = AsyncExitStack()
        self._watched: WatchedPage | None = None
        self._state: Any = None

    async def close(self) -> None:
        """Close the page, so that the next test opens a new one."""
        self._watched = None
        await self._stack.aclose()

    @asynccontextmanager
    async def clean(self) -> AsyncIterator[WatchedPage]:
        """Return the page, live and without conversations. On exit, delete those of the test and check that the page logged
        no error."""
        watched = self._watched or await self._open()
        try:
            yield watched
            await watched.page.evaluate(FORGET_ALL)
            assert watched.errors == []
            await watched.page.unroute_all()
            different = await watched.page.evaluate("(state) => probes.restore(state)", self._state)
            if different or not watched.is_reusable:
                log.info("The next test opens a new page. What couldn't be restored: %s", different)
                await self.close()
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> WatchedPage:
        context = await self._stack.enter_async_context(browser_context(self._browser))
        watched = self._watched = await open_page(context, f"{self._gateway.url}/")
        if self._prepare is not None:
            await self._prepare(watched)
        await expect(watched.page.get_by_test_id("conversations")).not_to_be_empty()
        self._state = await watched.page.evaluate("probes.state()")
        return watched
