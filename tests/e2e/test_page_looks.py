"""The page at a phone's, a tablet's and a wide screen's width, light and dark: what can be measured of its looks.

The pictures in tests/artifacts are for eyes: a change of the page isn't done before somebody has looked at them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.gateway_process import GatewayProcess
from tests.page_stage import Scheme, WatchedPage, browser_context, ended, open_page, said_something

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(120)]

ARTIFACTS = Path(__file__).parents[1] / "artifacts"
SIZES = {390: 844, 1024: 768, 1600: 900}

HARD = (Path(__file__).parents[1] / "page_words" / "hard_words.txt").read_text("utf-8")


@pytest.fixture(
    params=[(width, scheme) for width in SIZES for scheme in ("light", "dark")],
    ids=lambda value: f"{value[0]}-{value[1]}",
)
async def looked(request: pytest.FixtureRequest, gateway: GatewayProcess) -> AsyncIterator[Looked]:
    """The page at one width and in one scheme; at the end nothing may have gone wrong in it."""
    width, scheme = request.param
    async with browser_context(width, SIZES[width], scheme) as context:
        watched = await open_page(context, f"{gateway.url}/")
        yield Looked(watched, width, scheme)
    assert watched.errors == []


class Looked:
    """A page that is looked at."""

    def __init__(self, watched: WatchedPage, width: int, scheme: Scheme) -> None:
        self.watched = watched
        self.page = watched.page
        self.name = f"{width}-{scheme}"
        self.narrow = width < 800

    async def at(self, scene: str) -> None:
        """Takes the picture of a scene, and measures it."""
        await self.page.evaluate("probes.settled().then(() => {})")
        ARTIFACTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=ARTIFACTS / f"page-{scene}-{self.name}.png")
        found: dict[str, Any] = {
            "too faint": await self.page.evaluate("probes.tooFaint()"),
            "too wide": await self.page.evaluate("probes.tooWide()"),
            "poor controls": await self.page.evaluate("probes.poorControls()"),
            "scrolls sideways": await self.page.evaluate(
                "[document.documentElement, document.querySelector('.scroller')].some((at) => at.scrollWidth > at.clientWidth)"
            ),
        }
        assert found == {"too faint": [], "too wide": [], "poor controls": [], "scrolls sideways": False}, scene


async def test_every_scene_is_legible_and_fits(looked: Looked) -> None:
    """First sight, answers side by side, one answer, an error, hard words, the sides: legible, nothing sticks out."""
    page = looked.page
    await looked.at("first")
    await page.get_by_test_id("demo-five").click()
    turns = page.get_by_test_id("turn")
    await expect(turns).to_have_count(5)
    for number in range(5):
        await said_something(turns.nth(number))
    await page.wait_for_timeout(1500)
    await looked.at("five")
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
    await page.wait_for_timeout(300)
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
    if looked.narrow:
        await page.get_by_role("button", name="Conversations").click()
        await page.wait_for_timeout(300)
        await looked.at("conversations")


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
    await page.wait_for_timeout(1500)
    await looked.at("wire")
    await page.get_by_test_id("wire-list").press("End")
    await page.get_by_test_id("wire-detail").scroll_into_view_if_needed()
    await looked.at("wire-frame")

    await page.get_by_test_id("tab-break").click()
    await expect(page.get_by_test_id("outcome-twenty")).to_contain_text("none mixed up", timeout=30_000)
    await looked.at("break-whole")
    await page.get_by_test_id("run-offline").click()
    await expect(page.get_by_test_id("run-offline")).to_have_text("Go online")
    await looked.at("break-offline")
    await page.get_by_test_id("run-offline").click()
    await expect(page.get_by_test_id("scenario-offline")).to_have_attribute("data-state", "whole", timeout=30_000)
    await page.evaluate(
        """async () => {
          const { Turn } = await import("./static/turnwire.js");
          const { accept } = Turn.prototype;
          Turn.prototype.accept = function (event, at) {
            return accept.call(this, event.type === "turn.delta" && event.seq === 9 ? { ...event, text: "" } : event, at);
          };
        }"""
    )
    await page.get_by_test_id("run-cut").click()
    await expect(page.get_by_test_id("scenario-cut")).to_have_attribute("data-state", "broken", timeout=30_000)
    await looked.at("break-red")
