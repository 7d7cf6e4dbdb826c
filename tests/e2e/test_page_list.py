"""The page's list of conversations: it follows other pages, has groups, selects several, exports, and opens what a search
finds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.page_stage import SharedPage, WatchedPage, ended

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

AFTER_PRESS_MS = 650
"""After a press, the page ignores another one at the same place for a little less, as it may be a double click."""

# Conversations of another page of the user, with one answer each, the last one first in the list.
SEED = """async ([titles, text]) => {
  const { connect } = await probes.load("turnwire.js");
  window.other ??= connect({ storage: null });
  const ids = [];
  for (const title of titles) {
    const { id } = await other.createConversation({ title });
    await other.start({ conversation: id, model: "demo", input: `About ${title}`, params: { demo: { rate: 0, text } } }).done;
    ids.push(id);
  }
  return ids;
}"""


# Empty conversations.
MANY = """async (count) => {
  for (let number = 0; number < count; number++) await other.createConversation({ title: `Number ${number}` });
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def watched(shared_page: SharedPage) -> AsyncIterator[WatchedPage]:
    """The page, open and live. The test fails if the page logged an error or its policy blocked something."""
    async with shared_page.clean() as watched:
        yield watched


async def menu(page: Page, title: str, item: str) -> None:
    """Choose an item of a row's menu."""
    row = page.get_by_test_id("conversation").filter(has_text=title)
    await row.hover()
    await row.get_by_role("button", name="More").click()
    await page.get_by_role("menuitem", name=item).click()


async def test_the_list_follows_changes_from_elsewhere(watched: WatchedPage) -> None:
    """What another page starts, renames, pins and deletes is shown at once. The focus and a title that is being changed
    stay."""
    page = watched.page
    items = page.get_by_test_id("conversation")
    bread, rivers = await page.evaluate(SEED, [["bread", "rivers"], "Words."])
    await expect(items).to_have_text(["rivers", "bread"])
    await items.nth(1).hover()
    await items.nth(1).get_by_role("button", name="Rename").press("Enter")
    title = page.get_by_role("textbox", name="Title")
    await title.fill("half a title")
    [lakes] = await page.evaluate(SEED, [["lakes"], "Words."])
    await page.evaluate("(id) => other.conversation(id).update({ title: 'wide rivers' })", rivers)
    await expect(items.nth(0)).to_have_text("wide rivers")
    await expect(items.nth(1)).to_have_text("lakes")
    await page.evaluate("(id) => other.conversation(id).update({ pinned: true })", bread)
    await expect(page.get_by_test_id("group")).to_have_text(["Pinned", "Today"])
    await expect(title).to_be_focused()
    assert await title.input_value() == "half a title"
    await page.keyboard.press("Escape")
    await expect(items).to_have_text(["bread", "wide rivers", "lakes"])
    await page.evaluate("(id) => other.conversation(id).delete()", lakes)
    await expect(items).to_have_text(["bread", "wide rivers"])
    await page.evaluate(MANY, 70)
    await expect(items).to_have_count(72)
    await menu(page, "wide rivers", "Pin")
    await expect(page.get_by_test_id("group")).to_have_text(["Pinned", "Today"])
    await expect(items.nth(0)).to_have_text("wide rivers")
    assert await items.count() == 72, "more than a page stays, too"


async def test_several_are_pinned_selected_and_deleted(watched: WatchedPage) -> None:
    """A row's menu, which its button opens and closes, pins a conversation. Several are selected, also as a range, and
    deleted after one question."""
    page = watched.page
    items = page.get_by_test_id("conversation")
    await page.evaluate(SEED, [["one", "two", "three", "four", "five"], "Words."])
    await expect(items).to_have_text(["five", "four", "three", "two", "one"])
    await items.first.hover()
    more = items.first.get_by_role("button", name="More")
    for shown in (1, 0):
        await more.click()
        await expect(page.get_by_test_id("row-menu")).to_have_count(shown)
    await menu(page, "two", "Pin")
    await expect(items).to_have_text(["two", "five", "four", "three", "one"])
    await menu(page, "five", "Select several")
    await expect(page.get_by_test_id("select-bar")).to_contain_text("1 selected")
    await page.wait_for_timeout(AFTER_PRESS_MS)
    await items.nth(3).get_by_role("link").click(modifiers=["Shift"])
    await expect(page.get_by_test_id("select-bar")).to_contain_text("3 selected")
    assert await page.evaluate("location.hash") == ""
    await page.get_by_test_id("delete-selected").click()
    await expect(page.get_by_test_id("select-bar")).to_contain_text("Delete 3 conversations?")
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("select-bar")).to_contain_text("3 selected")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("select-bar")).to_contain_text("Delete 3 conversations?")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Shift+Tab")
    await expect(page.get_by_test_id("confirm-delete-selected")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(items).to_have_text(["two", "one"])
    await expect(page.get_by_test_id("select-bar")).to_have_count(0)


async def test_a_conversation_is_exported(watched: WatchedPage, tmp_path: Path) -> None:
    """Markdown has what is shown: of two answers, the one that was chosen. JSON has the whole tree."""
    page = watched.page
    await ended(await watched.say("The **first** answer.", rate=0), "completed")
    exchange = page.get_by_test_id("exchange")
    await page.evaluate(
        """async () => {
          const id = location.hash.slice(1);
          const { messages } = await other.request("conversation.messages", { conversation: id });
          const params = { demo: { rate: 0, text: "The second answer." } };
          await other.start({ conversation: id, parent: messages[0].id, model: "demo", params }).done;
        }"""
    )
    await expect(exchange).to_contain_text("The second answer.")
    assert await exchange.locator("time").count() == 2
    await exchange.get_by_role("button", name="Previous answer").click()
    await expect(exchange).to_contain_text("The first answer.")
    exported = {}
    for name in ("Markdown", "JSON"):
        async with page.expect_download() as download:
            await menu(page, "Say it", f"Export as {name}")
        file = await download.value
        assert file.suggested_filename == ("Say it.md" if name == "Markdown" else "Say it.json")
        await file.save_as(tmp_path / name)
        exported[name] = (tmp_path / name).read_text("utf-8")
    assert "# Say it\n" in exported["Markdown"]
    assert "The **first** answer." in exported["Markdown"]
    assert "second" not in exported["Markdown"]
    whole = json.loads(exported["JSON"])
    assert (len(whole["messages"]), whole["complete"], whole["conversation"]["title"]) == (3, True, "Say it")


async def test_a_found_message_is_shown_and_marked(watched: WatchedPage) -> None:
    """A result of the search opens at its message, though it is far above the end, and its words are marked. Reading it
    doesn't change the conversation's place in the list."""
    page = watched.page
    [needles] = await page.evaluate(
        SEED, [["needles"], "chaff " * 600 + "\n\nThe hidden **needle** is here.\n\n" + "straw " * 2000]
    )
    revision = "async (id) => (await other.conversation(id).get()).revision"
    before = await page.evaluate(revision, needles)
    await page.get_by_test_id("search").fill("hidden needle")
    await expect(page.get_by_test_id("snippet")).to_be_visible()
    await page.get_by_test_id("conversation").get_by_role("link").click()
    found = page.get_by_test_id("answer").get_by_text("The hidden")
    await expect(found).to_be_in_viewport()
    await expect(page.locator("strong")).to_have_text("needle")
    marked = "[...(CSS.highlights.get('found') ?? [])].map((range) => range.toString()).sort()"
    await page.wait_for_function(f"{marked}.length > 0")
    assert await page.evaluate(marked) == ["hidden", "needle"]
    assert await page.evaluate(revision, needles) == before
    await page.get_by_test_id("search").press("Escape")
