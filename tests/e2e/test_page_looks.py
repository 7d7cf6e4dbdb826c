"""The page at a phone's, a tablet's and a wide screen's width, light and dark: what can be measured of its looks.

Each scene is played once and looked at in every size and scheme. The pictures in tests/artifacts are for eyes: a
change of the page isn't done before somebody has looked at them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.gateway_process import GatewayProcess
from tests.page_stage import WatchedPage, ended, said_something, watched_page

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="session"),
]

ARTIFACTS = Path(__file__).parents[1] / "artifacts"
SIZES = {390: 844, 1024: 768, 1600: 900}
NARROW, WIDE = [390], [1024, 1600]

HARD = (Path(__file__).parents[1] / "page_words" / "hard_words.txt").read_text("utf-8")


class Looked:
    """A page that is looked at."""

    def __init__(self, watched: WatchedPage) -> None:
        self.watched = watched
        self.page = watched.page
        self.poor: dict[str, dict[str, Any]] = {}

    async def at(self, scene: str, widths: Iterable[int] = SIZES) -> None:
        """Takes the pictures of a scene, and measures it."""
        for width in widths:
            await self.page.set_viewport_size({"width": width, "height": SIZES[width]})
            for scheme in ("light", "dark"):
                await self.page.emulate_media(color_scheme=scheme)
                await self._measure(f"{scene}-{width}-{scheme}")

    async def _measure(self, name: str) -> None:
        await self.page.evaluate("probes.settled().then(() => {})")
        await self.page.screenshot(path=ARTIFACTS / f"page-{name}.png")
        found = await self.page.evaluate("probes.looks()")
        if any(found.values()):
            self.poor[name] = found


@pytest_asyncio.fixture(loop_scope="session")
async def looked(browser: Browser, page_gateway: GatewayProcess) -> AsyncIterator[Looked]:
    """The page in every look; at the end none of them may have been poor."""
    ARTIFACTS.mkdir(exist_ok=True)
    async with watched_page(browser, page_gateway) as watched:
        looked = Looked(watched)
        yield looked
    assert looked.poor == {}


async def five_answers(page: Page) -> Locator:
    """Five turns side by side, each of which has begun to speak."""
    await page.get_by_test_id("demo-five").click()
    turns = page.get_by_test_id("turn")
    await expect(turns).to_have_count(5)
    for number in range(5):
        await said_something(turns.nth(number))
    return turns


async def test_every_scene_is_legible_and_fits(looked: Looked) -> None:
    """First sight, answers side by side, one answer, an error, hard words, the sides: legible, nothing sticks out."""
    page = looked.page
    await looked.at("first")
    await five_answers(page)
    await looked.at("five")
    # They may have ended while they were looked at.
    await page.locator(".new-conversation:visible").first.click()
    await page.get_by_test_id("demo-five").click()
    turns = page.get_by_test_id("turn")
    await said_something(turns.nth(0))
    await page.get_by_test_id("stop-all").click()
    await ended(turns.nth(0), "cancelled")
    await looked.at("stopped")
    await page.locator(".new-conversation:visible").first.click()
    await page.get_by_test_id("demo-break").click()
    await ended(turns.nth(0), "failed")
    await looked.at("error")
    await page.locator(".new-conversation:visible").first.click()
    turn = await looked.watched.say(HARD)
    await ended(turn, "completed")
    await expect(turn.locator("[class^=hljs]").first).to_be_attached()
    await looked.at("hard")


async def test_the_sides_are_legible_and_fit(looked: Looked) -> None:
    """The list of conversations, the settings, the model menu: legible, nothing sticks out."""
    page = looked.page
    await ended(
        await looked.watched.say("A **short** answer with `code`, a [link](https://good.example/) and\n\n- a list"),
        "completed",
    )
    await looked.at("answer")
    await page.get_by_test_id("model").click()
    await looked.at("models")
    await page.keyboard.press("Escape")
    await looked.watched.settings(shown=True)
    await looked.at("settings")
    await looked.watched.settings(shown=False)
    await page.set_viewport_size({"width": 390, "height": SIZES[390]})
    await page.get_by_role("button", name="Conversations").click()
    await expect(page.get_by_test_id("search")).to_be_in_viewport()
    await looked.at("conversations", NARROW)


async def test_the_workbench_is_legible_and_fits(looked: Looked) -> None:
    """The wire view while much streams, with a frame open, and the break-it panel: whole, offline and red."""
    page = looked.page
    await page.get_by_test_id("drawer-toggle").click()
    await page.get_by_test_id("tab-wire").click()
    await expect(page.get_by_test_id("wire-count")).to_contain_text("frame")
    await looked.at("wire-empty")
    await page.get_by_test_id("tab-break").click()
    await page.get_by_test_id("run-cut").click()
    await page.get_by_test_id("run-twenty").click()
    await page.get_by_test_id("tab-wire").click()
    await expect(page.get_by_test_id("wire-turns").locator("tbody tr")).to_have_count(20)
    await expect(page.get_by_test_id("wire-count")).to_contain_text(re.compile(r"\d{3,} frames"))
    await looked.at("wire")
    await page.get_by_test_id("wire-list").press("End")
    await page.get_by_test_id("wire-detail").scroll_into_view_if_needed()
    await looked.at("wire-frame")

    await page.get_by_test_id("tab-break").click()
    await expect(page.get_by_test_id("status-twenty")).to_contain_text("none mixed up", timeout=30_000)
    await looked.at("break-whole")
    await page.get_by_test_id("run-offline").click()
    await expect(page.get_by_test_id("run-offline")).to_have_text("Go online")
    await looked.at("break-offline")
    await page.get_by_test_id("run-offline").click()
    await expect(page.get_by_test_id("scenario-offline")).to_have_attribute("data-state", "passed", timeout=30_000)
    await page.evaluate(
        """async () => {
          const { Turn } = await import("./static/turnwire.js");
          const { receive } = Turn.prototype;
          Turn.prototype.receive = function (event, at) {
            return receive.call(this, event.type === "turn.delta" && event.seq === 9 ? { ...event, text: "" } : event, at);
          };
        }"""
    )
    await page.get_by_test_id("run-cut").click()
    await expect(page.get_by_test_id("scenario-cut")).to_have_attribute("data-state", "failed", timeout=30_000)
    await looked.at("break-red")
