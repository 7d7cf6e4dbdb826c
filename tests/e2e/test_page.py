"""The bundled page in a real Chromium against a real gateway: stream, stop, reconnect, reload, fail."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.gateway_process import GatewayProcess
from tests.page_stage import WatchedPage, ended, said_something, watched_page

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def watched(browser: Browser, page_gateway: GatewayProcess) -> AsyncIterator[WatchedPage]:
    """The page, open and live; at the end nothing may have gone wrong in it."""
    async with watched_page(browser, page_gateway) as watched:
        yield watched


async def test_one_of_two_running_answers_is_stopped_and_the_other_completes(watched: WatchedPage) -> None:
    """Two answers stream side by side; Stop ends one at once with its words kept, the other is untouched."""
    await watched.choose(rate=30, tokens=100)
    kept = await watched.ask("the one that completes")
    stopped = await watched.ask("the one that is stopped")
    await said_something(kept)
    await said_something(stopped)
    await expect(watched.page.get_by_test_id("columns").get_by_test_id("turn")).to_have_count(2)
    await expect(watched.page.get_by_test_id("stop-all")).to_contain_text("Stop all")

    await stopped.get_by_test_id("stop").click()
    await ended(stopped, "cancelled")
    await expect(stopped.get_by_test_id("ending")).to_contain_text("stopped by you")
    await expect(kept).to_have_attribute("data-state", "streaming")
    words = await stopped.get_by_test_id("answer").inner_text()

    await ended(kept, "completed")
    await expect(kept.get_by_test_id("ending")).to_have_text("finished")
    await expect(kept.get_by_test_id("tokens")).to_have_text("100 tokens")
    await expect(kept.get_by_test_id("first-token")).to_have_text(re.compile(r"^\d+(\.\d+)? m?s$"))
    await expect(kept.get_by_test_id("speed")).to_have_text(re.compile(r"^\d+(\.\d+)? tok/s$"))
    assert await stopped.get_by_test_id("answer").inner_text() == words


async def test_a_cut_socket_costs_the_running_answer_nothing(watched: WatchedPage) -> None:
    """After a lost socket the page goes on from its position and shows every word once (laws 1 and 7)."""
    await watched.choose(rate=40, tokens=100)
    whole = await watched.ask("the same words")
    await ended(whole, "completed")
    expected = await whole.get_by_test_id("answer").inner_text()

    await watched.page.get_by_test_id("new-conversation").click()
    again = await watched.ask("the same words")
    await said_something(again)
    await watched.page.evaluate("sockets.at(-1).close()")
    before = await again.get_by_test_id("answer").inner_text()

    await ended(again, "completed")
    await watched.is_live()
    assert await watched.page.evaluate("sockets.length") == 2
    assert await again.get_by_test_id("answer").inner_text() == expected
    assert len(before) < len(expected)


async def test_a_reload_keeps_everything_and_goes_on(watched: WatchedPage) -> None:
    """A turn outlives its page (law 8): after a reload the conversation is back, what ended and what streams."""
    await watched.choose(rate=40, tokens=100)
    first = await watched.ask("already said")
    await ended(first, "completed")
    said = await first.get_by_test_id("answer").inner_text()
    await said_something(await watched.ask("still talking"))

    await watched.page.reload()
    await expect(watched.turn("already said").get_by_test_id("answer")).to_have_text(re.compile(r"\S"))
    assert await watched.turn("already said").get_by_test_id("answer").inner_text() == said
    turn = watched.turn("still talking")
    await expect(turn).to_have_attribute("data-state", "streaming")
    await ended(turn, "completed")
    await expect(turn.get_by_test_id("tokens")).to_have_text("100 tokens")


async def test_escape_stops_the_newest_answer_and_stop_all_the_rest(watched: WatchedPage) -> None:
    """Five at once stand side by side; Esc stops the one that was started last, Stop all every other."""
    await watched.page.get_by_test_id("demo-five").click()
    turns = watched.page.get_by_test_id("columns").get_by_test_id("turn")
    await expect(turns).to_have_count(5)
    for number in range(5):
        await said_something(turns.nth(number))
    await watched.page.keyboard.press("Escape")
    await ended(turns.nth(4), "cancelled")
    await expect(turns.nth(3)).to_have_attribute("data-state", "streaming")
    await watched.page.get_by_test_id("stop-all").click()
    for number in range(4):
        await ended(turns.nth(number), "cancelled")


async def test_escape_stops_nothing_where_it_closes_a_menu(watched: WatchedPage) -> None:
    """Esc closes the open menu and leaves the answer alone; where nothing lies over the page, one Esc stops it."""
    page = watched.page
    await watched.choose(rate=20, tokens=1000)
    turn = await watched.ask("keep talking")
    await said_something(turn)
    await page.get_by_test_id("model").click()
    await expect(page.locator("#model-menu")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator("#model-menu")).to_be_hidden()
    # A stop would be over long before so much more is said.
    so_far = len((await turn.get_by_test_id("answer").inner_text()).split())
    await expect(turn.get_by_test_id("answer")).to_have_text(re.compile(rf"(\S+\s+){{{so_far + 15}}}"))
    await page.keyboard.press("Control+k")
    await expect(page.get_by_test_id("search")).to_be_focused()
    await expect(turn).to_have_attribute("data-state", "streaming")
    await page.keyboard.press("Escape")
    await ended(turn, "cancelled")


async def test_a_failure_shows_its_code_and_what_to_do(watched: WatchedPage) -> None:
    """What was said before a failure stays; its code and another try are offered; thoughts are folded."""
    await watched.choose(rate=200, tokens=50, thinking=True, fail="cut off")
    turn = await watched.ask("break off")
    await ended(turn, "failed")
    await expect(turn.get_by_test_id("error-code")).to_have_text("upstream_incomplete")
    await expect(turn.get_by_test_id("reasoning")).to_have_js_property("open", False)
    await turn.get_by_role("button", name="Try again").click()
    await expect(watched.turn("break off").get_by_test_id("version")).to_have_text("2/2")
    await ended(watched.turn("break off"), "failed")


async def test_a_conversation_that_is_not_there_is_said_so(watched: WatchedPage) -> None:
    """An address of nothing shows a sentence, and writing goes on in a new conversation."""
    await watched.page.evaluate("location.hash = 'c_nothing'")
    await expect(watched.page.get_by_test_id("not-found")).to_be_visible()
    await watched.choose(rate=200, tokens=5)
    await ended(await watched.ask("is anybody there"), "completed")
    await expect(watched.page.get_by_test_id("not-found")).to_be_hidden()


async def test_an_address_that_cannot_be_decoded_names_no_conversation(watched: WatchedPage) -> None:
    """A page that is opened with it says so, and can be written on."""
    await watched.page.evaluate("location.hash = '%zz'")
    await watched.page.reload()
    await expect(watched.page.get_by_test_id("not-found")).to_be_visible()
    await watched.choose(rate=200, tokens=5)
    await ended(await watched.ask("is anybody there"), "completed")


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
            for (const event of events.slice(0, -1)) turn.receive(event);
            try {
              turn.receive(events.at(-1));
              return false;
            } catch (error) {
              return error instanceof LawViolation;
            }
          };
          return [violates([begin, part, merged, end]), ...broken.map(violates)];
        }"""
    )
    assert refused == [False, True, True, True]
