"""The bundled page in a real Chromium with a real gateway: streaming, stopping, reconnecting, reloading, failing."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import WebSocketRoute, expect

from tests.page_stage import SharedPage, WatchedPage, ended, wait_for_words

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def watched(shared_page: SharedPage) -> AsyncIterator[WatchedPage]:
    """The page, open and live. The test fails if the page logged an error."""
    async with shared_page.clean() as watched:
        yield watched


async def test_the_page_is_restored_after_a_test(shared_page: SharedPage) -> None:
    """What an answer, two answers side by side, and the settings leave behind on the page doesn't make the next test of a file
    open a new one, which takes longer than most tests."""
    async with shared_page.clean() as watched:
        await watched.choose(rate=30, tokens=20)
        for prompt in ("one", "beside it"):
            turn = await watched.ask(prompt)
        await ended(turn, "completed")
        page = watched.page
    async with shared_page.clean() as watched:
        assert watched.page is page


async def test_one_of_two_running_answers_is_stopped_and_the_other_completes(watched: WatchedPage) -> None:
    """Two answers stream side by side. Stop ends one of them at once and keeps its text; the other isn't affected."""
    await watched.choose(rate=30, tokens=100)
    kept = await watched.ask("the one that completes")
    stopped = await watched.ask("the one that is stopped")
    await wait_for_words(kept)
    await wait_for_words(stopped)
    await expect(watched.page.get_by_test_id("columns").get_by_test_id("turn")).to_have_count(2)
    await expect(watched.page.get_by_test_id("stop-all")).to_contain_text("Stop all")

    await stopped.get_by_test_id("stop").click()
    await ended(stopped, "cancelled")
    await expect(stopped.get_by_test_id("ending")).to_contain_text("stopped by you")
    await expect(kept).to_have_attribute("data-state", "streaming")
    words = await stopped.get_by_test_id("answer").inner_text()

    await ended(kept, "completed")
    await expect(kept.get_by_test_id("ending")).to_have_text("finished")
    await expect(kept.get_by_test_id("ending")).to_have_js_property("title", "")
    await expect(kept.get_by_test_id("tokens")).to_have_text("100 tokens")
    await expect(kept.get_by_test_id("first-token")).to_have_text(re.compile(r"^\d+(\.\d+)? m?s$"))
    await expect(kept.get_by_test_id("speed")).to_have_text(re.compile(r"^\d+(\.\d+)? tok/s$"))
    assert await stopped.get_by_test_id("answer").inner_text() == words


async def test_a_lost_socket_loses_no_text(watched: WatchedPage) -> None:
    """Laws 1 and 7: after a lost socket the page continues from its position and shows every word once."""
    await watched.choose(rate=40, tokens=100)
    whole = await watched.ask("the same words")
    await ended(whole, "completed")
    expected = await whole.get_by_test_id("answer").inner_text()

    await watched.page.get_by_test_id("new-conversation").click()
    again = await watched.ask("the same words")
    await wait_for_words(again)
    await watched.page.evaluate("sockets.at(-1).close()")
    before = await again.get_by_test_id("answer").inner_text()

    await ended(again, "completed")
    await watched.until_live()
    assert await watched.page.evaluate("sockets.length") == 2
    assert await again.get_by_test_id("answer").inner_text() == expected
    assert len(before) < len(expected)


async def test_a_reload_restores_the_conversation_and_continues(watched: WatchedPage) -> None:
    """Law 8: a turn outlives its page. After a reload the page shows the ended and the live turns."""
    await watched.choose(rate=40, tokens=100)
    first = await watched.ask("already said")
    await ended(first, "completed")
    answer = await first.get_by_test_id("answer").inner_text()
    await wait_for_words(await watched.ask("still talking"))

    await watched.page.reload()
    await expect(watched.turn("already said").get_by_test_id("answer")).to_have_text(re.compile(r"\S"))
    assert await watched.turn("already said").get_by_test_id("answer").inner_text() == answer
    turn = watched.turn("still talking")
    await expect(turn).to_have_attribute("data-state", "streaming")
    await ended(turn, "completed")
    await expect(turn.get_by_test_id("tokens")).to_have_text("100 tokens")


async def test_escape_stops_the_newest_answer_and_stop_all_the_others(watched: WatchedPage) -> None:
    """Five answers stream side by side. Esc stops the one that was started last, Stop all stops the others."""
    await watched.page.get_by_test_id("demo-five").click()
    turns = watched.page.get_by_test_id("columns").get_by_test_id("turn")
    await expect(turns).to_have_count(5)
    for number in range(5):
        await wait_for_words(turns.nth(number))
    await watched.page.keyboard.press("Escape")
    await ended(turns.nth(4), "cancelled")
    await expect(turns.nth(3)).to_have_attribute("data-state", "streaming")
    await watched.page.get_by_test_id("stop-all").click()
    for number in range(4):
        await ended(turns.nth(number), "cancelled")


async def test_escape_in_a_menu_stops_no_answer(watched: WatchedPage) -> None:
    """Esc closes an open menu and stops no answer. If nothing is open above the page, Esc stops the answer."""
    page = watched.page
    await watched.choose(rate=20, tokens=1000)
    turn = await watched.ask("keep talking")
    await wait_for_words(turn)
    await page.get_by_test_id("model").click()
    await expect(page.locator("#model-menu")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator("#model-menu")).to_be_hidden()
    # A stop would have taken effect long before this many more words.
    so_far = len((await turn.get_by_test_id("answer").inner_text()).split())
    await expect(turn.get_by_test_id("answer")).to_have_text(re.compile(rf"(\S+\s+){{{so_far + 15}}}"))
    await page.keyboard.press("Control+k")
    await expect(page.get_by_test_id("search")).to_be_focused()
    await expect(turn).to_have_attribute("data-state", "streaming")
    await page.keyboard.press("Escape")
    await ended(turn, "cancelled")


async def test_a_failure_shows_its_code_and_a_retry(watched: WatchedPage) -> None:
    """A failed answer shows its error code and a button for another try. The reasoning is folded."""
    await watched.choose(rate=200, tokens=50, thinking=True, fail="cut off")
    turn = await watched.ask("break off")
    await ended(turn, "failed")
    await expect(turn.get_by_test_id("error-code")).to_have_text("upstream_incomplete")
    await expect(turn.get_by_test_id("reasoning")).to_have_js_property("open", False)
    await turn.get_by_role("button", name="Try again").click()
    await expect(watched.turn("break off").get_by_test_id("version")).to_have_text("2/2")
    await ended(watched.turn("break off"), "failed")


async def test_an_unknown_conversation_shows_an_error(watched: WatchedPage) -> None:
    """The URL of an unknown conversation shows a message, and the next prompt starts a new conversation."""
    await watched.page.evaluate("location.hash = 'c_nothing'")
    await expect(watched.page.get_by_test_id("unavailable")).to_be_visible()
    await watched.choose(rate=200, tokens=5)
    await ended(await watched.ask("is anybody there"), "completed")
    await expect(watched.page.get_by_test_id("unavailable")).to_be_hidden()


def refuse_messages(route: WebSocketRoute) -> None:
    """Answer `conversation.messages` with an error, and forward all other frames to the gateway."""
    server = route.connect_to_server()

    def forward(message: str | bytes) -> None:
        frame = json.loads(message)
        if frame["type"] == "conversation.messages":
            error = {"code": "store_unavailable", "message": "The store can't be reached.", "retryable": True}
            route.send(json.dumps({"type": "error", "id": frame["id"], "error": error}))
        else:
            server.send(message)

    route.on_message(forward)


async def test_a_conversation_that_cant_be_loaded_shows_the_error(watched: WatchedPage) -> None:
    """The page shows the error and how to try again, instead of an empty conversation."""
    await watched.choose(rate=200, tokens=5)
    await ended(await watched.ask("remember this"), "completed")
    watched.is_reusable = False  # such a route can't be removed
    await watched.page.route_web_socket(re.compile("/ws"), refuse_messages)
    await watched.page.reload()
    shown = watched.page.get_by_test_id("unavailable")
    await expect(shown).to_contain_text("couldn't be loaded. The store can't be reached. Reload the page to try again.")
    await expect(watched.page.get_by_test_id("empty")).to_be_hidden()


async def test_a_url_that_cant_be_decoded_shows_an_error(watched: WatchedPage) -> None:
    """A page that is opened with an invalid URL fragment shows a message and accepts a prompt."""
    await watched.page.evaluate("location.hash = '%zz'")
    await watched.page.reload()
    await expect(watched.page.get_by_test_id("unavailable")).to_be_visible()
    await watched.choose(rate=200, tokens=5)
    await ended(await watched.ask("is anybody there"), "completed")


async def test_laws_1_and_2_a_gap_or_a_late_event_is_refused(watched: WatchedPage) -> None:
    """Laws 1 and 2: an event that doesn't continue the received ones, or follows the end event, is refused."""
    refused = await watched.page.evaluate(
        """async () => {
          const { LawViolation, Turn } = await probes.load("turnwire.js");
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
