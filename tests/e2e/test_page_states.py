"""What the page shows between first sight and an answer: waiting, retrying, tables that grow, long lists, empty results."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.e2e.test_upstreams import in_front_of
from tests.gateway_process import GatewayProcess
from tests.page_stage import WatchedPage, browser_context, ended, open_page
from tests.upstream import Upstream, chat, refusal

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(120)]

GROWN = """async (text) => {
  const { MarkdownView } = await import("./static/ui/markdown_view.js");
  const root = document.createElement("div");
  const view = new MarkdownView(root);
  const shown = new Set();
  for (let end = 1; end <= text.length; end++) {
    while (!view.update(text.slice(0, end), end < text.length)) await new Promise((resolve) => setTimeout(resolve, 2));
    shown.add(root.textContent);
    if ([...root.querySelectorAll("tr")].some((row) => row.textContent.trim() === "")) shown.add("an empty row |");
  }
  const piped = [...shown].filter((words) => words.includes("|"));
  return { piped, rows: root.querySelectorAll("tr").length, text: root.textContent };
}"""

MANY = """async (count) => {
  const { connect } = await import("./static/turnwire.js");
  const connection = connect({ storage: null });
  const { id: conversation } = await connection.createConversation();
  for (let number = 0; number < count; number++)
    await connection.start({
      conversation, input: `Question ${number}`, params: { demo: { rate: 0, text: `Answer ${number}` } },
    });
  connection.close();
  return conversation;
}"""


@pytest.fixture
async def watched(gateway: GatewayProcess) -> AsyncIterator[WatchedPage]:
    """The page, open and live; at the end nothing may have gone wrong in it."""
    async with browser_context() as context:
        watched = await open_page(context, f"{gateway.url}/")
        yield watched
    assert watched.errors == []


async def test_a_growing_table_never_shows_its_pipes(watched: WatchedPage) -> None:
    """Its first line waits for the second, which says that it is a table; what is none is shown as it is."""
    table = "Before\n\n| Name | Value |\n| --- | :-: |\n| one | 1 |\n| two | 2 |\n\nAfter"
    seen = await watched.page.evaluate(GROWN, table)
    assert (seen["piped"], seen["rows"]) == ([], 3)
    none = "| x | is what absolute means\nand no table | at all"
    assert (await watched.page.evaluate(GROWN, none))["text"] == none
    assert (await watched.page.evaluate(GROWN, "| x |"))["text"] == "| x |"


async def test_nothing_found_says_what_was_sought_and_leads_back(watched: WatchedPage) -> None:
    """An empty result names the words; one click shows all again."""
    await ended(await watched.say("Here."), "completed")
    listed = watched.page.get_by_test_id("conversation")
    await expect(listed).to_have_count(1)
    await watched.page.get_by_test_id("search").fill("no such <b>title</b>")
    chats = watched.page.get_by_test_id("conversations")
    await expect(chats).to_contain_text("No title has “no such <b>title</b>” in it.")
    await chats.get_by_role("button", name="Show all").click()
    await expect(listed).to_have_count(1)
    await expect(watched.page.get_by_test_id("search")).to_be_focused()


async def test_an_empty_conversation_keeps_its_title(watched: WatchedPage) -> None:
    """One that was named before anything was said is not taken for a new one; a title of one long word fits."""
    title = "Pneumonoultramicroscopicsilicovolcanoconiosis" * 6
    await watched.page.evaluate(
        """async (title) => {
          const { connect } = await import("./static/turnwire.js");
          const connection = connect({ storage: null });
          location.hash = (await connection.createConversation({ title })).id;
          connection.close();
        }""",
        title,
    )
    await expect(watched.page.get_by_test_id("title")).to_have_text(title)
    await expect(watched.page.get_by_test_id("title")).to_be_visible()
    assert await watched.page.evaluate("probes.tooWide()") == []


async def test_earlier_messages_come_in_above_what_is_read(watched: WatchedPage) -> None:
    """The newest messages are there at once; older ones are asked for, and what stood at the top stays there."""
    page = watched.page
    conversation = await page.evaluate(MANY, 260)
    await page.evaluate("(id) => { location.hash = id; }", conversation)
    await expect(page.get_by_text("Answer 259", exact=True)).to_be_visible(timeout=20_000)
    top = page.get_by_test_id("exchange").first
    words = await top.get_by_test_id("prompt").inner_text()
    assert words == "Question 10"
    await page.evaluate("document.querySelector('.scroller').scrollTo(0, 0)")
    question = page.get_by_test_id("prompt").get_by_text(words, exact=True)
    box = await question.bounding_box()
    await page.get_by_role("button", name="Earlier messages").click()
    await expect(page.get_by_text("Answer 0", exact=True)).to_be_attached(timeout=20_000)
    moved = await question.bounding_box()
    assert box is not None
    assert moved is not None
    assert abs(moved["y"] - box["y"]) < 100
    await expect(page.get_by_role("button", name="Earlier messages")).to_have_count(0)


async def test_a_retry_is_said_in_words_with_its_wait(tmp_path: Path) -> None:
    """`retrying` tells the attempt and counts down to it; then the answer comes, with how often was asked."""
    async with Upstream() as upstream, in_front_of(upstream, tmp_path) as (gateway, _), browser_context() as context:
        upstream.plays(refusal(429, {"error": {"message": "slow down"}}, retry_after="5"), chat("Hel", "lo"))
        watched = await open_page(context, f"{gateway.url}/")
        await watched.page.evaluate(
            """async () => {
              const { connect } = await import("./static/turnwire.js");
              window.other = connect({ storage: null });
              const { id: conversation } = await other.createConversation();
              location.hash = conversation;
              await new Promise((resolve) => setTimeout(resolve, 500));
              await other.start({ conversation, model: "openai/some-model", input: "Hi" }).accepted;
            }"""
        )
        turn = watched.page.get_by_test_id("turn")
        await expect(turn.get_by_test_id("status")).to_have_text(re.compile(r"^Trying again in \d s \(attempt 2\)$"))
        await ended(turn, "completed")
        await expect(turn.get_by_test_id("attempts")).to_have_text("2 attempts")
        assert watched.errors == []
