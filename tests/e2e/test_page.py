"""The bundled page in a real Chromium against a real gateway: stream, stop, reconnect, hostile output."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
from playwright.async_api import Locator, Page, async_playwright, expect

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
ENDING_MS = 30_000

# Keeps the page's sockets, so that a test can cut one, and turns what the page may not load into an error.
WATCH_PAGE = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) { super(...given); window.sockets.push(this); }
};
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`blocked by the policy: ${event.violatedDirective} ${event.blockedURI}`);
});
"""


class Gateway(Protocol):
    """What the `gateway` fixture gives: a running process and where it listens."""

    @property
    def url(self) -> str: ...


class WatchedPage:
    """The open page and everything that a browser's console would show in red."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def card(self, prompt: str) -> Locator:
        """The card of the turn with this prompt."""
        asked = self.page.get_by_test_id("prompt").get_by_text(prompt, exact=True)
        return self.page.get_by_test_id("turn").filter(has=asked)

    async def choose(self, *, rate: int, tokens: int, thinking: bool = False, fail: str = "never") -> None:
        """Sets the demo model's options."""
        toggle = self.page.get_by_test_id("demo-options")
        if await toggle.get_attribute("aria-expanded") == "false":
            await toggle.click()
        await self.page.get_by_label("Speed").fill(str(rate))
        await self.page.get_by_label("Length").fill(str(tokens))
        await self.page.get_by_label("Thinking").set_checked(thinking)
        await self.page.get_by_label("Fail").select_option(label=fail)

    async def ask(self, prompt: str) -> Locator:
        """Sends a prompt with the keyboard and gives its card."""
        box = self.page.get_by_role("textbox", name="Prompt")
        await box.fill(prompt)
        await box.press("Enter")
        card = self.card(prompt)
        await expect(card).to_be_visible()
        return card

    async def is_live(self) -> None:
        """Waits for the socket to be ready."""
        await expect(self.page.get_by_test_id("connection")).to_have_attribute("data-state", "live")


async def said_something(card: Locator) -> None:
    """Waits until a card's answer has some words."""
    await expect(card.get_by_test_id("answer")).to_have_text(re.compile(r"\S+\s+\S+"))


async def ended(card: Locator, state: str) -> None:
    """Waits for a card's ending."""
    await expect(card).to_have_attribute("data-state", state, timeout=ENDING_MS)


@pytest.fixture(scope="module")
def chromium() -> Path:
    """The browser; where there is none, CI fails and a person's run skips."""
    if not CHROMIUM.exists():
        missing = f"no Chromium at {CHROMIUM}: install it, or name another by the variable CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return CHROMIUM


@pytest.fixture
async def watched(gateway: Gateway, chromium: Path) -> AsyncIterator[WatchedPage]:
    """The page, open and live, in a browser of its own; at the end nothing may have gone wrong in it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        page = await browser.new_page()
        await page.add_init_script(WATCH_PAGE)
        watched = WatchedPage(page)
        await page.goto(f"{gateway.url}/")
        await watched.is_live()
        yield watched
        await browser.close()
    assert watched.errors == []


async def test_one_of_two_running_answers_is_stopped_and_the_other_completes(watched: WatchedPage) -> None:
    """Two answers stream side by side; Stop ends one at once with its words kept, the other is untouched."""
    await watched.choose(rate=30, tokens=100)
    kept = await watched.ask("the one that completes")
    stopped = await watched.ask("the one that is stopped")
    await said_something(kept)
    await said_something(stopped)
    await expect(watched.page.get_by_test_id("stop-all")).to_contain_text("Stop all")

    await stopped.get_by_test_id("stop").click()
    await ended(stopped, "cancelled")
    await expect(stopped.get_by_test_id("ending")).to_contain_text("stopped by you")
    await expect(kept).to_have_attribute("data-state", "streaming")
    words = await stopped.get_by_test_id("answer").inner_text()

    await ended(kept, "completed")
    await expect(kept.get_by_test_id("ending")).to_contain_text("finished · 100 tokens")
    await expect(kept.get_by_test_id("first-token")).to_have_text(re.compile(r"^\d+(\.\d+)? m?s$"))
    await expect(kept.get_by_test_id("speed")).to_have_text(re.compile(r"^\d+(\.\d+)? tok/s$"))
    assert await stopped.get_by_test_id("answer").inner_text() == words


async def test_a_cut_socket_costs_the_running_answer_nothing(watched: WatchedPage) -> None:
    """After a lost socket the page goes on from its position and shows every word once (laws 1 and 7)."""
    await watched.choose(rate=40, tokens=100)
    await ended(await watched.ask("the same words"), "completed")

    await watched.page.get_by_test_id("new-conversation").click()
    await watched.page.get_by_role("textbox", name="Prompt").fill("the same words")
    await watched.page.get_by_role("textbox", name="Prompt").press("Enter")
    whole, again = (watched.card("the same words").nth(number) for number in range(2))
    await said_something(again)
    await watched.page.evaluate("sockets.at(-1).close()")
    before = await again.get_by_test_id("answer").inner_text()

    await ended(again, "completed")
    await watched.is_live()
    assert await watched.page.evaluate("sockets.length") == 2
    answers = [await card.get_by_test_id("answer").inner_text() for card in (whole, again)]
    assert answers[1] == answers[0]
    assert len(before) < len(answers[0])


async def test_a_reload_goes_on_with_the_running_answer(watched: WatchedPage) -> None:
    """A turn outlives its page (law 8): after a reload its card is back and streams to the end."""
    await watched.choose(rate=40, tokens=100)
    await said_something(await watched.ask("still talking"))
    await watched.page.reload()
    card = watched.card("still talking")
    await ended(card, "completed")
    await expect(card.get_by_test_id("ending")).to_contain_text("finished · 100 tokens")


async def test_escape_stops_the_newest_answer_and_stop_all_the_rest(watched: WatchedPage) -> None:
    """Five at once share a row; Esc stops the one that was started last, Stop all every other."""
    await watched.choose(rate=5, tokens=500)
    await watched.page.get_by_test_id("run-five").click()
    cards = watched.page.get_by_test_id("turn")
    await expect(cards).to_have_count(5)
    for number in range(5):
        await said_something(cards.nth(number))
    await watched.page.keyboard.press("Escape")
    await ended(cards.nth(4), "cancelled")
    await expect(cards.nth(3)).to_have_attribute("data-state", "streaming")
    await watched.page.get_by_test_id("stop-all").click()
    for number in range(4):
        await ended(cards.nth(number), "cancelled")


async def test_a_failure_shows_its_code_and_what_to_do(watched: WatchedPage) -> None:
    """What was said before a failure stays; its code and another try are offered; thoughts are folded."""
    await watched.choose(rate=200, tokens=50, thinking=True, fail="cut off")
    card = await watched.ask("break off")
    await ended(card, "failed")
    await expect(card.get_by_test_id("error-code")).to_have_text("upstream_incomplete")
    await expect(card.get_by_test_id("reasoning")).to_have_js_property("open", False)
    await card.get_by_role("button", name="Try again").click()
    await expect(watched.card("break off")).to_have_count(2)
    await ended(watched.card("break off").nth(1), "failed")


async def test_hostile_output_stays_text(watched: WatchedPage) -> None:
    """Markup in an answer makes no element, and only https and mailto become links."""
    hostile = "<img src=x onerror=alert(1)> [a](javascript:alert(1)) [b](https://b.example/) [c](data:text/html,c)"
    seen = await watched.page.evaluate(
        """async (text) => {
          const { MarkdownView } = await import("./static/markdown_view.js");
          const root = document.createElement("div");
          new MarkdownView(root).update(text, false);
          const links = [...root.querySelectorAll("a")].map((link) => `${link.href} ${link.rel}`);
          return { text: root.textContent, links, images: root.querySelectorAll("img, script").length };
        }""",
        hostile,
    )
    assert seen["images"] == 0
    assert seen["links"] == ["https://b.example/ noopener noreferrer nofollow"]
    assert seen["text"] == "<img src=x onerror=alert(1)> a b c"


async def test_an_answer_that_grows_looks_like_one_that_came_whole(watched: WatchedPage) -> None:
    """Markdown drawn piece by piece gives the same nodes as at once; finished blocks stay untouched."""
    text = (
        "# Title\n\nSome **bold** and *soft* `code`.\n\n1. one\n\n2. two\n   - deep\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n```py\nx = 1\n```\n> said\n\n---\nThe end, at https://b.example/c.\n"
    )
    same, kept = await watched.page.evaluate(
        """async (text) => {
          const { MarkdownView } = await import("./static/markdown_view.js");
          const [whole, grown] = [document.createElement("div"), document.createElement("div")];
          new MarkdownView(whole).update(text, false);
          const view = new MarkdownView(grown);
          let title;
          for (let end = 1; end <= text.length; end++) {
            view.update(text.slice(0, end), end < text.length);
            if (end === 30) title = grown.firstChild;
          }
          return [whole.isEqualNode(grown) && whole.childElementCount > 6, title === grown.firstChild];
        }""",
        text,
    )
    assert same
    assert kept


async def test_a_hole_in_the_events_is_never_passed_over(watched: WatchedPage) -> None:
    """An event that doesn't continue what is held, or follows the ending, is refused (laws 1 and 2)."""
    refused = await watched.page.evaluate(
        """async () => {
          const { LawViolation, Turn } = await import("./static/turnwire.js");
          const begin = { type: "turn.started", turn: "t", seq: 1, epoch: 7, status: "running" };
          const part = { type: "turn.part", turn: "t", seq: 2, part: 0, kind: "text" };
          const merged = { type: "turn.delta", turn: "t", seq: 5, after: 2, part: 0, text: "abc" };
          const end = { type: "turn.completed", turn: "t", seq: 6, finish_reason: "stop" };
          const late = { ...end, seq: 7 };
          const broken = [[begin, end], [begin, part, merged, merged], [begin, part, merged, end, late]];
          const violates = (events) => {
            const turn = new Turn("t", async () => {});
            for (const event of events.slice(0, -1)) turn.accept(event);
            try {
              turn.accept(events.at(-1));
              return false;
            } catch (error) {
              return error instanceof LawViolation;
            }
          };
          return [violates([begin, part, merged, end]), ...broken.map(violates)];
        }"""
    )
    assert refused == [False, True, True, True]
