"""The legibility and layout of the page, light and dark, at the widths of a phone, a tablet and a wide screen.

Each scene is run once and measured in both color schemes, in every size that can show it. With `SCREENSHOTS=1` in the
environment, screenshots are written to tests/artifacts: look at them after each change to the page.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.gateway_process import GatewayProcess
from tests.page_stage import WatchedPage, ended, wait_for_words, watched_page
from tests.programs import installed

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="session"),
]

ARTIFACTS = Path(__file__).parents[1] / "artifacts"
SCREENSHOTS = os.environ.get("SCREENSHOTS") == "1"
AXE = Path(__file__).parents[1] / "axe" / "node_modules" / "axe-core" / "axe.min.js"
SIZES = {390: 844, 1024: 768, 1600: 900}
NARROW = [390]

HARD = (Path(__file__).parents[1] / "page_words" / "hard_words.txt").read_text("utf-8")


class PageLooks:
    """A page whose looks are measured. `problems` maps the name of a screenshot to the probes' findings."""

    def __init__(self, watched: WatchedPage) -> None:
        self.watched = watched
        self.page = watched.page
        self.problems: dict[str, Any] = {}

    async def capture(self, scene: str, widths: Iterable[int] = SIZES) -> None:
        """Take the screenshots of a scene and measure them."""
        for width in widths:
            await self.page.set_viewport_size({"width": width, "height": SIZES[width]})
            for scheme in ("light", "dark"):
                await self.page.emulate_media(color_scheme=scheme)
                await self._measure(f"{scene}-{width}-{scheme}")

    async def audit(self, scene: str) -> None:
        """Check the accessibility of a scene with axe."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(f"() => {{ {installed(AXE, 'axe').read_text('utf-8')} }}")
        await self.page.evaluate("probes.settled().then(() => {})")
        found = await self.page.evaluate(
            """async () => (await axe.run({ resultTypes: ["violations"] })).violations
              .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" ")}`)"""
        )
        if found:
            self.problems[f"{scene}-axe"] = found

    async def _measure(self, name: str) -> None:
        await self.page.evaluate("probes.settled().then(() => {})")
        if SCREENSHOTS:
            await self.page.screenshot(path=ARTIFACTS / f"page-{name}.png")
        found = await self.page.evaluate("probes.looks()")
        if any(found.values()):
            self.problems[name] = found


@pytest_asyncio.fixture(loop_scope="session")
async def looks(browser: Browser, page_gateway: GatewayProcess) -> AsyncIterator[PageLooks]:
    """The page, ready for `capture`. The test fails if a measurement found a problem."""
    ARTIFACTS.mkdir(exist_ok=True)
    async with watched_page(browser, page_gateway) as watched:
        looks = PageLooks(watched)
        yield looks
    assert looks.problems == {}


async def five_answers(page: Page) -> Locator:
    """Start five turns and wait until each of them has text."""
    await page.get_by_test_id("demo-five").click()
    turns = page.get_by_test_id("turn")
    await expect(turns).to_have_count(5)
    for number in range(5):
        await wait_for_words(turns.nth(number))
    return turns


COLUMN_SIZES = ((1280, 800), (1024, 768), (768, 1024), (390, 844))

SELECTED = """() => {
  const [scroller, column, composer] = [".scroller", ".column[data-selected=true]", ".composer"]
    .map((name) => document.querySelector(name).getBoundingClientRect());
  return { inView: column.top >= scroller.top && column.bottom <= composer.top && column.left >= 0 && column.right <= innerWidth,
    share: scroller.height / innerHeight };
}"""


async def check_columns(page: Page) -> None:
    """Check that the column that the conversation goes on from is in view, and that most of a low window (one at 200 %
    zoom) is for reading."""
    for width, height in COLUMN_SIZES:
        await page.set_viewport_size({"width": width, "height": height})
        await page.evaluate("probes.settled().then(() => {})")
        seen = await page.evaluate(SELECTED)
        assert seen["inView"], (width, height)
    await page.set_viewport_size({"width": 640, "height": 400})
    assert (await page.evaluate(SELECTED))["share"] >= 0.55
    await page.set_viewport_size({"width": 1280, "height": 800})


async def test_every_scene_is_legible_and_fits(looks: PageLooks) -> None:
    """The empty page, answers side by side, cancelled answers, an error and difficult text are legible, and nothing
    overflows."""
    page = looks.page
    assert await page.get_by_role("heading", level=1).count() == 1
    await looks.audit("first")
    await looks.capture("first")
    await five_answers(page)
    await looks.capture("five")
    await looks.audit("five")
    await check_columns(page)
    # The turns may have ended during the measurements.
    await page.locator(".new-conversation:visible").first.click()
    await page.get_by_test_id("demo-five").click()
    turns = page.get_by_test_id("turn")
    await wait_for_words(turns.nth(0))
    await page.get_by_test_id("stop-all").click()
    await ended(turns.nth(0), "cancelled")
    await looks.capture("stopped")
    await page.locator(".new-conversation:visible").first.click()
    await page.get_by_test_id("demo-break").click()
    await ended(turns.nth(0), "failed")
    await looks.capture("error")
    await page.locator(".new-conversation:visible").first.click()
    turn = await looks.watched.say(HARD)
    await ended(turn, "completed")
    await expect(turn.locator("[class^=hljs]").first).to_be_attached()
    await looks.capture("hard")
    await looks.audit("hard")


async def test_lists_settings_and_menus_are_legible_and_fit(looks: PageLooks) -> None:
    """An answer, the model menu, the settings and the list of conversations are legible, and nothing overflows."""
    page = looks.page
    await ended(
        await looks.watched.say("A **short** answer with `code`, a [link](https://good.example/) and\n\n- a list"),
        "completed",
    )
    await looks.capture("answer")
    await page.get_by_test_id("model").click()
    options = page.get_by_test_id("model-option")
    assert await options.locator("visible=true").count() == 1
    await expect(page.get_by_test_id("more-models")).to_have_text(f"{await options.count() - 1} more need an API key")
    await looks.capture("models")
    for key in ("ArrowDown", "ArrowRight", "ArrowDown"):
        await page.keyboard.press(key)
    await expect(options.nth(1)).to_be_focused()
    await looks.capture("more-models")
    await page.keyboard.press("ArrowLeft")
    await expect(page.get_by_test_id("more-models")).to_be_focused()
    await expect(options.nth(1)).to_be_hidden()
    await page.keyboard.press("Escape")
    await looks.watched.settings(shown=True)
    await looks.audit("settings")
    await looks.capture("settings")
    await looks.watched.settings(shown=False)
    await page.set_viewport_size({"width": 390, "height": SIZES[390]})
    await page.get_by_role("button", name="Conversations").click()
    await expect(page.get_by_test_id("search")).to_be_in_viewport()
    await looks.capture("conversations", NARROW)
    await (await page.context.new_cdp_session(page)).send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    assert await page.locator("kbd").locator("visible=true").count() == 0


async def test_the_developer_tools_are_legible_and_fit(looks: PageLooks) -> None:
    """The Wire tab (empty, during streams, with an open frame) and the Break it tab (passed, offline, failed) are
    legible, and nothing overflows."""
    page = looks.page
    await page.get_by_test_id("drawer-toggle").click()
    await page.get_by_test_id("tab-wire").click()
    await expect(page.get_by_test_id("wire-count")).to_contain_text("frame")
    await looks.capture("wire-empty")
    await page.get_by_test_id("tab-break").click()
    await page.get_by_test_id("run-cut").click()
    # Scrolled to where the first button was, a click so soon would be taken for a double click.
    await page.get_by_test_id("run-twenty").press("Enter")
    await page.get_by_test_id("tab-wire").click()
    await expect(page.get_by_test_id("wire-turns").locator("tbody tr")).to_have_count(20)
    await expect(page.get_by_test_id("wire-count")).to_contain_text(re.compile(r"\d{3,} frames"))
    await looks.capture("wire")
    await page.get_by_test_id("wire-list").press("End")
    await page.get_by_test_id("wire-detail").scroll_into_view_if_needed()
    await looks.capture("wire-frame")

    await page.get_by_test_id("tab-break").click()
    await expect(page.get_by_test_id("status-twenty")).to_contain_text("none mixed up", timeout=30_000)
    await looks.capture("break-passed")
    await page.get_by_test_id("run-offline").click()
    await expect(page.get_by_test_id("run-offline")).to_have_text("Go online")
    await looks.capture("break-offline")
    await page.get_by_test_id("run-offline").click()
    await expect(page.get_by_test_id("scenario-offline")).to_have_attribute("data-state", "passed", timeout=30_000)
    await page.evaluate(
        """async () => {
          const { Turn } = await probes.load("turnwire.js");
          const { receive } = Turn.prototype;
          Turn.prototype.receive = function (event, at) {
            return receive.call(this, event.type === "turn.delta" && event.seq === 9 ? { ...event, text: "" } : event, at);
          };
        }"""
    )
    await page.get_by_test_id("run-cut").click()
    await expect(page.get_by_test_id("scenario-cut")).to_have_attribute("data-state", "failed", timeout=30_000)
    await looks.capture("break-failed")


THIRTY = """async () => {
  const { connect } = await probes.load("turnwire.js");
  const connection = connect({ storage: null });
  const conversation = (await connection.createConversation()).id;
  const cells = (word) => `|${Array.from({ length: 14 }, (_, number) => ` ${word} ${number} `).join("|")}|`;
  const table = [cells("Column"), cells("").replace(/[^|]+/g, "---"), cells("cell")].join("\\n");
  const text = ["Words ".repeat(60), "```text", "long ".repeat(40), "```", table].join("\\n\\n").replace(/\\n\\n```/g, "\\n```");
  for (let number = 1; number <= 30; number++) {
    await connection.start({ conversation, model: "demo", input: `Prompt ${number}`, params: { demo: { rate: 0, text } } }).done;
  }
  connection.close();
  location.hash = conversation;
}"""


async def test_thirty_exchanges_are_printed_whole(looks: PageLooks) -> None:
    """On paper are all exchanges, nothing is cut at the side, and there are no buttons. Before the list of conversations,
    Tab reaches a link to the conversation."""
    page = looks.page
    await page.evaluate(THIRTY)
    await expect(page.get_by_test_id("turn")).to_have_count(30)
    await ended(page.get_by_test_id("turn").last, "completed")
    await page.locator(".sidebar button").first.focus()
    await page.keyboard.press("Shift+Tab")
    await expect(page.get_by_role("link", name="Skip to the conversation")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.querySelector('.scroller').contains(document.activeElement)")
    sheets = re.findall(rb"/Type\s*/Page\b", await page.pdf(format="A4"))
    assert len(sheets) > 5
    await page.emulate_media(media="print")
    await page.set_viewport_size({"width": 720, "height": 1000})
    printed = await page.evaluate(
        """() => {
          const cut = [...document.querySelectorAll(".message-list *:not(.visually-hidden)")].filter((node) => {
            const { overflowX, overflowY } = getComputedStyle(node);
            const hides = (overflow, content, box) => overflow !== "visible" && content > box + 1;
            return hides(overflowX, node.scrollWidth, node.clientWidth) || hides(overflowY, node.scrollHeight, node.clientHeight);
          });
          const last = [...document.querySelectorAll("[data-testid=prompt]")].at(-1);
          return {
            cut: cut.map((node) => node.className),
            wide: document.documentElement.scrollWidth > innerWidth,
            buttons: [...document.querySelectorAll("button")].filter((button) => button.checkVisibility()).length,
            last: last.getBoundingClientRect().bottom < document.documentElement.scrollHeight,
          };
        }"""
    )
    assert printed == {"cut": [], "wide": False, "buttons": 0, "last": True}
