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

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="session"),
]

ARTIFACTS = Path(__file__).parents[1] / "artifacts"
SCREENSHOTS = os.environ.get("SCREENSHOTS") == "1"
SIZES = {390: 844, 1024: 768, 1600: 900}
NARROW = [390]

HARD = (Path(__file__).parents[1] / "page_words" / "hard_words.txt").read_text("utf-8")


class PageLooks:
    """A page whose looks are measured. `problems` maps the name of a screenshot to the probes' findings."""

    def __init__(self, watched: WatchedPage) -> None:
        self.watched = watched
        self.page = watched.page
        self.problems: dict[str, dict[str, Any]] = {}

    async def capture(self, scene: str, widths: Iterable[int] = SIZES) -> None:
        """Take the screenshots of a scene and measure them."""
        for width in widths:
            await self.page.set_viewport_size({"width": width, "height": SIZES[width]})
            for scheme in ("light", "dark"):
                await self.page.emulate_media(color_scheme=scheme)
                await self._measure(f"{scene}-{width}-{scheme}")

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


async def test_every_scene_is_legible_and_fits(looks: PageLooks) -> None:
    """The empty page, answers side by side, cancelled answers, an error and difficult text are legible, and nothing
    overflows."""
    page = looks.page
    await looks.capture("first")
    await five_answers(page)
    await looks.capture("five")
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


async def test_lists_settings_and_menus_are_legible_and_fit(looks: PageLooks) -> None:
    """An answer, the model menu, the settings and the list of conversations are legible, and nothing overflows."""
    page = looks.page
    await ended(
        await looks.watched.say("A **short** answer with `code`, a [link](https://good.example/) and\n\n- a list"),
        "completed",
    )
    await looks.capture("answer")
    await page.get_by_test_id("model").click()
    await looks.capture("models")
    await page.keyboard.press("Escape")
    await looks.watched.settings(shown=True)
    await looks.capture("settings")
    await looks.watched.settings(shown=False)
    await page.set_viewport_size({"width": 390, "height": SIZES[390]})
    await page.get_by_role("button", name="Conversations").click()
    await expect(page.get_by_test_id("search")).to_be_in_viewport()
    await looks.capture("conversations", NARROW)


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
    await page.get_by_test_id("run-twenty").click()
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
